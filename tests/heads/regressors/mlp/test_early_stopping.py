"""Early stopping keeps the best epoch and stops when patience runs out."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tier4k.heads.regressors.mlp.early_stopping import EarlyStopping
from tier4k.heads.regressors.standardization import Standardization

SCALING = Standardization.none(1)


def stopped_at(stopping: EarlyStopping, losses: Sequence[float]) -> int | None:
    """The epoch after which training stops; parameters are the epoch's number."""
    for epoch, loss in enumerate(losses, 1):
        stopping.record_epoch(epoch, loss, torch.tensor([float(epoch)]), SCALING)
        if stopping.stops_after(epoch):
            return epoch
    return None


@pytest.mark.parametrize(
    ("losses", "stops", "best"),
    [
        ([3.0, 2.0, 2.5, 2.6, 0.0], 4, 2),
        ([3.0, 2.0, 2.0, 1.0, 0.5], None, 5),
        ([1.0, 1.0, 1.0, 2.0, 2.0], 5, 3),  # the later of equals
    ],
)
def test_training_stops_when_patience_runs_out_and_the_best_epoch_is_kept(
    losses: list[float], stops: int | None, best: int
) -> None:
    stopping = EarlyStopping(patience=2, has_validation=True)
    assert stopped_at(stopping, losses) == stops
    assert stopping.best_epoch == best
    assert stopping.best_loss == losses[best - 1]
    assert stopping.best is not None
    assert stopping.best[0].tolist() == [best]


def test_an_epoch_with_a_loss_of_nan_is_never_the_best() -> None:
    stopping = EarlyStopping(patience=3, has_validation=True)
    assert stopped_at(stopping, [math.nan] * 5) == 3
    assert stopping.best_epoch == 0
    assert stopping.best is None


def test_without_validation_rows_training_never_stops_early() -> None:
    stopping = EarlyStopping(patience=1, has_validation=False)
    assert stopped_at(stopping, [math.nan] * 5) is None
    assert stopping.best_epoch == 5
    assert stopping.best is None


def test_the_head_that_training_starts_from_is_kept_where_no_epoch_is_better() -> None:
    stopping = EarlyStopping(patience=2, has_validation=True)
    start = torch.zeros(1)
    stopping.record_start(1.0, start, SCALING)
    start += 7  # training changes the parameters in place
    assert stopped_at(stopping, [2.0, 3.0]) == 2
    assert stopping.best_epoch == 0
    assert stopping.best is not None
    np.testing.assert_array_equal(stopping.best[0], [0.0])
