"""Training the published head on the CPU, compiled by Numba: see `numba_kernels.py` for the loops."""

import numpy as np
import torch
from torch import Tensor

from tier4k.heads.regressors.mlp.numba_kernels import (
    AdamConstants,
    AdamState,
    Features,
    Starts,
    predict,
    train_epoch,
)
from tier4k.heads.regressors.mlp.numba_threads import threads
from tier4k.heads.regressors.mlp.torch_backend import BETA1, BETA2, EPSILON, StackTrainer

CONSTANTS = AdamConstants(
    gain=np.float32(1 - BETA1),
    kept=np.float32(BETA2),
    squared_gain=np.float32(1 - BETA2),
    epsilon=np.float32(EPSILON),
)


class NumbaTrainer(StackTrainer):
    """Trains a stack of published heads with the published loss on the CPU.

    Sums are rounded differently than by torch. A hidden unit just above 0 with one library may be just below
    0 with the other, and training continues differently from there, as between any two libraries.
    """

    def _set_state(self, state: list[Tensor]) -> None:
        self.state = state  # the compiled loops have buffers of their own for gradients

    def _epoch(self) -> Tensor:
        rows, scores = self._shuffle()
        rates, root_factors = self._rates()
        count = rows.shape[1]
        with threads() as workers:
            total = train_epoch(
                workers,
                AdamState(*(flat.numpy() for flat in self.state)),
                self._starts,
                self._features(slice(None)),
                rows.numpy(),
                scores.numpy(),
                int(min(self.hyperparameters.batch_size, count)),
                rates,
                root_factors,
                CONSTANTS,
            )
        self.steps_done += self.steps_per_epoch
        return torch.from_numpy(total / count)

    def _predicted(self, heads: slice, rows: Tensor) -> Tensor:
        # Predicts with Numba's threads too, as torch's threads would slow Numba's down for a while.
        parameters = self.state[0][heads].numpy()
        with threads() as workers:
            scores = predict(workers, parameters, self._starts, self._features(heads), rows.numpy())
        return torch.from_numpy(scores)

    def _features(self, heads: slice) -> Features:
        return Features(
            vectors=self.inputs.numpy(),
            mean=self.mean[heads, 0].numpy(),
            scale=self.scale[heads, 0].numpy(),
        )

    @property
    def _starts(self) -> Starts:
        starts = self.network.starts()
        return Starts(
            hidden_weights=starts["fc1.weight"],
            hidden_biases=starts["fc1.bias"],
            last_weights=starts["fc2.weight"],
            last_bias=starts["fc2.bias"],
        )

    def _rates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return `rates` (S, K, 3) and `root_factors` (S,) for `train_epoch` in the next epoch."""
        step = self.steps_done + np.arange(1, self.steps_per_epoch + 1)
        factor = np.array([self._learning_rate_factor(number - 1) for number in step.tolist()])
        learning_rate, weight_decay = np.array([head.hyperparameters.update_key for head in self.heads]).T
        step_rate = factor[:, None] * learning_rate
        is_decoupled = self.hyperparameters.optimizer == "adamw"
        penalty = 0.0 if is_decoupled else weight_decay
        removed_share = step_rate * weight_decay if is_decoupled else 0.0
        step_size = step_rate / (1 - BETA1**step)[:, None]
        with np.errstate(over="ignore"):  # beyond float32 training diverges, as it should
            rates = np.stack(np.broadcast_arrays(penalty, 1 - removed_share, step_size), 2).astype(np.float32)
        root_factors = (1 / np.sqrt(1 - BETA2**step)).astype(np.float32)
        return rates, root_factors
