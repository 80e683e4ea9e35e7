"""Training losses of heads, each for K heads at once: predictions p and scores y (K, B) -> (K,).

mse      mean of (p_i - y_i)^2: the published loss.
plcc     1 - r with Pearson's correlation r of the batch, as in Li, Jiang & Jiang, "Norm-in-Norm Loss with
         Faster Convergence and Better Performance for Image Quality Assessment", ACM MM 2020 (there up to a
         factor).
rank     mean over pairs of max(0, |y_i - y_j| - sign(y_i - y_j) (p_i - p_j)): Sun, Min, Lu & Zhai, "A Deep
         Learning based No-reference Quality Assessment Model for UGC Videos", ACM MM 2022, equation 7.
mixture  the sum of `mse`, `plcc` and `rank`.

`plcc` depends on neither unit nor origin of the predictions, and `rank` not on their origin. A straight line,
fitted by least squares on the training rows, maps predictions of heads trained with `plcc` or `rank` to the
scale of the scores.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TINY = 1e-12

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(predicted: Tensor, scores: Tensor) -> Tensor:
    """Mean squared error (K,)."""
    return (predicted - scores).square().mean(1)


def plcc(predicted: Tensor, scores: Tensor) -> Tensor:
    """1 - Pearson's correlation (K,); 1 where all predictions or all scores are equal."""
    p = predicted - predicted.mean(1, keepdim=True)
    y = scores - scores.mean(1, keepdim=True)
    covariance = (p * y).sum(1)
    variances = p.square().sum(1) * y.square().sum(1)
    return 1 - covariance / (variances + TINY).sqrt()


def rank(predicted: Tensor, scores: Tensor) -> Tensor:
    """Mean over pairs (K,) of the amount by which the predictions' difference falls short of the scores'."""
    score_gaps = scores[:, :, None] - scores[:, None, :]
    predicted_gaps = predicted[:, :, None] - predicted[:, None, :]
    shortfall = torch.relu(score_gaps.abs() - score_gaps.sign() * predicted_gaps)
    return shortfall.mean((1, 2))


def mixture(predicted: Tensor, scores: Tensor) -> Tensor:
    """Sum (K,) of the losses `mse`, `plcc` and `rank`."""
    return mse(predicted, scores) + plcc(predicted, scores) + rank(predicted, scores)


LOSSES: dict[str, Loss] = {
    "mse": mse,
    "plcc": plcc,
    "rank": rank,
    "mixture": mixture,
}

SCALE_FREE_LOSSES = ("plcc", "rank")
"""Losses that leave the scale or the origin of the predictions open."""
