"""The record of an end-to-end training, epoch by epoch."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class History:
    """Losses, predictions and times of the finished epochs of a training.

    Attributes:
        training_loss: Mean squared error over the epoch's steps, each before its update.
        validation_loss: Mean squared error of the validation rows after the epoch; NaN without such rows.
        predictions: Scores (V + M,) of the validation and the test rows after the epoch.
        seconds: Time of the epoch, including the evaluation.
    """

    training_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    predictions: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.training_loss)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation loss, from 1, the later of equals.

        Without a finite validation loss, this is the last epoch.
        """
        if not np.isfinite(self.validation_loss).any():
            return self.epochs
        reversed_losses = self.validation_loss[::-1]
        return self.epochs - int(np.nanargmin(reversed_losses))
