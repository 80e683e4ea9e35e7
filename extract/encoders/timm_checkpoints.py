"""Which tensors of a checkpoint are those of a timm network: of which state dict, under which names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tier4k.extract.encoders.timm_conversion import Converted, conversions
from tier4k.extract.weights.checkpoints import read_state_dicts
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.state_dicts import StateDict, StateDictChoice, choose

Tensors = Mapping[str, Tensor]


def find_tensors(
    model: nn.Module,
    architecture: str,
    path: Path,
) -> StateDictChoice:
    """Choose the network's tensors in a checkpoint; without such tensors, the most similar ones.

    `load_timm_weights` refuses the most similar tensors and names what differs.

    Args:
        model: The network.
        architecture: timm's name of the network.
        path: A .safetensors or PyTorch file, or an index.

    Raises:
        WeightsError: The file is damaged, contains code or no state dict, contains several networks that fit,
            or has tensors for images or patches of another size.
    """
    states = read_state_dicts(path)
    expected = model.state_dict()
    complete = _complete(states, expected)
    if complete:
        choice = choose(complete, path)
        notes = _other_tensors_notes(states, complete, choice.state, path)
        return StateDictChoice(choice.state, (*choice.notes, *notes))
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
    return all(name in tensors or is_counter(name) for name in expected)


def _fits(tensors: Tensors, expected: Tensors) -> bool:
    if not _has_names(tensors, expected):
        return False
    return all(tensors[name].shape == tensor.shape for name, tensor in expected.items() if name in tensors)


def is_counter(name: str) -> bool:
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
