"""How one head of a stack is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim.adam import adam
from torch.optim.adamw import adamw

from tier4k.heads.regressors.mlp.network import Network

OPTIMIZERS: dict[str, Callable[..., None]] = {"adam": adam, "adamw": adamw}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "constant": lambda done: 1.0,  # noqa: ARG005
}


@dataclass(frozen=True)
class Recipe:
    """How one head is trained; the words are those of `MLPHead`."""

    hidden: int | None
    learning_rate: float
    weight_decay: float
    optimizer: str
    schedule: str
    batch_size: int
    max_epochs: int
    patience: int
    standardize: bool
    seed: int
    activation: str = "relu"
    dropout: float = 0.0
    loss: str = "mse"
    fusion: str = "concatenation"
    text_width: int | None = None

    def network(self, inputs: int) -> Network:
        """The network for fused vectors of so many columns."""
        return Network.of(inputs, self.hidden, self.activation, self.fusion, self.text_width)

    @property
    def shared(self) -> tuple[Any, ...]:
        """What heads must have in common to be trained side by side, beside their network."""
        return self.optimizer, self.schedule, self.batch_size, self.max_epochs, self.dropout, self.loss
