"""The training loop of a stack: K heads of one shape, trained side by side.

The CPU trains the published head in `numba_backend.py`; this module trains all other heads.

A step is two products with the weights (K, h, d) of each first layer, the second written into existing
buffers, and one fused update. In between are the much smaller computations of `gradients.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tier4k.heads.regressors.mlp.gradients import autograd_gradients, published_gradients
from tier4k.heads.regressors.mlp.hyperparameters import OPTIMIZERS, SCHEDULES
from tier4k.heads.regressors.mlp.losses import LOSSES, SCALE_FREE_LOSSES
from tier4k.heads.regressors.mlp.stacked_head import StackedHead
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import Predictor

BLOCK_ROWS = 4096  # rows predicted at once

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
        self.step_number = torch.zeros((), device=inputs.device)
        self.train_rows = self._stack([torch.as_tensor(head.task.train, dtype=torch.int64) for head in heads])
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
            scalings = [self._scaling(place) for place in range(len(self.heads))]
            self._call_listeners(epoch, scalings)
            for place, head in enumerate(self.heads):
                head.record_epoch(self.state[0][place], scalings[place])
            self._drop_stopped(epoch, scalings, finished)
            if not self.heads:
                break

    def _stack(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(tensors)).to(self.inputs.device)

    def _set_state(self, state: list[Tensor]) -> None:
        """Set parameters and the two moments, each (K, P), with buffers for gradients and views by layer."""
        self.state = state
        self.gradients = torch.zeros_like(state[0])
        self.layers = self.network.tensors(state[0])
        self.layer_gradients = self.network.tensors(self.gradients)
        self.update_blocks = _update_blocks(self.heads)

    def _record_starts(self) -> None:
        for place, head in enumerate(self.heads):
            if head.task.start is not None and head.validation_rows is not None:
                head.record_start(self._validation_loss(place), self.state[0][place])

    def _call_listeners(self, epoch: int, scalings: Sequence[Standardization]) -> None:
        for place, head in enumerate(self.heads):
            if head.task.on_epoch:
                head.task.on_epoch(epoch, self._predictor(place, scalings[place]))

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
        self.scores = self.scores[places]
        self.mean = self.mean[places]
        self.scale = self.scale[places]
        self._set_state([flat[places] for flat in self.state])

    def _shuffle(self) -> tuple[Tensor, Tensor]:
        """Return numbers and scores (K, n) of the training rows, in each head's order for the next epoch."""
        order = self._stack([head.next_order() for head in self.heads])
        return self.train_rows.gather(1, order), self.scores.gather(1, order)

    def _epoch(self) -> Tensor:
        """Train for one epoch; return the mean loss (K,) over the steps' rows, of standardised scores."""
        rows, scores = self._shuffle()
        count = rows.shape[1]
        total = torch.zeros(len(self.heads), dtype=torch.float64, device=rows.device)
        for start in range(0, count, self.hyperparameters.batch_size):
            batch = slice(start, start + self.hyperparameters.batch_size)
            total += self._step(self._standardize(rows[:, batch]), scores[:, batch])
        return total / count

    def _standardize(self, rows: Tensor) -> Tensor:
        """Return the standardised inputs (K, B, d) of row numbers (K, B)."""
        gathered = self.inputs.index_select(0, rows.flatten()).view(*rows.shape, -1)
        return gathered.sub_(self.mean).div_(self.scale)

    def _step(self, inputs: Tensor, scores: Tensor) -> Tensor:
        """Train on inputs (K, B, d) and scores (K, B); return the loss (K,) before the update, times B."""
        products = self.network.products(self.layers, inputs)
        loss, product_gradients = self._loss_and_gradients(products, scores)
        for layer, product_gradient in product_gradients.items():
            torch.bmm(
                product_gradient.mT,
                inputs[..., self.network.columns(layer)],
                out=self.layer_gradients[f"{layer}.weight"],
            )
            torch.sum(product_gradient, 1, keepdim=True, out=self.layer_gradients[f"{layer}.bias"])
        self._update()
        return loss * scores.shape[1]

    def _loss_and_gradients(
        self, products: dict[str, Tensor], scores: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.is_published:
            return published_gradients(self.network, self.layers, self.layer_gradients, products, scores)
        mask = None
        if self.hyperparameters.dropout:
            mask = self._stack([head.dropout_mask(scores.shape[1]) for head in self.heads])
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
        for start, end in self.update_blocks:
            self.step_number.fill_(self.steps_done)  # the update adds 1
            learning_rate, weight_decay = self.heads[start].hyperparameters.update_key
            optimizer(
                [parameters[start:end]],
                [self.gradients[start:end]],
                [first_moments[start:end]],
                [second_moments[start:end]],
                [],
                [self.step_number],
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
        for place, loss in enumerate(training_losses.tolist()):
            head = self.heads[place]
            head.training_loss.append(head.loss_unit * loss)
            if head.validation_rows is not None:
                head.validation_loss.append(self._validation_loss(place))

    def _validation_loss(self, place: int) -> float:
        """Return the loss of one head's validation rows with the current weights, in the reported unit."""
        head = self.heads[place]
        rows = torch.as_tensor(head.validation_rows, dtype=torch.int64)
        truth = torch.from_numpy(head.scaling.scores(head.task.scores[head.validation_rows]))
        predicted = torch.from_numpy(self._predicted(place, rows))
        loss = LOSSES[self.hyperparameters.loss](predicted[None], truth[None])
        return head.loss_unit * float(loss)

    def _scaling(self, place: int) -> Standardization:
        """Return the scaling from one head's outputs to scores.

        Where the loss leaves the scale open, the scaling is the least-squares line of the training rows.
        """
        head = self.heads[place]
        if self.hyperparameters.loss not in SCALE_FREE_LOSSES:
            return head.scaling
        truth = head.task.scores[head.task.train]
        slope, intercept = _least_squares(self._predicted(place, self.train_rows[place]), truth)
        return replace(head.scaling, score_scale=slope, score_mean=intercept)

    def _predicted(
        self,
        place: int,
        rows: Tensor,
        inputs: Tensor | None = None,
    ) -> np.ndarray:
        """Predict standardised scores (M,) float64 by one head.

        Args:
            place: The head's place in the stack.
            rows: Numbers (M,) of rows of the inputs.
            inputs: Fused vectors; None for the vectors of the stack.
        """
        source = self.inputs if inputs is None else inputs
        layers = self.network.tensors(self.state[0][place : place + 1])
        parts: list[Tensor] = []
        for part in rows.split(BLOCK_ROWS):
            block = source[part.to(source.device)].to(self.inputs.device)
            block = block.sub_(self.mean[place]).div_(self.scale[place])
            parts.append(self.network.forward(layers, block[None])[0])
        return torch.cat(parts).double().cpu().numpy()

    def _predictor(self, place: int, scaling: Standardization) -> Predictor:
        def predict(fused: np.ndarray) -> np.ndarray:
            """Return the scores (n,) of fused vectors (n, d)."""
            if fused.ndim != 2 or fused.shape[1] != self.network.inputs:
                raise ValueError(
                    f"fused vectors have shape {fused.shape}, but the head expects "
                    f"{self.network.inputs} columns"
                )
            inputs = torch.from_numpy(np.ascontiguousarray(fused, np.float32))
            predicted = self._predicted(place, torch.arange(len(inputs)), inputs)
            return scaling.unscale(predicted)

        return predict


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _training_scores(head: StackedHead) -> Tensor:
    return _float32(head.scaling.scores(head.task.scores[head.task.train]))


def _update_blocks(heads: Sequence[StackedHead]) -> list[tuple[int, int]]:
    """Return the places [start, end) of neighbouring heads with equal learning rate and weight decay."""
    keys = [head.hyperparameters.update_key for head in heads]
    starts = [place for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    ends = [*starts[1:], len(heads)]
    return list(zip(starts, ends, strict=True))


def _least_squares(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Fit slope and intercept of a line from predictions (n,) to scores (n,); slope 0 if all are equal."""
    deviation = predicted.std()
    slope = 0.0
    if deviation:
        covariance = np.mean((predicted - predicted.mean()) * (truth - truth.mean()))
        slope = covariance / deviation**2
    intercept = truth.mean() - slope * predicted.mean()
    return float(slope), float(intercept)
