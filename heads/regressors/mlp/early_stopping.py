"""Early stopping of one head: keep the best epoch's parameters, and stop when patience runs out."""

import math

from torch import Tensor

from tier4k.heads.regressors.standardization import Standardization


class EarlyStopping:
    """Keep the epoch with the best validation loss, and stop `patience` epochs after it.

    Without validation rows the last epoch counts as the best, so training never stops early.

    Args:
        patience: Epochs without a better validation loss after which training stops.
        has_validation: Whether the head has validation rows.

    Attributes:
        best_epoch: The epoch with the best validation loss, from 1, the later of equals; 0 before the first
            epoch, and if no epoch is better than the head that training started from.
        best_loss: Validation loss of the best epoch.
        best: Parameters (P,) and scaling of the best epoch; None without validation rows.
    """

    def __init__(self, patience: int, has_validation: bool) -> None:
        self.patience = patience
        self.has_validation = has_validation
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best: tuple[Tensor, Standardization] | None = None

    def record_start(
        self,
        loss: float,
        parameters: Tensor,
        scaling: Standardization,
    ) -> None:
        """Record the head that training starts from; that head is kept if no epoch is better."""
        self.best_loss = loss
        self.best = parameters.clone(), scaling

    def record_epoch(
        self,
        epoch: int,
        loss: float,
        parameters: Tensor,
        scaling: Standardization,
    ) -> None:
        """Record the validation loss and the parameters (P,) after an epoch.

        Args:
            epoch: Number of the epoch, from 1.
            loss: Validation loss of the epoch; not used without validation rows.
            parameters: Parameters (P,) after the epoch, copied if they are the best.
            scaling: The scaling of inputs and scores that belongs to the parameters.
        """
        if not self.has_validation:
            self.best_epoch = epoch
        elif loss <= self.best_loss:  # false for NaN
            self.best_epoch = epoch
            self.best_loss = loss
            self.best = parameters.clone(), scaling

    def stops_after(self, epoch: int) -> bool:
        """Whether training stops after this epoch, from 1."""
        return self.has_validation and epoch - self.best_epoch >= self.patience
