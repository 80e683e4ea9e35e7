"""Loading of weights into networks of timm."""

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
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
from tier4k.extract.weights.state_dicts import StateDict, StateDictChoice, choose

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
        by_order: Whether the file has the network's tensors in the same order under other names, with the
            tensors of the classifier last.

    Returns:
        Notes for the user: which of several weights are used, which tensors are left out.

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
        choice = _find(model, architecture, weights)
        notes = choice.notes
        _load(model, architecture, choice.state.tensors, weights)
    require_finite(model.state_dict(), weights)
    return notes


def _find(
    model: nn.Module,
    architecture: str,
    path: Path,
) -> StateDictChoice:
    """Choose the network's tensors in a checkpoint; without such tensors, the most similar ones.

    `_load` refuses the most similar tensors and names what differs.
    """
    states = read_state_dicts(path)
    expected = model.state_dict()
    complete = _complete(states, expected)
    if complete:
        choice = choose(complete, path)
        return StateDictChoice(
            choice.state, (*choice.notes, *_other_tensors_notes(states, complete, choice.state, path))
        )
    converted = _fitting_conversions(model, architecture, states)
    exact = [one for one in converted if not one.resampled]
    if exact:
        return _choose_converted(exact, path)
    nearest = _most_similar(states, expected)
    if converted and not _has_names(nearest.tensors, expected):
        raise _resampled_error(converted[0], path)
    return StateDictChoice(nearest)


def _fitting_conversions(
    model: nn.Module,
    architecture: str,
    states: Sequence[StateDict],
) -> list[Converted]:
    """Return, of each state dict, the first conversion that has every tensor of the network."""
    expected = model.state_dict()
    fitting: list[Converted] = []
    for state in states:
        for converted in conversions(model, architecture, state):
            if _fits(converted.state.tensors, expected):
                fitting.append(converted)
                break
    return fitting


def _choose_converted(exact: Sequence[Converted], path: Path) -> StateDictChoice:
    choice = choose([converted.state for converted in exact], path)
    notes = list(choice.notes)
    for converted in exact:
        if converted.state is choice.state:
            notes.extend(_unused_tensors_notes(converted, path))
    return StateDictChoice(choice.state, tuple(notes))


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
    """Return the prefixes before names of the network's tensors, the most frequent first."""
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
    """Return whether a tensor counts training batches and may be missing: evaluation does not read it.

    Files older than PyTorch 0.4.1, such as torchvision's first files, lack these counters.
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


def _other_tensors_notes(
    states: Sequence[StateDict],
    complete: Sequence[StateDict],
    used: StateDict,
    path: Path,
) -> list[str]:
    """Return a note if the state dict with the used tensors also has tensors of other modules.

    Args:
        states: The state dicts of the file.
        complete: Those that fit the network, without a prefix of their names.
        used: The chosen one of `complete`.
        path: The file.
    """
    fitting: set[int] = set()
    for state in complete:
        fitting.update(id(tensor) for tensor in state.tensors.values())
    first = id(next(iter(used.tensors.values())))
    for state in states:
        others = [name for name, tensor in state.tensors.items() if id(tensor) not in fitting]
        has_used = first in [id(tensor) for tensor in state.tensors.values()]
        if others and has_used:
            return [
                f"{path} holds {len(others)} tensors beside {used.place!r}, first {others[0]!r}: they are "
                "of other modules and are not used"
            ]
    return []


def _unused_tensors_notes(converted: Converted, path: Path) -> list[str]:
    if not converted.unused:
        return []
    return [
        f"{path} holds {len(converted.unused)} tensors that this network does not have, first "
        f"{converted.unused[0]!r}: timm's conversion of the file leaves them out"
    ]


def _resampled_error(converted: Converted, path: Path) -> WeightsError:
    names = converted.resampled
    return WeightsError(
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
    """Return the names of the classifier's tensors.

    Args:
        architecture: timm's name of the network.
        left_over: Names of tensors that the network without its classifier does not have.
    """
    declared = timm_config(architecture).classifier or ()
    classifiers = (declared,) if isinstance(declared, str) else declared
    prefixes = tuple(f"{name}." for name in classifiers)
    if all(name.startswith(prefixes) for name in left_over):
        return set(left_over)
    # Some descriptions lack a part of the classifier. The whole network has every part, but is slow to build.
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
