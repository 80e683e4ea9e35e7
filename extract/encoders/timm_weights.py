"""Loading of weights into networks of timm."""

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tier4k.extract.encoders.timm_conversion import Converted, conversions
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.weights.checkpoints import (
    read_state_dict,
    read_state_dicts,
    require_finite,
    require_fit,
)
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.state_dicts import StateDict, choose

Tensors = Mapping[str, Tensor]


def load_timm_weights(
    model: nn.Module,
    architecture: str,
    weights: Path,
    by_order: bool = False,
) -> tuple[str, ...]:
    """Load weights into a network of timm; every tensor must fit.

    A checkpoint may hold several state dicts, and the network's tensors under a prefix of their names. Names
    of the published code are converted by timm's own function.

    Args:
        model: The network.
        architecture: timm's name of the network.
        weights: A .safetensors or PyTorch file, or an index, or for vision transformers Google's .npz file.
        by_order: Whether the file has other names in the same order, with the tensors of the classifier last.

    Returns:
        What the user should know: which of several weights are used, which tensors are left out.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, NaN or infinite.
    """
    notes: tuple[str, ...] = ()
    if weights.suffix == ".npz":
        _load_npz(model, weights)
    elif by_order:
        tensors = dict(zip(model.state_dict(), read_state_dict(weights).values(), strict=False))
        _load(model, architecture, tensors, weights)
    else:
        state, notes = _find(model, architecture, weights)
        _load(model, architecture, state.tensors, weights)
    require_finite(model.state_dict(), weights)
    return notes


def _find(
    model: nn.Module,
    architecture: str,
    path: Path,
) -> tuple[StateDict, tuple[str, ...]]:
    """Return the network's tensors in a checkpoint, and notes; if it has none, the most similar tensors."""
    states = read_state_dicts(path)
    expected = model.state_dict()
    complete = _complete(states, expected)
    if complete:
        choice = choose(complete, path)
        return choice.state, (*choice.notes, *_left_out(states, complete, choice.state, path))
    fitting: list[Converted] = []
    for state in states:
        accepted = conversions(model, architecture, state)
        fitting.extend(list(islice((one for one in accepted if _fits(one.state.tensors, expected)), 1)))
    if exact := [one for one in fitting if not one.resampled]:
        choice = choose([one.state for one in exact], path)
        (used,) = [one for one in exact if one.state is choice.state]
        return choice.state, (*choice.notes, *_not_converted(used, path))
    nearest = _most_similar(states, expected)
    if fitting and not _has_names(nearest.tensors, expected):
        raise WeightsError(_resampled(fitting[0], path))
    return nearest, ()


def _complete(states: Sequence[StateDict], expected: Tensors) -> list[StateDict]:
    """Return the state dicts, without a prefix of their names, that have every tensor of the network."""
    complete: list[StateDict] = []
    for state in states:
        for prefix in _prefixes(state, expected):
            inside = state.under(prefix)
            if _fits(inside.tensors, expected):
                complete.append(inside)
    return complete


def _prefixes(state: StateDict, expected: Tensors) -> list[str]:
    """Return what stands before names of the network, the most frequent first."""
    counts: Counter[str] = Counter()
    for name in state.tensors:
        prefix = ""
        while True:
            if name.removeprefix(prefix) in expected:
                counts[prefix] += 1
            dot = name.find(".", len(prefix))
            if dot < 0:
                break
            prefix = name[: dot + 1]
    return [prefix for prefix, _ in counts.most_common()]


def _has_names(tensors: Tensors, expected: Tensors) -> bool:
    return all(name in tensors or _is_counter(name) for name in expected)


def _fits(tensors: Tensors, expected: Tensors) -> bool:
    if not _has_names(tensors, expected):
        return False
    return all(tensors[name].shape == tensor.shape for name, tensor in expected.items() if name in tensors)


def _is_counter(name: str) -> bool:
    """Return whether a tensor may be missing.

    Files older than PyTorch 0.4.1, such as torchvision's first files, lack these counters, which evaluation
    does not read.
    """
    return name.endswith("num_batches_tracked")


def _most_similar(states: Sequence[StateDict], expected: Tensors) -> StateDict:
    """Return the state dict, without a prefix, that has the most names of the network."""
    nearest = max(states, key=lambda state: len(state.tensors))
    most = 0
    for state in states:
        for prefix in _prefixes(state, expected)[:1]:
            inside = state.under(prefix)
            shared = len(inside.tensors.keys() & expected.keys())
            if shared > most:
                nearest, most = inside, shared
    return nearest


def _left_out(
    states: Sequence[StateDict],
    complete: Sequence[StateDict],
    used: StateDict,
    path: Path,
) -> list[str]:
    """Return a note if there are tensors beside the prefix of those that are used."""
    known = {id(tensor) for state in complete for tensor in state.tensors.values()}
    (first, *_) = used.tensors.values()
    for state in states:
        others = [name for name, tensor in state.tensors.items() if id(tensor) not in known]
        if others and any(tensor is first for tensor in state.tensors.values()):
            return [
                f"{path} holds {len(others)} tensors beside {used.place!r}, first {others[0]!r}: they are "
                "of other modules and are not used"
            ]
    return []


def _not_converted(converted: Converted, path: Path) -> list[str]:
    if not converted.unused:
        return []
    return [
        f"{path} holds {len(converted.unused)} tensors that this network does not have, first "
        f"{converted.unused[0]!r}: timm's conversion of the file leaves them out"
    ]


def _resampled(converted: Converted, path: Path) -> str:
    names = converted.resampled
    return (
        f"{path} does not fit this encoder:\n"
        f"  {len(names)} tensors are for images or patches of another size, first {names[0]!r}\n"
        "Pass weights of this architecture."
    )


def _load(
    model: nn.Module,
    architecture: str,
    tensors: Tensors,
    path: Path,
) -> None:
    expected = model.state_dict()
    state = dict(tensors)
    for name in _classifier_tensors(architecture, state.keys() - expected.keys()):
        del state[name]
    for name, tensor in expected.items():
        if _is_counter(name):
            state.setdefault(name, tensor)
    require_fit(expected, state, path)
    model.load_state_dict(state)


def _classifier_tensors(architecture: str, left_over: AbstractSet[str]) -> set[str]:
    """Return which of the tensors that a network without a classifier does not have are the classifier's."""
    declared = timm_config(architecture).classifier or ()
    prefixes = tuple(f"{name}." for name in ([declared] if isinstance(declared, str) else declared))
    if all(name.startswith(prefixes) for name in left_over):
        return set(left_over)
    # Not every description names all parts of a classifier, but building the network takes longer.
    with torch.device("meta"):  # names without weights
        return left_over & timm.create_model(architecture, num_classes=1000).state_dict().keys()


def _load_npz(model: Any, path: Path) -> None:
    if not hasattr(model, "load_pretrained"):  # a method of timm's vision transformers only
        raise WeightsError(
            f"{path}: .npz weights are supported for vision transformers only: pass a .pth or .safetensors "
            "file"
        )
    for parameter in model.parameters():
        nn.init.constant_(parameter, torch.nan)  # shows the tensors that the file does not fill
    try:
        model.load_pretrained(str(path))
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} does not fit this encoder or is damaged ({error})") from error
    unfilled = [name for name, parameter in model.named_parameters() if torch.isnan(parameter).any()]
    if unfilled:
        raise WeightsError(
            f"{path} does not fit this encoder: {len(unfilled)} tensors are missing, first {unfilled[0]!r}"
        )
