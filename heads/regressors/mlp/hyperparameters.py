"""The hyperparameters with which one head is trained, and the optimizers and schedules that they name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch.optim.adam import adam
from torch.optim.adamw import adamw

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.mlp.network import Network

OPTIMIZERS: dict[str, Callable[..., None]] = {"adam": adam, "adamw": adamw}


def cosine(progress: float) -> float:
    """Factor of the learning rate after a share of all steps: half a cosine from 1 to 0."""
    return (1 + math.cos(math.pi * progress)) / 2


def constant(progress: float) -> float:  # noqa: ARG001
    """Factor of the learning rate after a share of all steps: always 1."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "constant": constant}


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of one head: the options of `MLPHead` with the same names, and the seed."""

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

    def network(self, streams: Streams) -> Network:
        """Return the network for fused vectors of these streams."""
        return Network.of(streams, self.hidden, self.activation, self.fusion)

    @property
    def stack_key(self) -> tuple[Any, ...]:
        """The hyperparameters that heads trained side by side have in common, beside their network."""
        return (
            self.optimizer,
            self.schedule,
            self.batch_size,
            self.max_epochs,
            self.dropout,
            self.loss,
        )

    @property
    def update_key(self) -> tuple[float, float]:
        """Learning rate and weight decay, which heads updated in one call have in common."""
        return self.learning_rate, self.weight_decay


OPTION_NAMES = [field.name for field in fields(Hyperparameters) if field.name != "seed"]
"""Names of the hyperparameters that are options of `MLPHead`."""
