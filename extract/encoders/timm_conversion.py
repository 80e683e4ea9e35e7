"""timm's conversions of weights in other published names: OpenAI's CLIP, DINOv2, ConvNeXt, DeiT and more."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tier4k.extract.weights.state_dicts import StateDict

NAMES = ("checkpoint_filter_fn", "_filter_fn", "pretrained_filter_fn")  # of the functions in timm's modules

# Steps in the history of a tensor that compute it from several others: interpolation to another grid.
RESAMPLING = re.compile("Upsample|GridSampler|M[mv]Backward|BmmBackward|IndexBackward")

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Converted:
    """A state dict in timm's names.

    Attributes:
        state: The tensors in timm's names.
        resampled: Tensors that the conversion has interpolated to another grid.
        unused: Tensors of the file that the conversion left out.
    """

    state: StateDict
    resampled: tuple[str, ...]
    unused: tuple[str, ...]


def conversions(
    model: nn.Module,
    architecture: str,
    state: StateDict,
) -> Iterator[Converted]:
    """Convert a state dict, then each large group of its names with one beginning, by timm's own function.

    Args:
        model: The network.
        architecture: timm's name of the network.
        state: A state dict of a file.

    Returns:
        The conversions that the function accepts.
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
    """Return timm's conversion: of the module with the architecture's name, or of that with its class."""
    entry = timm.models.model_entrypoint(architecture.partition(".")[0])
    for module in (entry.__module__, type(model).__module__):
        for name in NAMES:
            function: Any = getattr(sys.modules[module], name, None)
            if function is None:
                continue
            parameters = signature(function).parameters
            if "adapt_layer_scale" in parameters:  # the names of DeiT III
                function = partial(function, adapt_layer_scale=True)
            return partial(function, model=model) if "model" in parameters else function
    return None


def _large_groups(state: StateDict, size: int) -> list[str]:
    """Return the first parts of names that at least `size` names share."""
    counts: dict[str, int] = {}
    for name in state.tensors:
        first, dot, _ = name.partition(".")
        counts[first + dot] = counts.get(first + dot, 0) + 1
    return [prefix for prefix, count in counts.items() if prefix.endswith(".") and count >= max(size, 1)]


@torch.enable_grad()  # torch then keeps the history of each tensor
def _converted(convert: Convert, state: StateDict) -> Converted | None:
    leaves: dict[str, Tensor] = {}
    for name, tensor in state.tensors.items():
        leaves[name] = tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the steps of an interpolation, which is refused
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
    """Return the identities of the tensors that a tensor was made of, and the names of the steps."""
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
