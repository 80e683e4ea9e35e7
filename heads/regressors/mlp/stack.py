"""Any number of heads that are networks, trained in one call."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.mlp.hyperparameters import Hyperparameters
from tier4k.heads.regressors.mlp.stacked_head import FittedHead, StackedHead
from tier4k.heads.regressors.mlp.torch_backend import FLOAT_BYTES, StackTrainer
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask

# Bytes of weights, gradients and moments of heads that are trained side by side; further heads are trained
# after them. On a GPU this bounds the memory. On the CPU it is the size of a core's own cache: only small
# heads gain there, whose time is not spent in the products, and torch rounds products of several large heads,
# shared out among threads, otherwise.
STATE_BYTES = {"cpu": 4 * 2**20, "cuda": 8 * 2**30}

STATE_TENSORS = 4  # largest number of tensors of a head's size: weights, gradients, two moments


class HeadNetwork(nn.Module):
    """The published head in plain torch: fused vectors (N, d) -> scores (N,).

    Args:
        inputs: Columns d of the fused vectors.
        hidden: Number of hidden units; None for d // 2.
    """

    def __init__(self, inputs: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or max(inputs // 2, 1)
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, fused: Tensor) -> Tensor:
        """Scores (N,) of fused vectors (N, d)."""
        hidden = torch.relu(self.fc1(fused))
        return self.fc2(hidden).squeeze(-1)


class StackedMLP:
    """K heads on one matrix of fused vectors, each trained as if alone, up to rounding.

    Heads may differ in all options. Heads that share network, optimizer, schedule, batch size, epochs,
    dropout, loss and number of training rows are trained side by side, as many as `STATE_BYTES` allows: where
    weights, gradients and Adam's two moments of several heads do not fit the cache together, training in turn
    is faster. Each head has its own initial weights, batch order and early stopping; heads that stopped early
    are dropped and the others continue.

    Args:
        hyperparameters: Hyperparameters of each of the K heads.
        device: Device to train on, by torch's name.
        state_bytes: Used instead of `STATE_BYTES`; None for the default.
    """

    def __init__(
        self,
        hyperparameters: Sequence[Hyperparameters],
        device: str = "cpu",
        state_bytes: int | None = None,
    ) -> None:
        self.hyperparameters = hyperparameters
        self.device = torch.device(device)
        self.state_bytes = STATE_BYTES[self.device.type] if state_bytes is None else state_bytes

    def fit(
        self,
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = lambda _: None,
        streams: Streams | None = None,
    ) -> list[FittedHead]:
        """Train all heads.

        Args:
            X: Fused vectors (N, d); stored once as float32, and standardised batch by batch for each head.
            tasks: Rows and scores of each of the K heads.
            finished: Called with the number of each head, from 0, when the head is trained.
            streams: The streams of the columns of X; None for one stream.

        Raises:
            HeadError: The weights that a task starts from belong to a network of another shape, or a fusion
                needs streams that X does not have.
        """
        heads = self._heads(X, tasks, streams or Streams.of(image=X.shape[1]))
        inputs = torch.from_numpy(np.array(X, np.float32, order="C")).to(self.device)
        for stack in self._stacks(heads):
            trainer = self._trainer_class(stack[0])
            trainer(inputs, stack).run(finished)
        fitted: list[FittedHead] = []
        while heads:  # after the last stack, see `StackedHead`; each head is freed in turn
            fitted.append(heads.pop(0).fitted())
        return fitted

    def _heads(
        self,
        X: np.ndarray,
        tasks: Sequence[FitTask],
        streams: Streams,
    ) -> list[StackedHead]:
        scalings = _scalings(X, self.hyperparameters, tasks, streams)
        heads: list[StackedHead] = []
        for hyperparameters, task, scaling in zip(self.hyperparameters, tasks, scalings, strict=True):
            network = hyperparameters.network(streams)
            heads.append(StackedHead(len(heads), network, hyperparameters, task, scaling))
        return heads

    def _trainer_class(self, head: StackedHead) -> type[StackTrainer]:
        if self.device.type == "cpu" and head.is_published:
            from tier4k.heads.regressors.mlp.numba_backend import NumbaTrainer

            return NumbaTrainer
        return StackTrainer

    def _stacks(self, heads: Sequence[StackedHead]) -> Iterator[list[StackedHead]]:
        """Divide heads into stacks that are trained side by side.

        Heads with equal learning rate and weight decay are neighbours, so that one call updates them.
        """
        ordered = sorted(heads, key=lambda head: (head.stack_key, head.hyperparameters.update_key))
        for _, group in groupby(ordered, key=lambda head: head.stack_key):
            equal_heads = list(group)
            head_bytes = STATE_TENSORS * FLOAT_BYTES * equal_heads[0].network.size
            count = max(1, self.state_bytes // head_bytes)
            for start in range(0, len(equal_heads), count):
                yield equal_heads[start : start + count]


def _scalings(
    X: np.ndarray,
    hyperparameters: Sequence[Hyperparameters],
    tasks: Sequence[FitTask],
    streams: Streams,
) -> list[Standardization]:
    """Return the standardisation of each head's training rows.

    Mean and scale of the inputs are computed once for heads that share rows.
    """
    by_rows: dict[bytes, Standardization] = {}
    scalings: list[Standardization] = []
    for options, task in zip(hyperparameters, tasks, strict=True):
        if not options.standardize:
            scalings.append(Standardization.none(X.shape[1]))
            continue
        scores = task.scores[task.train]
        key = task.train.tobytes()
        if key not in by_rows:
            by_rows[key] = Standardization.of(X[task.train], scores, streams)
        score_mean = float(scores.mean())
        score_scale = float(scores.std()) or 1.0
        scalings.append(replace(by_rows[key], score_mean=score_mean, score_scale=score_scale))
    return scalings
