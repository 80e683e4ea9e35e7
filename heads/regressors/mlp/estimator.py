"""Heads that are networks, such as the published Linear(d, d // 2) - ReLU - Linear(d // 2, 1)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import check_random_state

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.base import BaseHead, History
from tier4k.heads.regressors.mlp.hyperparameters import (
    OPTIMIZERS,
    OPTION_NAMES,
    SCHEDULES,
    Hyperparameters,
)
from tier4k.heads.regressors.mlp.losses import LOSSES
from tier4k.heads.regressors.mlp.network import ACTIVATIONS, FUSIONS, Network, tensor_axes
from tier4k.heads.regressors.mlp.stack import StackedMLP
from tier4k.heads.regressors.options import Limits, Range
from tier4k.heads.regressors.tasks import FitTask, with_validation
from tier4k.heads.regressors.tensors import checked_tensors

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
    them, and act on fused vectors as `image_transform` leaves them: a standardisation used in training is
    folded into the weights. The published head has `fc1.weight` (h, d), `fc1.bias` (h,), `fc2.weight` (1, h)
    and `fc2.bias` (1,).

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
        fusion: "concatenation", "gated" or "bilinear"; the last two need the streams of X in `fit`.
        interaction: See `tier4k.heads.data.interactions`.
        image_transform, target_transform: See `tier4k.heads.regressors.transforms`.
        random_state: Seed of initial weights, validation rows, batch order and dropout.

    Attributes:
        weights_: The tensors, float32, of the epoch with the best validation loss (of the last without
            validation rows).
        best_epoch_: Number of that epoch, from 1; 0 if no epoch was better than the initial head.
        training_loss_: Mean loss of each epoch's steps; "mse" in squared units of the scores that the network
            is fitted to, other losses of standardised scores.
        validation_loss_: Loss of the validation rows after each epoch; empty without validation rows.
    """

    averages_crops: ClassVar[bool] = False
    is_network: ClassVar[bool] = True
    limits: ClassVar[Limits] = {
        **BaseHead.limits,
        "hidden": Range(1, 16384),
        "learning_rate": Range(0),
        "weight_decay": Range(0),
        "optimizer": tuple(OPTIMIZERS),
        "schedule": tuple(SCHEDULES),
        "batch_size": Range(1, 100_000),
        "max_epochs": Range(1, 100_000),
        "patience": Range(1, 100_000),
        "validation_fraction": Range(0, 0.9),
        "activation": tuple(ACTIVATIONS),
        "dropout": Range(0, 0.95),
        "loss": tuple(LOSSES),
        "fusion": tuple(FUSIONS),
    }
    training_loss_: list[float]
    validation_loss_: list[float]

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
        interaction: str = "none",
        image_transform: str = "none",
        target_transform: str = "none",
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
        self.interaction = interaction
        self.image_transform = image_transform
        self.target_transform = target_transform
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Mark the default learning rate as too slow for scikit-learn's toy problems of ten columns."""
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags

    @property
    def history(self) -> History:
        """Losses of the last training, one for each epoch; empty for a restored head."""
        return History(self.training_loss_, self.validation_loss_)

    def _predict(self, X: np.ndarray) -> np.ndarray:
        # In float64, so that batching changes nothing.
        axes = tensor_axes(self.fusion)
        network = Network.of_weights(self.weights_, self.activation, self.fusion)
        return network.predict({name: self.weights_[name] for name in axes}, X)

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        tensors = checked_tensors(weights, tensor_axes(self.fusion), f"{self.fusion} head")
        self.weights_ = {name: values.astype(np.float32) for name, values in tensors.items()}
        self.n_features_in_ = Network.of_weights(self.weights_, self.activation, self.fusion).inputs
        self.training_loss_ = []
        self.validation_loss_ = []

    @classmethod
    def _fit_many(
        cls,
        heads: Sequence[Self],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None],
        streams: Streams,
        device: str,
    ) -> None:
        """Fit several heads, side by side where they have one shape."""
        fit_stack(heads, X, tasks, device, finished, streams)

    def _hyperparameters(self, random: np.random.RandomState) -> Hyperparameters:
        options = {name: getattr(self, name) for name in OPTION_NAMES}
        return Hyperparameters(**options, seed=random.randint(2**31 - 1))


def fit_stack(
    heads: Sequence[MLPHead],
    X: np.ndarray,
    tasks: Sequence[FitTask],
    device: str = "cpu",
    finished: Callable[[int], None] = lambda _: None,
    streams: Streams | None = None,
) -> None:
    """Fit the networks of several heads to rows of one matrix X (N, d), each as if it were fitted alone.

    Args:
        heads: Unfitted heads, with any options; their transforms are not applied.
        X: Fused vectors, finite.
        tasks: For each head the scores of X's rows, its training rows and its validation rows.
        device: Device to train on, by torch's name.
        finished: Called with the number of each head, from 0, when the head is trained.
        streams: The streams of the columns of X; None for one stream.

    Raises:
        HeadError: The fusion of a head needs streams that X does not have.
    """
    hyperparameters: list[Hyperparameters] = []
    validated_tasks: list[FitTask] = []
    for head, task in zip(heads, tasks, strict=True):
        random = check_random_state(head.random_state)
        validated_tasks.append(with_validation(task, head.validation_fraction, random))
        hyperparameters.append(head._hyperparameters(random))
    fitted_heads = StackedMLP(hyperparameters, device).fit(X, validated_tasks, finished, streams)
    for head, fitted in zip(heads, fitted_heads, strict=True):
        head.n_features_in_ = X.shape[1]
        head.weights_ = fitted.weights
        head.best_epoch_ = fitted.best_epoch
        head.training_loss_ = fitted.training_loss
        head.validation_loss_ = fitted.validation_loss
