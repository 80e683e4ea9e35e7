"""What training of a head makes small, each for K heads at once: predictions p and scores y (K, B) -> (K,).

mse      mean of (p_i - y_i)^2: the published one.
plcc     1 - r with Pearson's correlation r of the batch, as in Li, Jiang & Jiang, "Norm-in-Norm Loss with Faster Convergence and Better
         Performance for Image Quality Assessment", ACM MM 2020 (there up to a factor).
rank     mean over pairs of max(0, |y_i - y_j| - sign(y_i - y_j) (p_i - p_j)): Sun, Min, Lu & Zhai, "A Deep Learning based No-reference
         Quality Assessment Model for UGC Videos", ACM MM 2022, equation 7.
mixture  the sum of the three.

`plcc` knows neither unit nor origin of the scores, and `rank` no origin: predictions of heads trained so are put on the scale of the scores
by a straight line, the least squares of the training rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TINY = 1e-12

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(predicted: Tensor, scores: Tensor) -> Tensor:
    """Mean squared error."""
    return (predicted - scores).square().mean(1)


def plcc(predicted: Tensor, scores: Tensor) -> Tensor:
    """1 - Pearson's correlation; 1 where all predictions or all scores are equal."""
    p, y = predicted - predicted.mean(1, keepdim=True), scores - scores.mean(1, keepdim=True)
    return 1 - (p * y).sum(1) / (p.square().sum(1) * y.square().sum(1) + TINY).sqrt()


def rank(predicted: Tensor, scores: Tensor) -> Tensor:
    """Mean of how much the difference of each pair's predictions falls short of that of its scores."""
    wanted = scores[:, :, None] - scores[:, None, :]
    found = predicted[:, :, None] - predicted[:, None, :]
    return torch.relu(wanted.abs() - wanted.sign() * found).mean((1, 2))


def mixture(predicted: Tensor, scores: Tensor) -> Tensor:
    """The sum of the three."""
    return mse(predicted, scores) + plcc(predicted, scores) + rank(predicted, scores)


LOSSES: dict[str, Loss] = {"mse": mse, "plcc": plcc, "rank": rank, "mixture": mixture}

FREE_LOSSES = ("plcc", "rank")
