"""The training loop of heads that are networks: K heads of one shape, side by side. The CPU trains the published one in `tier4k.heads.regressors.mlp.numba_backend`.

A step is two products with each of the first layers' weights (K, h, d), the second written into buffers that are there already, and one
fused update. What lies between, of the size of the hidden units, is written by hand for the published head and loss, and autograd's for
others.
"""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tier4k.heads.regressors.base import FitTask, Weights
from tier4k.heads.regressors.mlp.losses import FREE_LOSSES, LOSSES
from tier4k.heads.regressors.mlp.network import Network
from tier4k.heads.regressors.mlp.recipe import OPTIMIZERS, SCHEDULES, Recipe
from tier4k.heads.regressors.standardization import Standardization

BLOCK_ROWS = 4096  # rows predicted at once

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch's defaults

ADAM = {
    "beta1": BETA1,
    "beta2": BETA2,
    "eps": EPSILON,
    "amsgrad": False,
    "maximize": False,
    "foreach": False,
    "fused": True,
}

TENSORS = 4  # of a head's size, at most: weights, gradients, two moments


@dataclass(frozen=True)
class Fitted:
    """A trained head: weights that act on raw fused vectors and what `MLPHead` tells of its training."""

    weights: Weights
    best_epoch: int
    training_loss: list[float]
    validation_loss: list[float]


class StackedHead:
    """One head of a stack: what it is given, where its random numbers stand, and what is known of its training so far."""

    def __init__(
        self, number: int, network: Network, recipe: Recipe, task: FitTask, scaling: Standardization
    ) -> None:
        self.number, self.network, self.recipe, self.task, self.scaling = (
            number,
            network,
            recipe,
            task,
            scaling,
        )
        self.shared = (*astuple(network), *recipe.shared, len(task.train))
        self.rates = recipe.learning_rate, recipe.weight_decay
        self.random = torch.Generator().manual_seed(recipe.seed)
        self.training_loss: list[float] = []
        self.validation_loss: list[float] = []
        self.best_epoch, self.best_loss = 0, math.inf
        self.best: tuple[Tensor, Standardization] | None = None
        # As it begins; when it is trained, as it is kept, with its scaling. What is done here or in `fitted` is done for all heads at a
        # time: between two passes it would let threads fall asleep, which take long to get back to work on a core of their own.
        self.parameters = self._initial()

    @property
    def is_published(self) -> bool:
        """Whether network and loss are TIER's."""
        return self.network.is_published and self.recipe.loss == "mse" and not self.recipe.dropout

    @property
    def watched(self) -> np.ndarray | None:
        """Numbers of the validation rows, if there are any."""
        rows = self.task.validation
        return rows if rows is not None and len(rows) else None

    def _initial(self) -> Tensor:
        """Initial parameters (P,); the batch order goes on with the same stream of random numbers."""
        drawn = self.network.initial(self.random)
        return drawn if self.task.start is None else self.network.unfolded(self.task.start, self.scaling)

    def order(self) -> Tensor:
        """The next epoch's order of the training rows (n,)."""
        return torch.randperm(len(self.task.train), generator=self.random)

    def mask(self, rows: int) -> Tensor:
        """What dropout multiplies the next step's hidden units (rows, h) by."""
        kept = 1 - self.recipe.dropout
        return (torch.rand(rows, self.network.hidden, generator=self.random) < kept) / kept

    @property
    def loss_unit(self) -> float:
        """What a loss of standardised scores is multiplied by: squared error has squared score units, other losses have none."""
        return self.scaling.score_scale**2 if self.recipe.loss == "mse" else 1.0

    def record_start(self, loss: float, parameters: Tensor) -> None:
        """Note how good the head that training starts from is: where no epoch is better, it stays as it was."""
        self.best_loss, self.best = loss, (parameters.clone(), self.scaling)

    def evaluate_scorer(self, parameters: Tensor, scaling: Standardization) -> bool:
        """Note the epoch that ended with these parameters (P,) and this scaling; whether training goes on."""
        epoch = len(self.training_loss)
        if self.watched is None:
            self.best_epoch = epoch
        elif self.validation_loss[-1] <= self.best_loss:  # never where it is NaN
            self.best_epoch, self.best_loss, self.best = (
                epoch,
                self.validation_loss[-1],
                (parameters.clone(), scaling),
            )
        return epoch - self.best_epoch < self.recipe.patience or self.watched is None

    def finish(self, parameters: Tensor, scaling: Standardization) -> None:
        """Keep the best epoch's parameters; the last ones (P,) where no epoch is known to be better than another."""
        kept, self.scaling = self.best or (parameters, scaling)
        self.parameters, self.best = kept.to("cpu", copy=True), None

    def fitted(self) -> Fitted:
        """The result."""
        return Fitted(
            self.network.folded(self.parameters, self.scaling),
            self.best_epoch,
            self.training_loss,
            self.validation_loss,
        )


