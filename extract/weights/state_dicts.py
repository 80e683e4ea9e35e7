"""Finding state dicts inside of checkpoints."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tier4k.extract.weights.files import WeightsError

if TYPE_CHECKING:
    import torch

NESTING = 2  # mappings around a state dict in a checkpoint, at most

# Words in the names of weights that are averaged over training steps: "model_ema", "ema_model.", "teacher".
AVERAGED = re.compile(r"(?:^|[/._])(?:ema|teacher|averaged|target)(?:$|[/._])", re.IGNORECASE)

WRAPPER = "_orig_mod."  # torch.compile puts it before the names inside of each compiled module


@dataclass(frozen=True)
class StateDict:
    """Tensors in a checkpoint.

    Attributes:
        place: Keys that lead to the tensors, and a prefix that their names had, such as
            "teacher/backbone."; empty if there are neither.
        tensors: The tensors by name.
    """

    place: str
    tensors: "Mapping[str, torch.Tensor]"

    @property
    def is_averaged(self) -> bool:
        """Whether the tensors are a moving average over training steps, by the words of the place."""
        return AVERAGED.search(self.place) is not None

    def under(self, prefix: str) -> "StateDict":
        """Return the tensors whose names begin with a prefix, without the prefix."""
        if not prefix:
            return self
        place = f"{self.place}/{prefix}" if self.place else prefix
        tensors = {}
        for name, tensor in self.tensors.items():
            if name.startswith(prefix):
                tensors[name.removeprefix(prefix)] = tensor
        return StateDict(place, tensors)


@dataclass(frozen=True)
class Choice:
    """The state dict that is taken from a file.

    Attributes:
        state: The state dict.
        notes: What the user should know about the choice.
    """

    state: StateDict
    notes: tuple[str, ...] = ()


def state_dicts(content: Any) -> list[StateDict]:
    """Return every mapping in a checkpoint that has tensors with names, the outermost first."""
    return [found for found in _search(content, (), 0) if found.tensors]


def _search(
    content: Any,
    keys: tuple[str, ...],
    depth: int,
) -> Iterator[StateDict]:
    import torch

    if not isinstance(content, Mapping):
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {}
    for name, value in named.items():
        if isinstance(value, torch.Tensor):
            tensors[name.replace(WRAPPER, "")] = value
    yield StateDict("/".join(keys), tensors)
    if depth < NESTING:
        for name, value in named.items():
            yield from _search(value, (*keys, name), depth + 1)


def choose(states: Sequence[StateDict], path: Path) -> Choice:
    """Return the one state dict of several of the same network; of raw and averaged weights the averaged.

    Args:
        states: State dicts with equal names; at least one.
        path: The file, for messages.

    Raises:
        WeightsError: There are several, and not one raw and one averaged one.
    """
    distinct: list[StateDict] = []
    for state in states:
        if not any(_are_equal(state, other) for other in distinct):
            distinct.append(state)
    averaged = [state for state in distinct if state.is_averaged]
    raw = [state for state in distinct if not state.is_averaged]
    if len(averaged) > 1 or len(raw) > 1:
        first, second = (averaged if len(averaged) > 1 else raw)[:2]
        raise several_state_dicts(first, second, path)
    if averaged and raw:
        note = (
            f"{path} holds the weights twice: the averaged ones (EMA) in {averaged[0].place!r} are used, "
            f"those in {raw[0].place!r} are not"
        )
        return Choice(averaged[0], (note,))
    return Choice(distinct[0])


def several_state_dicts(
    first: StateDict,
    second: StateDict,
    path: Path,
) -> WeightsError:
    """Return the error of a file with several state dicts, of which none is to be preferred."""
    return WeightsError(
        f"{path} holds several state dicts of one size, {first.place!r} and {second.place!r} among them: "
        "save the tensors of one alone (torch.save or safetensors) and pass that file"
    )


def _are_equal(first: StateDict, second: StateDict) -> bool:
    import torch

    if first.tensors.keys() != second.tensors.keys():
        return False
    return all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())
