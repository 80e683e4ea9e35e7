"""The training loop of a stack: K heads of one shape, trained side by side.

The CPU trains the published head in `numba_backend.py`; this module trains all other heads.

A step is two products with the weights (K, h, d) of each first layer, the second written into existing
buffers, and one fused update. In between are the much smaller computations of `gradients.py`. On a GPU the
time of a step is largely that of starting its kernels. So no step waits for the GPU, and what several steps
need is gathered, standardised and copied at once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tier4k.heads.regressors.mlp.gradients import autograd_gradients, published_gradients
from tier4k.heads.regressors.mlp.hyperparameters import OPTIMIZERS, SCHEDULES
from tier4k.heads.regressors.mlp.losses import LOSSES, SCALE_FREE_LOSSES
from tier4k.heads.regressors.mlp.stacked_head import StackedHead
from tier4k.heads.regressors.standardization import Standardization

BLOCK_ROWS = 4096  # rows predicted at once

FLOAT_BYTES = 4

# Bytes of the inputs and dropout masks of the steps that are prepared at once; at least one step is. Several
# steps would not fit a core's own cache.
PREPARED_BYTES = {"cpu": 0, "cuda": 256 * 2**20}

# torch's defaults
BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8

ADAM = {
    "beta1": BETA1,
    "beta2": BETA2,
    "eps": EPSILON,
    "amsgrad": False,
    "maximize": False,
    "foreach": False,
    "fused": True,
}


class StackTrainer:
    """Trains K heads of one shape and one number of training rows n on shared fused vectors.

    Args:
        inputs: Fused vectors (N, d) float32 on the device to train on.
        heads: The K heads, with equal `stack_key`.
    """

    def __init__(self, inputs: Tensor, heads: list[StackedHead]) -> None:
        first = heads[0]
        self.inputs = inputs
        self.heads = heads
        self.hyperparameters = first.hyperparameters
        self.network = first.network
        self.is_published = first.is_published
        self.steps_per_epoch = -(-len(first.task.train) // first.hyperparameters.batch_size)
        self.steps_done = 0
        self.standardizes = any(head.hyperparameters.standardize for head in heads)
        self.train_rows = self._stack([torch.as_tensor(head.task.train, dtype=torch.int64) for head in heads])
        self.validation_rows = [self._row_numbers(head.validation_rows) for head in heads]
        self.watched_rows = [self._row_numbers(head.watched_rows) for head in heads]
        self.scores = self._stack(list(map(_training_scores, heads)))
        self.mean = self._stack([_float32(head.scaling.mean) for head in heads])[:, None]
        self.scale = self._stack([_float32(head.scaling.scale) for head in heads])[:, None]
        parameters = self._stack([head.parameters for head in heads])
        self._set_state([parameters, torch.zeros_like(parameters), torch.zeros_like(parameters)])

    @torch.no_grad()
    def run(self, finished: Callable[[int], None]) -> None:
        """Train until every head has stopped; `finished` is called with the number of each."""
        self._record_starts()
        for epoch in range(1, self.hyperparameters.max_epochs + 1):
            self._record_losses(self._epoch())
            scalings = self._scalings()
            self._call_listeners(epoch, scalings)
            for place, head in enumerate(self.heads):
                head.record_epoch(self.state[0][place], scalings[place])
            self._drop_stopped(epoch, scalings, finished)
            if not self.heads:
                break

    def _stack(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(tensors)).to(self.inputs.device)

    def _row_numbers(self, rows: np.ndarray | None) -> Tensor:
        """Return numbers (M,) of rows on the device; none for None."""
        numbers = np.empty(0) if rows is None else rows
        return torch.as_tensor(numbers, dtype=torch.int64).to(self.inputs.device)

    def _stack_random(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack random numbers, which are drawn on the CPU; a GPU copies them while it computes."""
        stacked = torch.stack(list(tensors))
        if self.inputs.is_cuda:
            stacked = stacked.pin_memory()
        return stacked.to(self.inputs.device, non_blocking=True)

    def _set_state(self, state: list[Tensor]) -> None:
        """Set parameters and the two moments, each (K, P), with buffers for gradients and views by layer."""
        self.state = state
        self.gradients = torch.zeros_like(state[0])
        self.layers = self.network.tensors(state[0])
        self.layer_gradients = self.network.tensors(self.gradients)
        self.update_blocks = _neighbours([head.hyperparameters.update_key for head in self.heads])
        steps_done = float(self.steps_done)
        self.step_numbers = [torch.full((), steps_done, device=state[0].device) for _ in self.update_blocks]

    def _record_starts(self) -> None:
        if all(head.task.start is None for head in self.heads):
            return
        for place, (head, loss) in enumerate(zip(self.heads, self._validation_losses(), strict=True)):
            if head.task.start is not None and loss is not None:
                head.record_start(loss, self.state[0][place])

    def _call_listeners(self, epoch: int, scalings: Sequence[Standardization]) -> None:
        predictions = self._predictions(self.watched_rows)
        for head, scaling, predicted in zip(self.heads, scalings, predictions, strict=True):
            if head.task.watched:
                head.task.watched.on_epoch(epoch, scaling.unscale(predicted))

    def _drop_stopped(
        self,
        epoch: int,
        scalings: Sequence[Standardization],
        finished: Callable[[int], None],
    ) -> None:
        """Drop heads that stopped early, and all heads after the last epoch."""
        is_last = epoch == self.hyperparameters.max_epochs
        remaining: list[int] = []
        for place, head in enumerate(self.heads):
            if is_last or head.stops_early:
                head.finish(self.state[0][place], scalings[place])
                finished(head.number)
            else:
                remaining.append(place)
        if len(remaining) < len(self.heads):
            self._keep_only(remaining)

    def _keep_only(self, places: list[int]) -> None:
        self.heads = [self.heads[place] for place in places]
        if not places:
            return
        self.train_rows = self.train_rows[places]
        self.validation_rows = [self.validation_rows[place] for place in places]
        self.watched_rows = [self.watched_rows[place] for place in places]
        self.scores = self.scores[places]
        self.mean = self.mean[places]
        self.scale = self.scale[places]
        self._set_state([flat[places] for flat in self.state])

    def _shuffle(self) -> tuple[Tensor, Tensor]:
        """Return numbers and scores (K, n) of the training rows, in each head's order for the next epoch."""
        order = self._stack_random([head.next_order() for head in self.heads])
        return self.train_rows.gather(1, order), self.scores.gather(1, order)

    def _epoch(self) -> Tensor:
        """Train for one epoch; return the mean loss (K,) over the steps' rows, of standardised scores."""
        rows, scores = self._shuffle()
        prepared_rows = self._prepared_steps() * self.hyperparameters.batch_size
        losses: list[Tensor] = []
        for own_rows, own_scores in zip(
            rows.split(prepared_rows, 1), scores.split(prepared_rows, 1), strict=True
        ):
            losses += self._steps(own_rows, own_scores)
        return _mean_over_rows(losses, rows.shape[1], self.hyperparameters.batch_size)

    def _prepared_steps(self) -> int:
        """Return the number of steps whose inputs and dropout masks are prepared at once."""
        floats = self.network.inputs
        if self.hyperparameters.dropout:
            floats += self.network.hidden
        step_bytes = FLOAT_BYTES * floats * len(self.heads) * self.hyperparameters.batch_size
        return max(1, PREPARED_BYTES[self.inputs.device.type] // step_bytes)

    def _steps(self, rows: Tensor, scores: Tensor) -> Iterator[Tensor]:
        """Train on rows (K, n) with scores (K, n), step by step; yield each step's loss (K,)."""
        batch_size = self.hyperparameters.batch_size
        batches = self._standardize(_gathered(self.inputs, rows), slice(None)).split(batch_size, 1)
        masks: Sequence[Tensor | None] = [None] * len(batches)
        if self.hyperparameters.dropout:
            masks = self._dropout_masks(rows.shape[1]).split(batch_size, 1)
        for inputs, mask, own_scores in zip(batches, masks, scores.split(batch_size, 1), strict=True):
            yield self._step(inputs, mask, own_scores)

    def _dropout_masks(self, rows: int) -> Tensor:
        """Draw the factors (K, rows, h) of the hidden units of the next rows."""
        kept = self._stack_random([head.kept_units(rows) for head in self.heads])
        return kept / (1 - self.hyperparameters.dropout)

    def _standardize(self, vectors: Tensor, heads: slice) -> Tensor:
        """Standardise fused vectors (G, B, d) of G heads in place."""
        if not self.standardizes:
            return vectors
        return vectors.sub_(self.mean[heads]).div_(self.scale[heads])

    def _step(
        self,
        inputs: Tensor,
        mask: Tensor | None,
        scores: Tensor,
    ) -> Tensor:
        """Train on inputs (K, B, d), masks (K, B, h) and scores (K, B); return the loss (K,) before it."""
        products = self.network.products(self.layers, inputs)
        loss, product_gradients = self._loss_and_gradients(products, mask, scores)
        for layer, product_gradient in product_gradients.items():
            torch.bmm(
                product_gradient.mT,
                inputs[..., self.network.columns(layer)],
                out=self.layer_gradients[f"{layer}.weight"],
            )
            torch.sum(product_gradient, 1, keepdim=True, out=self.layer_gradients[f"{layer}.bias"])
        self._update()
        return loss

    def _loss_and_gradients(
        self,
        products: dict[str, Tensor],
        mask: Tensor | None,
        scores: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.is_published:
            return published_gradients(self.network, self.layers, self.layer_gradients, products, scores)
        return autograd_gradients(
            self.network,
            LOSSES[self.hyperparameters.loss],
            self.layers,
            self.layer_gradients,
            products,
            scores,
            mask,
        )

    def _update(self) -> None:
        factor = self._learning_rate_factor(self.steps_done)
        optimizer = OPTIMIZERS[self.hyperparameters.optimizer]
        parameters, first_moments, second_moments = self.state
        for (start, end), step_number in zip(self.update_blocks, self.step_numbers, strict=True):
            learning_rate, weight_decay = self.heads[start].hyperparameters.update_key
            optimizer(
                [parameters[start:end]],
                [self.gradients[start:end]],
                [first_moments[start:end]],
                [second_moments[start:end]],
                [],
                [step_number],  # the update adds 1
                lr=learning_rate * factor,
                weight_decay=weight_decay,
                **ADAM,
            )
        self.steps_done += 1

    def _learning_rate_factor(self, steps_done: int) -> float:
        """Return the factor of the learning rates in the step after `steps_done` steps."""
        steps = self.steps_per_epoch * self.hyperparameters.max_epochs
        return SCHEDULES[self.hyperparameters.schedule](steps_done / steps)

    def _record_losses(self, training_losses: Tensor) -> None:
        validation_losses = self._validation_losses()
        training = training_losses.tolist()
        for head, loss, validation_loss in zip(self.heads, training, validation_losses, strict=True):
            head.training_loss.append(head.loss_unit * loss)
            if validation_loss is not None:
                head.validation_loss.append(validation_loss)

    def _validation_losses(self) -> list[float | None]:
        """Return the loss of each head's validation rows with the current weights, in the reported unit.

        It is None for heads without validation rows.
        """
        losses: list[float | None] = []
        for head, predicted in zip(self.heads, self._predictions(self.validation_rows), strict=True):
            losses.append(self._validation_loss(head, predicted) if len(predicted) else None)
        return losses

    def _validation_loss(self, head: StackedHead, predicted: np.ndarray) -> float:
        truth = head.scaling.scores(head.task.scores[head.validation_rows])
        loss = LOSSES[self.hyperparameters.loss](
            torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None]
        )
        return head.loss_unit * float(loss)

    def _scalings(self) -> list[Standardization]:
        """Return the scaling from each head's outputs to scores.

        Where the loss leaves the scale open, the scaling is the least-squares line of the training rows.
        """
        if self.hyperparameters.loss not in SCALE_FREE_LOSSES:
            return [head.scaling for head in self.heads]
        scalings: list[Standardization] = []
        for head, predicted in zip(self.heads, self._predictions(list(self.train_rows)), strict=True):
            slope, intercept = _least_squares(predicted, head.task.scores[head.task.train])
            scalings.append(replace(head.scaling, score_scale=slope, score_mean=intercept))
        return scalings

    def _predictions(self, rows: list[Tensor]) -> list[np.ndarray]:
        """Predict standardised scores (M,) float64 of each head's own rows, in one copy from the device.

        Args:
            rows: For each head the numbers (M,) of rows of the inputs, on the device.
        """
        counts = list(map(len, rows))
        parts: list[Tensor] = []
        for start, end in self._predicted_together(counts):
            if counts[start]:
                parts.append(self._predicted(slice(start, end), torch.stack(rows[start:end])).flatten())
        if not parts:
            return [np.empty(0) for _ in rows]
        return [part.numpy() for part in torch.cat(parts).cpu().double().split(counts)]

    def _predicted_together(self, counts: Sequence[int]) -> list[tuple[int, int]]:
        """Return the places [start, end) of neighbouring heads that predict equal numbers of rows.

        On the CPU each head predicts alone, because torch may round products of several heads otherwise.
        """
        is_cpu = self.inputs.device.type == "cpu"
        return _neighbours([(count, place if is_cpu else 0) for place, count in enumerate(counts)])

    def _predicted(self, heads: slice, rows: Tensor) -> Tensor:
        """Predict standardised scores (G, M) float32 by G heads.

        Args:
            heads: The places of the heads in the stack.
            rows: Numbers (G, M) of rows of the inputs.
        """
        layers = self.network.tensors(self.state[0][heads])
        parts: list[Tensor] = []
        for part in rows.split(max(1, BLOCK_ROWS // len(rows)), 1):
            inputs = self._standardize(_gathered(self.inputs, part), heads)
            parts.append(self.network.forward(layers, inputs))
        return torch.cat(parts, 1)


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _training_scores(head: StackedHead) -> Tensor:
    return _float32(head.scaling.scores(head.task.scores[head.task.train]))


def _gathered(vectors: Tensor, rows: Tensor) -> Tensor:
    """Return the vectors (G, B, d) with the numbers (G, B), of vectors (N, d)."""
    return vectors.index_select(0, rows.flatten()).view(*rows.shape, -1)


def _neighbours(keys: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the places [start, end) of neighbours with equal keys."""
    starts = [place for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    return list(zip(starts, [*starts[1:], len(keys)], strict=True))


def _mean_over_rows(losses: Sequence[Tensor], rows: int, batch_size: int) -> Tensor:
    """Return the mean (K,) float64 over all rows, given each step's; only the last step has fewer rows."""
    sums = torch.stack(list(losses))
    sums[:-1] *= batch_size
    sums[-1] *= rows - batch_size * (len(losses) - 1)
    return sums.double().cumsum(0)[-1] / rows  # added in the order of the steps


def _least_squares(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept of a line from predictions (n,) to scores (n,); slope 0 if all are equal."""
    deviation = predicted.std()
    slope = 0.0
    if deviation:
        covariance = np.mean((predicted - predicted.mean()) * (truth - truth.mean()))
        slope = covariance / deviation**2
    intercept = truth.mean() - slope * predicted.mean()
    return float(slope), float(intercept)
