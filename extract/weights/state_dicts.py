"""Finding state dicts inside of checkpoints."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tier4k.extract.weights.files import WeightsError

if TYPE_CHECKING:
    import torch

MAX_NESTING = 2  # mappings around a state dict in a checkpoint

# Words in the places of weights that are averaged over training steps: "model_ema", "ema_model.", "teacher".
AVERAGED = re.compile(
    r"(?:^|[/._])(?:ema|swa|teacher|average|averaged|momentum|target)(?:$|[/._])", re.IGNORECASE
)

COMPILED = "_orig_mod."  # torch.compile inserts this into the names of the tensors of a compiled module


@dataclass(frozen=True)
class StateDict:
    """Tensors in a checkpoint.

    Attributes:
        place: Keys of the mappings around the tensors, then the prefix that was removed from the tensors'
            names, such as "teacher/backbone."; "" if there are neither keys nor a prefix.
        tensors: The tensors by name.
    """

    place: str
    tensors: "Mapping[str, torch.Tensor]"

    @property
    def is_averaged(self) -> bool:
        """Whether the tensors are a moving average over training steps, judging by `place`."""
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
class StateDictChoice:
    """The state dict that is taken from a file.

    Attributes:
        state: The state dict.
        notes: What the user should know: which of several weights are used, which tensors are left out.
    """

    state: StateDict
    notes: tuple[str, ...] = ()


def state_dicts(content: Any) -> list[StateDict]:
    """Return every mapping in a checkpoint that has tensors with names, the outermost first."""
    return list(_search(content, ()))


def _search(content: Any, keys: tuple[str, ...]) -> Iterator[StateDict]:
    import torch

    if not isinstance(content, Mapping):
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {}
    for name, value in named.items():
        if isinstance(value, torch.Tensor):
            tensors[name.replace(COMPILED, "")] = value
    if tensors:
        yield StateDict("/".join(keys), tensors)
    if len(keys) < MAX_NESTING:
        for name, value in named.items():
            yield from _search(value, (*keys, name))


def choose(states: Sequence[StateDict], path: Path) -> StateDictChoice:
    """Choose the weights of one network among the state dicts of a file.

    Equal state dicts count once. Averaged weights are preferred to raw ones.

    Args:
        states: State dicts with equal names; at least one.
        path: The file, for messages.

    Raises:
        WeightsError: Several raw state dicts differ, or several averaged ones.
    """
    distinct: list[StateDict] = []
    for state in states:
        if not any(_are_equal(state, other) for other in distinct):
            distinct.append(state)
    averaged = [state for state in distinct if state.is_averaged]
    raw = [state for state in distinct if not state.is_averaged]
    if len(averaged) > 1 or len(raw) > 1:
        first, second = (averaged if len(averaged) > 1 else raw)[:2]
        raise ambiguity_error(first, second, path)
    if averaged and raw:
        note = (
            f"{path} holds the weights twice: the averaged ones (EMA) in {averaged[0].place!r} are used, "
            f"those in {raw[0].place!r} are not"
        )
        return StateDictChoice(averaged[0], (note,))
    return StateDictChoice(distinct[0])


def ambiguity_error(
    first: StateDict,
    second: StateDict,
    path: Path,
) -> WeightsError:
    """Return the error of a file with two state dicts of which neither is preferred."""
    return WeightsError(
        f"{path} holds several state dicts of one size, {first.place!r} and {second.place!r} among them: "
        "save the tensors of one alone (torch.save or safetensors) and pass that file"
    )


def _are_equal(first: StateDict, second: StateDict) -> bool:
    import torch

    if first.tensors.keys() != second.tensors.keys():
        return False
    return all(torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items())
