"""The published head, Linear(d, d // 2) - ReLU - Linear(d // 2, 1), as a scikit-learn estimator trained in torch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor, nn

from heads.choices import RecipeName
from heads.estimator import EpochListener, Weights
from heads.standardization import Standardization

PUBLISHED_RECIPE: dict[str, Any] = {
    "learning_rate": 1e-4,
    "weight_decay": 1e-5,
    "optimizer": "adam",
    "schedule": "constant",
    "batch_size": 8,
    "max_epochs": 100,
    "standardize": False,
    "validation_fraction": 0.0,
}
RECIPES: dict[RecipeName, dict[str, Any]] = {"cached": {}, "published": PUBLISHED_RECIPE}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def recipe_options(recipe: RecipeName, image_architecture: str) -> dict[str, Any]:
    """Options of `MLPHead` for a recipe; TIER-4K trains its vision transformer at a tenth of the learning rate.

    Args:
        recipe: "cached" (the defaults of `MLPHead`) or "published".
        image_architecture: timm's name of the image encoder.
    """
    options = dict(RECIPES[recipe])
    if recipe == "published" and image_architecture.startswith("vit_large"):
        options["learning_rate"] = 1e-5
    return options


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


class MLPHead(RegressorMixin, BaseEstimator):
    """TIER's regression head on fused features.

    Whatever the training options, a fitted head is four tensors `fc1.weight` (h, d), `fc1.bias` (h,), `fc2.weight` (1, h) and
    `fc2.bias` (1,) that act on raw fused vectors: a standardisation used in training is folded into them.

    Args:
        hidden: Width h of the hidden layer; None is d // 2, as published.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled decay ("adamw") or L2 penalty ("adam").
        optimizer: "adamw" or "adam".
        schedule: "cosine" to zero over `max_epochs`, or "constant".
        batch_size: Rows per step.
        max_epochs: Passes over the training rows.
        patience: Epochs without a better validation loss after which training stops.
        standardize: Train on inputs and scores of mean 0 and standard deviation 1.
        validation_fraction: Share of the rows that `fit` cuts out for early stopping where no validation rows are given; with
            0, or where it is less than one row, training runs to the end and the last weights stay.
        random_state: Seed of initial weights, validation rows and batch order.

    Attributes:
        weights_: The four tensors, float32, of the epoch with the best validation loss (of the last without validation rows).
        best_epoch_: That epoch, from 1.
        training_loss_: Mean squared error of each epoch's training steps, in squared score units.
        validation_loss_: The same on the validation rows after each epoch; empty without them.
    """

    averages_views: ClassVar[bool] = False

    def __init__(
        self,
        hidden: int | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        optimizer: str = "adamw",
        schedule: str = "cosine",
        batch_size: int = 128,
        max_epochs: int = 30,
        patience: int = 10,
        standardize: bool = True,
        validation_fraction: float = 0.15,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """The learning rate suits fused vectors of a thousand columns; on ten columns of a toy problem it is too slow for a good score."""
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        on_epoch: EpochListener | None = None,
    ) -> Self:
        """Train on fused vectors X (N, d) and scores y (N,).

        Args:
            X: Fused vectors.
            y: Mean opinion scores.
            validation: Fused vectors and scores that early stopping watches; None cuts them out of X.
            on_epoch: Called after each epoch with its number, from 1, and a function that predicts with the current weights.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        random = check_random_state(self.random_state)
        if validation is None:
            X, y, validation = self._cut_validation(X, y, random)
        scaling = Standardization.of(X, y) if self.standardize else Standardization.none(X.shape[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random.randint(2**31 - 1))
            network = HeadNetwork(X.shape[1], self.hidden)
            self._train(network, scaling, X, y, validation, on_epoch)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (N,) float64 of fused vectors X (N, d), computed in float64 so that batching changes nothing."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        weights = {name: values.astype(np.float64) for name, values in self.weights_.items()}
        hidden = np.maximum(X @ weights["fc1.weight"].T + weights["fc1.bias"], 0)
        return (hidden @ weights["fc2.weight"].T + weights["fc2.bias"])[:, 0]

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> "MLPHead":
        """A fitted head from its four tensors, as saved here or taken from a published checkpoint's `fc1` and `fc2`.

        Raises:
            ValueError: A tensor is missing or the shapes do not fit each other.
        """
        head = cls(**options)
        head.weights_ = {name: check_array(weights[name], ensure_2d=False, allow_nd=True, dtype=np.float32) for name in WEIGHT_NAMES}
        hidden, inputs = head.weights_["fc1.weight"].shape
        expected = {"fc1.weight": (hidden, inputs), "fc1.bias": (hidden,), "fc2.weight": (1, hidden), "fc2.bias": (1,)}
        found = {name: values.shape for name, values in head.weights_.items()}
        if found != expected:
            raise ValueError(f"not the weights of one head: expected {expected}, found {found}")
        head.n_features_in_ = inputs
        return head

    def _cut_validation(
        self, X: np.ndarray, y: np.ndarray, random: np.random.RandomState
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
        count = int(self.validation_fraction * len(X))
        if not count:
            return X, y, None
        order = random.permutation(len(X))
        held, kept = order[:count], order[count:]
        return X[kept], y[kept], (X[held], y[held])

    def _train(
        self,
        network: HeadNetwork,
        scaling: Standardization,
        X: np.ndarray,
        y: np.ndarray,
        validation: tuple[np.ndarray, np.ndarray] | None,
        on_epoch: EpochListener | None,
    ) -> None:
        inputs, scores = _tensor(scaling.inputs(X)), _tensor(scaling.scores(y))
        watched = (_tensor(scaling.inputs(validation[0])), _tensor(scaling.scores(validation[1]))) if validation else None
        optimizer = self._optimizer(network)
        schedule = self._schedule(optimizer, steps=-(-len(inputs) // self.batch_size))
        unit = scaling.score_scale**2
        self.training_loss_, self.validation_loss_ = [], []
        self.best_epoch_, best = 0, network.state_dict()

        def predict(fused: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return scaling.unscale(network(_tensor(scaling.inputs(fused))).numpy())

        for epoch in range(1, self.max_epochs + 1):
            self.training_loss_.append(unit * self._epoch(network, optimizer, schedule, inputs, scores))
            if watched:
                with torch.inference_mode():
                    self.validation_loss_.append(unit * float(nn.functional.mse_loss(network(watched[0]), watched[1])))
            if on_epoch:
                on_epoch(epoch, predict)
            if not watched or self.validation_loss_[-1] <= min(self.validation_loss_):
                self.best_epoch_ = epoch
                best = {name: tensor.clone() for name, tensor in network.state_dict().items()} if watched else network.state_dict()
            elif epoch - self.best_epoch_ >= self.patience:
                break
        network.load_state_dict(best)
        self.weights_ = _fold(network, scaling)

    def _epoch(
        self,
        network: HeadNetwork,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        inputs: Tensor,
        scores: Tensor,
    ) -> float:
        """One pass in random order; the mean loss over its rows."""
        total = 0.0
        for rows in torch.randperm(len(inputs)).split(self.batch_size):
            loss = nn.functional.mse_loss(network(inputs[rows]), scores[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        return total / len(inputs)

    def _optimizer(self, network: HeadNetwork) -> torch.optim.Optimizer:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"there is no optimizer {self.optimizer!r}: choose {', '.join(OPTIMIZERS)}")
        # Fused: the plain implementation moves each of Adam's tensors through memory several times a step.
        return OPTIMIZERS[self.optimizer](network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)

    def _schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        if self.schedule == "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps * self.max_epochs)
        if self.schedule == "constant":
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        raise ValueError(f"there is no schedule {self.schedule!r}: choose cosine or constant")


def _fold(network: HeadNetwork, scaling: Standardization) -> Weights:
    """Weights of the published shape that take raw inputs and give raw scores."""
    raw = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in network.state_dict().items()}
    first = raw["fc1.weight"] / scaling.scale
    folded = {
        "fc1.weight": first,
        "fc1.bias": raw["fc1.bias"] - first @ scaling.mean,
        "fc2.weight": raw["fc2.weight"] * scaling.score_scale,
        "fc2.bias": raw["fc2.bias"] * scaling.score_scale + scaling.score_mean,
    }
    return {name: values.astype(np.float32) for name, values in folded.items()}


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


WEIGHT_NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
