"""timm's conversions of weights in other published names: OpenAI's CLIP, DINOv2, ConvNeXt, DeiT and more."""

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tier4k.extract.weights.state_dicts import StateDict

# Names of conversions in timm's modules.
FUNCTION_NAMES = ("checkpoint_filter_fn", "_filter_fn", "pretrained_filter_fn")

# Names of autograd's steps that interpolate a tensor to another grid.
RESAMPLING = re.compile("Upsample|GridSampler|M[mv]Backward|BmmBackward|IndexBackward")

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Converted:
    """A state dict in timm's names.

    Attributes:
        state: The tensors in timm's names.
        resampled: Names of the tensors that the conversion interpolated to another grid.
        unused: Names of the file's tensors that the conversion left out.
    """

    state: StateDict
    resampled: tuple[str, ...]
    unused: tuple[str, ...]


def conversions(
    model: nn.Module,
    architecture: str,
    state: StateDict,
) -> Iterator[Converted]:
    """Convert a state dict, and each large group of its tensors with one prefix, by timm's own function.

    Args:
        model: The network.
        architecture: timm's name of the network.
        state: A state dict of a file.

    Yields:
        The results. State dicts that the function refuses are skipped.
    """
    convert = _conversion(model, architecture)
    if convert is None:
        return
    half = len(model.state_dict()) // 2
    for prefix in ("", *_large_groups(state, half)):
        converted = _converted(convert, state.under(prefix))
        if converted is not None:
            yield converted


def _conversion(model: nn.Module, architecture: str) -> Convert | None:
    """Return timm's conversion in the module of the architecture's function, or else of the network's class.

    None if neither module has one.
    """
    entry = timm.models.model_entrypoint(architecture.partition(".")[0])
    for module in (entry.__module__, type(model).__module__):
        for name in FUNCTION_NAMES:
            function: Any = getattr(sys.modules[module], name, None)
            if function is None:
                continue
            parameters = signature(function).parameters
            if "adapt_layer_scale" in parameters:  # the names of DeiT III
                function = partial(function, adapt_layer_scale=True)
            return partial(function, model=model) if "model" in parameters else function
    return None


def _large_groups(state: StateDict, size: int) -> list[str]:
    """Return the prefixes, up to the first dot, that at least `size` names have."""
    counts: Counter[str] = Counter()
    for name in state.tensors:
        first, dot, _ = name.partition(".")
        if dot:
            counts[f"{first}."] += 1
    return [prefix for prefix, count in counts.items() if count >= size]


@torch.enable_grad()  # autograd then records the steps from the file's tensors to the converted ones
def _converted(convert: Convert, state: StateDict) -> Converted | None:
    """Convert a state dict; None if the function refuses it."""
    leaves: dict[str, Tensor] = {}
    for name, tensor in state.tensors.items():
        leaves[name] = tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of interpolations, which are refused later
            tensors = convert(dict(leaves))
    except Exception:  # on names of another network, conversions raise errors of any class
        return None
    if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        return None
    used: set[int] = set()
    resampled: list[str] = []
    for name, tensor in tensors.items():
        used.add(id(tensor))
        sources, steps = _history(tensor)
        used |= sources
        if any(RESAMPLING.search(step) for step in steps):
            resampled.append(name)
    unused = tuple(name for name, leaf in leaves.items() if id(leaf) not in used)
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    return Converted(StateDict(state.place, plain), tuple(resampled), unused)


def _history(tensor: Tensor) -> tuple[set[int], set[str]]:
    """Return the ids of the tensors that a tensor was computed from, and the names of autograd's steps."""
    sources: set[int] = set()
    steps: dict[Any, str] = {}
    waiting = [tensor.grad_fn]
    while waiting:
        step: Any = waiting.pop()
        if step is None or step in steps:
            continue
        steps[step] = step.name()
        if hasattr(step, "variable"):
            sources.add(id(step.variable))
        waiting.extend(before for before, _ in step.next_functions)
    return sources, set(steps.values())