class StackTrainer:
    """K heads of one shape and one number of training rows n, trained side by side on inputs (N, d)."""

    def __init__(self, inputs: Tensor, members: list[StackedHead]) -> None:
        self.inputs, self.members = inputs, members
        self.recipe, self.network = members[0].recipe, members[0].network
        self.differentiate = self._by_hand if members[0].is_published else self._by_autograd
        self.steps = -(-len(members[0].task.train) // self.recipe.batch_size)
        self.step_number = torch.zeros((), device=inputs.device)
        self.done = 0
        self.train = self._stack(
            [torch.as_tensor(member.task.train, dtype=torch.int64) for member in members]
        )
        scores = [member.scaling.scores(member.task.scores[member.task.train]) for member in members]
        self.scores = self._stack([torch.from_numpy(values.astype(np.float32)) for values in scores])
        self.mean = self._stack(
            [torch.from_numpy(member.scaling.mean.astype(np.float32)) for member in members]
        )[:, None]
        self.scale = self._stack(
            [torch.from_numpy(member.scaling.scale.astype(np.float32)) for member in members]
        )[:, None]
        parameters = self._stack([member.parameters for member in members])
        self._hold([parameters, torch.zeros_like(parameters), torch.zeros_like(parameters)])

    @torch.no_grad()
    def run(self, finished: Callable[[int], None]) -> None:
        """Train until every head has stopped."""
        for place, member in enumerate(self.members):
            if member.task.start is not None and member.watched is not None:
                member.record_start(self._validation_loss(place), self.state[0][place])
        for epoch in range(1, self.recipe.max_epochs + 1):
            self._note_losses(self._epoch())
            scalings = [self._scaling(place) for place in range(len(self.members))]
            for place, member in enumerate(self.members):
                if member.task.on_epoch:
                    member.task.on_epoch(epoch, self._predictor(place, scalings[place]))
            going_on = [
                member.evaluate_scorer(self.state[0][place], scalings[place])
                for place, member in enumerate(self.members)
            ]
            if epoch == self.recipe.max_epochs:
                going_on = [False] * len(self.members)
            self._part(going_on, scalings, finished)
            if not self.members:
                break

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack(tensors).to(self.inputs.device)

    def _hold(self, state: list[Tensor]) -> None:
        """Take parameters and the two moments, each (K, P), make room for gradients, and look at them as layers."""
        self.state, self.gradients = state, torch.zeros_like(state[0])
        self.layers, self.gradients_of = (self.network.crops(flat) for flat in (state[0], self.gradients))
        # Rows [start, end) of the state that share learning rate and penalty.
        starts = [
            place
            for place, member in enumerate(self.members)
            if place == 0 or member.rates != self.members[place - 1].rates
        ]
        self.blocks = list(zip(starts, [*starts[1:], len(self.members)], strict=True))

    def _part(
        self, going_on: list[bool], scalings: list[Standardization], finished: Callable[[int], None]
    ) -> None:
        """Let heads go that have stopped."""
        if all(going_on):
            return
        for place, member in enumerate(self.members):
            if not going_on[place]:
                member.finish(self.state[0][place], scalings[place])
                finished(member.number)
        left = [place for place, goes_on in enumerate(going_on) if goes_on]
        self.members = [self.members[place] for place in left]
        if not left:
            return
        self.train, self.scores, self.mean, self.scale = (
            each[left] for each in (self.train, self.scores, self.mean, self.scale)
        )
        self._hold([flat[left] for flat in self.state])

    def _ordered(self) -> tuple[Tensor, Tensor]:
        """Numbers and scores (K, n) of the training rows in the next epoch's order."""
        order = self._stack([member.order() for member in self.members])
        return self.train.gather(1, order), self.scores.gather(1, order)

    def _epoch(self) -> Tensor:
        """One pass, each head in its own random order; the mean loss (K,) over the steps' rows, in standardised scores."""
        rows, scores = self._ordered()
        total = torch.zeros(len(self.members), dtype=torch.float64, device=rows.device)
        for start in range(0, rows.shape[1], self.recipe.batch_size):
            here = slice(start, start + self.recipe.batch_size)
            total += self._step(self._standardized(rows[:, here]), scores[:, here])
        return total / rows.shape[1]

    def _step(self, inputs: Tensor, scores: Tensor) -> Tensor:
        """One step on inputs (K, B, d) and scores (K, B); the loss before it, times B (K,)."""
        loss, by_products = self.differentiate(self.network.products(self.layers, inputs), scores)
        for layer, by_product in by_products.items():
            torch.bmm(
                by_product.mT,
                inputs[..., self.network.columns(layer)],
                out=self.gradients_of[f"{layer}.weight"],
            )
            torch.sum(by_product, 1, keepdim=True, out=self.gradients_of[f"{layer}.bias"])
        self._update()
        return loss * scores.shape[1]

    def _by_hand(self, products: dict[str, Tensor], scores: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The published network and loss: the loss (K,), and its slopes by what the first layers made (K, B, h); notes the last layer's."""
        hidden = self.network.hidden_units(products)
        error = self.network.scores(self.layers, hidden) - scores
        by_score = (error * (2 / scores.shape[1])).unsqueeze(2)
        torch.bmm(by_score.mT, hidden, out=self.gradients_of["fc2.weight"])
        torch.sum(by_score, 1, keepdim=True, out=self.gradients_of["fc2.bias"])
        return error.square().mean(1), {
            "fc1": torch.ops.aten.threshold_backward(by_score * self.layers["fc2.weight"], hidden, 0)
        }

    def _by_autograd(self, products: dict[str, Tensor], scores: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same of any network and loss."""
        last = {name: self.layers[name] for name in ("fc2.weight", "fc2.bias")}
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in (products | last).items()}
        with torch.enable_grad():
            hidden = self.network.hidden_units(leaves)
            if self.recipe.dropout:
                hidden = hidden * self._stack([member.mask(scores.shape[1]) for member in self.members])
            loss = LOSSES[self.recipe.loss](self.network.scores(leaves, hidden), scores)
            found = dict(zip(leaves, torch.autograd.grad(loss.sum(), list(leaves.values())), strict=True))
        for name in last:
            self.gradients_of[name].copy_(found.pop(name))
        return loss.detach(), found

    def _factor(self, done: int) -> float:
        """Of the learning rates of the step after so many."""
        return SCHEDULES[self.recipe.schedule](done / (self.steps * self.recipe.max_epochs))

    def _update(self) -> None:
        factor = self._factor(self.done)
        for start, end in self.blocks:
            self.step_number.fill_(self.done)  # which the update counts up
            rate, decay = self.members[start].rates
            parameters, gradients_of, *moments = (
                [flat[start:end]] for flat in (self.state[0], self.gradients, *self.state[1:])
            )
            OPTIMIZERS[self.recipe.optimizer](
                parameters,
                gradients_of,
                *moments,
                [],
                [self.step_number],
                lr=rate * factor,
                weight_decay=decay,
                **ADAM,
            )
        self.done += 1

    def _standardized(self, rows: Tensor) -> Tensor:
        """Inputs (K, B, d) of row numbers (K, B)."""
        gathered = self.inputs.index_select(0, rows.flatten()).view(*rows.shape, -1)
        return gathered.sub_(self.mean).div_(self.scale)

    def _note_losses(self, training: Tensor) -> None:
        for place, (member, loss) in enumerate(zip(self.members, training.tolist(), strict=True)):
            member.training_loss.append(member.loss_unit * loss)
            if member.watched is not None:
                member.validation_loss.append(self._validation_loss(place))

    def _validation_loss(self, place: int) -> float:
        """Of one head's validation rows with the weights of now, in the unit that users are told."""
        member = self.members[place]
        truth = torch.from_numpy(member.scaling.scores(member.task.scores[member.watched]))
        predicted = torch.from_numpy(
            self._predicted(place, torch.as_tensor(member.watched, dtype=torch.int64))
        )
        return member.loss_unit * float(LOSSES[self.recipe.loss](predicted[None], truth[None]))

    def _scaling(self, place: int) -> Standardization:
        """How the outputs of one head become scores; where the loss leaves that open, by the least squares of the training rows."""
        member = self.members[place]
        if self.recipe.loss not in FREE_LOSSES:
            return member.scaling
        truth, predicted = member.task.scores[member.task.train], self._predicted(place, self.train[place])
        deviation = predicted.std()
        slope = (
            np.mean((predicted - predicted.mean()) * (truth - truth.mean())) / deviation**2
            if deviation
            else 0.0
        )
        return replace(
            member.scaling,
            score_scale=float(slope),
            score_mean=float(truth.mean() - slope * predicted.mean()),
        )

    def _predicted(self, place: int, rows: Tensor, inputs: Tensor | None = None) -> np.ndarray:
        """Standardised scores (M,) float64 by one head of row numbers (M,) of `inputs`, or of its own inputs."""
        layers = self.network.crops(self.state[0][place : place + 1])
        source, parts = self.inputs if inputs is None else inputs, []
        for part in rows.split(BLOCK_ROWS):
            block = (
                source[part.to(source.device)]
                .to(self.inputs.device)
                .sub_(self.mean[place])
                .div_(self.scale[place])
            )
            parts.append(self.network.forward(layers, block[None])[0])
        return torch.cat(parts).double().cpu().numpy()

    def _predictor(self, place: int, scaling: Standardization) -> Callable[[np.ndarray], np.ndarray]:
        def predict(fused: np.ndarray) -> np.ndarray:
            if fused.ndim != 2 or fused.shape[1] != self.network.inputs:
                raise ValueError(
                    f"fused vectors of shape {fused.shape} are given to a head of {self.network.inputs} columns"
                )
            inputs = torch.from_numpy(np.ascontiguousarray(fused, np.float32))
            return scaling.unscale(self._predicted(place, torch.arange(len(inputs)), inputs))

        return predict
