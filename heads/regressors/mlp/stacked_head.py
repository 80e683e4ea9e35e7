"""One head of a stack: its task, its random numbers, and the record of its training."""

import math
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from tier4k.heads.regressors.mlp.early_stopping import EarlyStopping
from tier4k.heads.regressors.mlp.hyperparameters import Hyperparameters
from tier4k.heads.regressors.mlp.network import Network
from tier4k.heads.regressors.mlp.scaling_in_weights import fold, unfold
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask, Weights


@dataclass(frozen=True)
class FittedHead:
    """A trained head: weights for raw fused vectors, and the record of its training as in `MLPHead`."""

    weights: Weights
    best_epoch: int
    training_loss: list[float]
    validation_loss: list[float]


class StackedHead:
    """One head of a stack.

    Args:
        number: Number of the head among all heads of the call, from 0.
        network: Shape of the head's network.
        hyperparameters: Hyperparameters of the head.
        task: Scores and rows of the head.
        scaling: The standardisation of inputs and scores.

    Attributes:
        stack_key: Equal for heads that can be trained side by side.
        parameters: Parameters (P,): the initial parameters, and after `finish` the kept parameters.
        early_stopping: The best epoch so far.
        training_loss: Mean loss of each epoch's steps.
        validation_loss: Loss of the validation rows after each epoch.
    """

    def __init__(
        self,
        number: int,
        network: Network,
        hyperparameters: Hyperparameters,
        task: FitTask,
        scaling: Standardization,
    ) -> None:
        self.number = number
        self.network = network
        self.hyperparameters = hyperparameters
        self.task = task
        self.scaling = scaling
        self.stack_key = (*astuple(network), *hyperparameters.stack_key, len(task.train))
        self.early_stopping = EarlyStopping(hyperparameters.patience, self.validation_rows is not None)
        self.training_loss: list[float] = []
        self.validation_loss: list[float] = []
        self.random = torch.Generator().manual_seed(hyperparameters.seed)
        # Initial parameters and (in `fitted`) folded weights are computed for all heads at a time: between
        # two stacks this would let threads fall asleep, and they take long to return to work on a core of
        # their own.
        self.parameters = self._initial_parameters()

    @property
    def is_published(self) -> bool:
        """Whether network and loss are the published ones of TIER."""
        hyperparameters = self.hyperparameters
        return self.network.is_published and hyperparameters.loss == "mse" and not hyperparameters.dropout

    @property
    def validation_rows(self) -> np.ndarray | None:
        """Numbers (v,) of the validation rows; None without any."""
        rows = self.task.validation
        return rows if rows is not None and len(rows) else None

    @property
    def watched_rows(self) -> np.ndarray | None:
        """Numbers (w,) of the rows that are predicted after each epoch; None without any."""
        return self.task.watched.rows if self.task.watched else None

    @property
    def loss_unit(self) -> float:
        """Factor from the loss of standardised scores to the reported loss.

        Squared error has squared score units; other losses have no unit.
        """
        return self.scaling.score_scale**2 if self.hyperparameters.loss == "mse" else 1.0

    def next_order(self) -> Tensor:
        """Draw the next epoch's order of the training rows (n,)."""
        return torch.randperm(len(self.task.train), generator=self.random)

    def kept_units(self, rows: int) -> Tensor:
        """Draw which hidden units (rows, h) dropout keeps in the next rows.

        Rows of several steps drawn at once are those drawn step by step.
        """
        return torch.rand(rows, self.network.hidden, generator=self.random) < 1 - self.hyperparameters.dropout

    def record_start(self, loss: float, parameters: Tensor) -> None:
        """Record the head that training starts from, with its validation loss.

        This head is kept if no epoch is better.
        """
        self.early_stopping.record_start(loss, parameters, self.scaling)

    def record_epoch(self, parameters: Tensor, scaling: Standardization) -> None:
        """Record the parameters (P,) and the scaling after the epoch whose losses were recorded last."""
        loss = self.validation_loss[-1] if self.validation_loss else math.nan
        self.early_stopping.record_epoch(len(self.training_loss), loss, parameters, scaling)

    @property
    def stops_early(self) -> bool:
        """Whether training stops after the epoch that was recorded last, because patience ran out."""
        return self.early_stopping.stops_after(len(self.training_loss))

    def finish(self, parameters: Tensor, scaling: Standardization) -> None:
        """Keep the best epoch's parameters; without validation rows keep the given parameters (P,)."""
        kept_parameters, self.scaling = self.early_stopping.best or (parameters, scaling)
        self.parameters = kept_parameters.to("cpu", copy=True)
        self.early_stopping.best = None

    def fitted(self) -> FittedHead:
        """Return the trained head."""
        return FittedHead(
            weights=fold(self.network, self.parameters, self.scaling),
            best_epoch=self.early_stopping.best_epoch,
            training_loss=self.training_loss,
            validation_loss=self.validation_loss,
        )

    def _initial_parameters(self) -> Tensor:
        # Drawn even where a start replaces them: the batch order continues the same stream of random numbers.
        parameters = self.network.initial(self.random)
        if self.task.start is None:
            return parameters
        return unfold(self.network, self.task.start, self.scaling)
