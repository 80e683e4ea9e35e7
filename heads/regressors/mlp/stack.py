"""Any number of heads that are networks, trained in one call.

Where weights, gradients and Adam's two moments of several heads do not fit the cache together, it is faster to train one head after the
other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.heads.regressors.base import FitTask
from tier4k.heads.regressors.mlp.recipe import Recipe
from tier4k.heads.regressors.mlp.torch_backend import TENSORS, Fitted, StackedHead, StackTrainer
from tier4k.heads.regressors.standardization import Standardization

# Bytes that weights, gradients and moments of the heads trained side by side may take; what is more is trained in turn. On a GPU this
# bounds the memory. On the CPU it is what a core's own cache holds: there only small heads gain, whose time is not in the products, and
# torch's products of large ones, shared out among threads, are rounded otherwise when there are several.
STATE_BYTES = {"cpu": 4 * 2**20, "cuda": 8 * 2**30}


class HeadNetwork(nn.Module):
    """Fused vectors (N, d) -> scores (N,)."""

    def __init__(self, inputs: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or max(inputs // 2, 1)
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, fused: Tensor) -> Tensor:
        """Scores of fused vectors."""
        return self.fc2(torch.relu(self.fc1(fused))).squeeze(-1)


class StackedMLP:
    """K heads on one matrix of fused vectors; each becomes what it becomes alone, up to rounding.

    Heads may differ in everything. Those that share hidden width, optimizer, schedule, batch size, epochs and number of training rows
    are trained side by side, as many as `STATE_BYTES` allows. Initial weights, batch order and the moment of stopping are each
    head's own; a head that has stopped leaves, and the others go on without it.

    Args:
        recipes: How to train each of the K heads.
        device: Where, as torch names it.
        state_bytes: Replaces `STATE_BYTES`.
    """

    def __init__(
        self, recipes: Sequence[Recipe], device: str = "cpu", state_bytes: int | None = None
    ) -> None:
        self.recipes = recipes
        self.device = torch.device(device)
        self.state_bytes = STATE_BYTES[self.device.type] if state_bytes is None else state_bytes

    def fit(
        self, X: np.ndarray, tasks: Sequence[FitTask], finished: Callable[[int], None] = lambda _: None
    ) -> list[Fitted]:
        """Train all heads.

        Args:
            X: Fused vectors (N, d); held once as float32, and standardised batch by batch for each head.
            tasks: The K tasks.
            finished: Called with the number of each head, from 0, when it is trained.
        """
        parts = zip(self.recipes, tasks, _scalings(X, self.recipes, tasks), strict=True)
        members = [
            StackedHead(number, recipe.network(X.shape[1]), recipe, task, one)
            for number, (recipe, task, one) in enumerate(parts)
        ]
        inputs = torch.from_numpy(np.array(X, np.float32, order="C")).to(self.device)
        for group in self._passes(members):
            self._kind(group[0])(inputs, group).run(finished)
        fitted = []
        while members:  # each of which lets go of its parameters; not before the last pass, see `StackedHead`
            fitted.append(members.pop(0).fitted())
        return fitted

    def _kind(self, member: StackedHead) -> type[StackTrainer]:
        if self.device.type == "cpu" and member.is_published:
            from tier4k.heads.regressors.mlp.numba_backend import NumbaTrainer

            return NumbaTrainer
        return StackTrainer

    def _passes(self, members: list[StackedHead]) -> Iterator[list[StackedHead]]:
        """Heads to be trained side by side; those with one learning rate and penalty stand together, to be updated in one call."""
        ordered = sorted(members, key=lambda member: (member.shared, member.rates))
        for _, group in groupby(ordered, key=lambda member: member.shared):
            together = list(group)
            count = max(1, self.state_bytes // (TENSORS * 4 * together[0].network.size))
            yield from (together[start : start + count] for start in range(0, len(together), count))


def _scalings(X: np.ndarray, recipes: Sequence[Recipe], tasks: Sequence[FitTask]) -> list[Standardization]:
    """Of each head, of its own training rows; the inputs' part is computed once for heads that share rows."""
    known: dict[bytes, Standardization] = {}
    out = []
    for recipe, task in zip(recipes, tasks, strict=True):
        if not recipe.standardize:
            out.append(Standardization.none(X.shape[1]))
            continue
        scores, rows = task.scores[task.train], task.train.tobytes()
        if rows not in known:
            known[rows] = Standardization.of(X[task.train], scores)
        out.append(
            replace(known[rows], score_mean=float(scores.mean()), score_scale=float(scores.std()) or 1.0)
        )
    return out
