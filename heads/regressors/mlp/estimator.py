"""Heads that are networks, such as the published Linear(d, d // 2) - ReLU - Linear(d // 2, 1)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.heads.regressors.base import (
    BaseHead,
    EpochListener,
    FitTask,
    HeldOut,
    History,
    checked_tensors,
    fit_task,
    with_validation,
)
from tier4k.heads.regressors.mlp.hyperparameters import (
    OPTIMIZERS,
    OPTION_NAMES,
    SCHEDULES,
    Hyperparameters,
)
from tier4k.heads.regressors.mlp.losses import LOSSES
from tier4k.heads.regressors.mlp.network import ACTIVATIONS, FUSIONS, Network, tensor_axes, width_of
from tier4k.heads.regressors.mlp.stack import StackedMLP
from tier4k.heads.regressors.options import Limits, Range, require_within

WEIGHT_NAMES = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")  # of the published network


class MLPHead(BaseHead):
    """TIER's regression head on fused features, and networks beyond it in which the text modulates the image.

    With x = [t, p], text t first, image p after it, and the activation f, the score is linear, `fc2`, in the
    hidden units
    - "concatenation", as published: f(fc1 x);
    - "gated": f(text t + 2 sigmoid(gate t) * image p), the feature-wise gating of Arevalo et al. (ICLR
      workshop 2017) and Perez et al. (AAAI 2018); with a gate of 0 this is the published network;
    - "bilinear": f(text t) * f(image p), low-rank bilinear pooling (Kim et al., ICLR 2017).

    Whatever the training options, a fitted head is the weights and biases of these layers, as `nn.Linear` has
    them, and act on raw fused vectors: a standardisation used in training is folded into the weights. The
    published head has `fc1.weight` (h, d), `fc1.bias` (h,), `fc2.weight` (1, h) and `fc2.bias` (1,).

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
        validation_fraction: Share of the rows that `fit` cuts out for early stopping where no validation rows
            are given; with 0, or where it is less than one row, training runs to the end and keeps the last
            weights.
        activation: "relu", "gelu" or "silu".
        dropout: Share of hidden units left out of each training step.
        loss: "mse", "plcc", "rank" or "mixture"; see `tier4k.heads.regressors.mlp.losses`.
        fusion: "concatenation", "gated" or "bilinear".
        text_width: Number of text columns of X, which come first; "gated" and "bilinear" need it.
        random_state: Seed of initial weights, validation rows, batch order and dropout.

    Attributes:
        weights_: The tensors, float32, of the epoch with the best validation loss (of the last without
            validation rows).
        best_epoch_: Number of that epoch, from 1; 0 if no epoch was better than the initial head.
        training_loss_: Mean loss of each epoch's steps; "mse" in squared score units, other losses of
            standardised scores.
        validation_loss_: Loss of the validation rows after each epoch; empty without validation rows.
    """

    averages_crops: ClassVar[bool] = False
    limits: ClassVar[Limits] = {
        "hidden": Range(1),
        "learning_rate": Range(0),
        "weight_decay": Range(0),
        "optimizer": tuple(OPTIMIZERS),
        "schedule": tuple(SCHEDULES),
        "batch_size": Range(1),
        "max_epochs": Range(1),
        "patience": Range(1),
        "validation_fraction": Range(0, 0.9),
        "activation": tuple(ACTIVATIONS),
        "dropout": Range(0, 0.95),
        "loss": tuple(LOSSES),
        "fusion": tuple(FUSIONS),
        "text_width": Range(1),
    }

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
        activation: str = "relu",
        dropout: float = 0.0,
        loss: str = "mse",
        fusion: str = "concatenation",
        text_width: int | None = None,
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
        self.activation = activation
        self.dropout = dropout
        self.loss = loss
        self.fusion = fusion
        self.text_width = text_width
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Mark the default learning rate as too slow for scikit-learn's toy problems of ten columns."""
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: HeldOut | None = None,
        on_epoch: EpochListener | None = None,
    ) -> Self:
        """Train on fused vectors X (N, d) and scores y (N,).

        Args:
            X: Fused vectors.
            y: Mean opinion scores.
            validation: Fused vectors and scores for early stopping; None cuts validation rows out of X.
            on_epoch: Called after each epoch with its number, from 1, and a function that predicts with the
                current weights.

        Raises:
            HeadError: An option has a value outside its limits.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
        fit_stack([self], *fit_task(X, y, validation, on_epoch))
        return self

    @property
    def history(self) -> History:
        """Losses of the last training, one for each epoch; empty for a restored head."""
        return History(self.training_loss_, self.validation_loss_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return scores (N,) float64 of fused vectors X (N, d).

        The scores are computed in float64, so that batching changes nothing.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        hidden = self.weights_["fc2.weight"].shape[1]
        network = Network.of(X.shape[1], hidden, self.activation, self.fusion, self.text_width)
        return network.predict(self.weights_, X)

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> "MLPHead":
        """Return a fitted head with these tensors.

        Args:
            weights: Tensors as in `weights_`, or `fc1` and `fc2` of a published checkpoint.
            options: Options of the head.

        Raises:
            ValueError: A tensor is missing or the shapes do not fit each other.
        """
        head = cls(**options)
        tensors = checked_tensors(weights, tensor_axes(head.fusion), f"{head.fusion} head")
        head.weights_ = {name: values.astype(np.float32) for name, values in tensors.items()}
        head.n_features_in_ = width_of(head.weights_, head.fusion)
        head.training_loss_ = []
        head.validation_loss_ = []
        return head

    @classmethod
    def fit_many(
        cls,
        heads: Sequence["MLPHead"],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fit several heads on rows of one matrix X (N, d), side by side where they have one shape."""
        fit_stack(heads, X, tasks, finished=finished)

    def _hyperparameters(self, random: np.random.RandomState) -> Hyperparameters:
        options = {name: getattr(self, name) for name in OPTION_NAMES}
        return Hyperparameters(**options, seed=random.randint(2**31 - 1))


def fit_stack(
    heads: Sequence[MLPHead],
    X: np.ndarray,
    tasks: Sequence[FitTask],
    device: str = "cpu",
    finished: Callable[[int], None] = lambda _: None,
) -> None:
    """Fit several heads on rows of one matrix of fused vectors X (N, d), each as if it were fitted alone.

    Args:
        heads: Unfitted heads, with any options.
        X: Fused vectors, finite.
        tasks: For each head the scores of X's rows, its training rows and its validation rows.
        device: Device to train on, by torch's name.
        finished: Called with the number of each head, from 0, when the head is trained.

    Raises:
        HeadError: An option has a value outside its limits.
    """
    hyperparameters: list[Hyperparameters] = []
    validated_tasks: list[FitTask] = []
    for head, task in zip(heads, tasks, strict=True):
        require_within(head.get_params(), head.limits)
        random = check_random_state(head.random_state)
        validated_tasks.append(with_validation(task, head.validation_fraction, random))
        hyperparameters.append(head._hyperparameters(random))
    fitted_heads = StackedMLP(hyperparameters, device).fit(X, validated_tasks, finished)
    for head, fitted in zip(heads, fitted_heads, strict=True):
        head.n_features_in_ = X.shape[1]
        head.weights_ = fitted.weights
        head.best_epoch_ = fitted.best_epoch
        head.training_loss_ = fitted.training_loss
        head.validation_loss_ = fitted.validation_loss
