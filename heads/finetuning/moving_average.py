"""The moving average of a network's weights, which training may keep instead of the last weights."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from tier4k.heads.finetuning.network import TierNetwork

# Names in the state of torch's class.
MODULE = "module."
UPDATES = "n_averaged"


class MovingAverage:
    """Exponential moving average of the parameters of a network: that of torch's `AveragedModel`.

    torch's class copies its number of updates to the device in every step, and waits for it.

    Args:
        network: The network before its first step.
        decay: Weight of the earlier average in an update.

    Attributes:
        network: A copy of the network with averaged parameters.
    """

    def __init__(self, network: TierNetwork, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, network: TierNetwork) -> None:
        """Take in the parameters of a network after a step; the first are copied, as buffers always are."""
        averaged: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        if self._updates:
            torch._foreach_lerp_(averaged, current, 1 - self._decay)
        else:
            torch._foreach_copy_(averaged, current)
        for buffer, current_buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            buffer.copy_(current_buffer)
        self._updates += 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        state = {f"{MODULE}{name}": tensor for name, tensor in self.network.state_dict().items()}
        return state | {UPDATES: torch.tensor(self._updates)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned."""
        state = {name.removeprefix(MODULE): tensor for name, tensor in tensors.items() if name != UPDATES}
        self.network.load_state_dict(state)
        self._updates = int(tensors[UPDATES])
