"""The protocol of a head: a scikit-learn regressor whose fitted state consists of named tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.heads.data.interactions import INTERACTIONS, Interactions, without_interactions
from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.options import HeadError, Limits, Subset, require_within
from tier4k.heads.regressors.tasks import FitTask, HeldOut, WatchedRows, Weights, fit_task
from tier4k.heads.regressors.transforms import (
    IMAGE_TRANSFORMS,
    SMEARED,
    TARGET_TRANSFORMS,
    Transforms,
    without_transforms,
)


@dataclass(frozen=True)
class History:
    """Losses of a training, one for each epoch; both are empty where a head has no epochs.

    Attributes:
        training_loss: Mean loss of the epoch's steps, in the unit of the head's loss.
        validation_loss: Loss of the validation rows after the epoch; empty without validation rows.
    """

    training_loss: Sequence[float] = ()
    validation_loss: Sequence[float] = ()


class Head(Protocol):
    """Everything that a run needs of a head. `BaseHead` has defaults for what most heads lack."""

    averages_crops: ClassVar[bool]
    """Whether the head is fitted on the mean over an image's crops; else every crop is a separate row."""

    is_network: ClassVar[bool]
    """Whether the head is a network, which can be fitted on a GPU; other heads are fitted on the CPU."""

    limits: ClassVar[Limits]
    """The valid values of the head's options."""

    weights_: Weights
    n_features_in_: int
    interactions_: Interactions
    transforms_: Transforms

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: HeldOut | None = None,
        groups: np.ndarray | None = None,
        streams: Streams | None = None,
    ) -> Self:
        """Fit on fused vectors X (N, d) and scores y (N,)."""

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the scores (N,) of fused vectors X (N, d)."""

    @classmethod
    def fit_many(
        cls,
        heads: Sequence[Any],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = ...,
        streams: Streams | None = None,
        device: str = ...,
    ) -> None:
        """Fit several heads of this class on rows of one matrix X (N, d), sharing common work.

        `finished` is called with the number of each head, from 0, when the head is fitted; `streams` are the
        streams of the columns of X; networks are fitted on `device`, by torch's name.
        """

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Make a fitted head from the tensors of `weights_`."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return every option by name."""

    @property
    def history(self) -> History:
        """Losses of the last fit; empty where the head has no epochs."""

    @property
    def validation_prediction(self) -> np.ndarray | None:
        """(v,) scores of the validation rows as predicted before the head was fitted on them.

        None where the head is not fitted on its validation rows: `predict` gives these scores then.
        """

    @property
    def held_out_prediction(self) -> np.ndarray | None:
        """(n,) scores of the training rows, each predicted without the rows of its group.

        None where the head has no closed form of these scores, or was fitted without groups.
        """


class BaseHead(RegressorMixin, BaseEstimator):
    """What all heads have in common: their conventions, interactions, and transforms of inputs and scores.

    Every head has three options besides its own: `interaction` ("none", or names such as "cosine+product";
    see `tier4k.heads.data.interactions`), `image_transform` ("none" or "sqrt") and `target_transform` ("none"
    or "rank-gauss"; see `tier4k.heads.regressors.transforms`). A subclass only has parameters for them: its
    `_fit_many`, `_predict` and `_restore` receive vectors with the columns of the interaction in the place of
    embeddings, transformed, and transformed scores.

    Attributes:
        interactions_: The fitted transformer that computes the columns of the interaction.
        transforms_: The fitted transforms.
        held_out_: (n,) scores of the training rows, each predicted without the rows of its group; None where
            the head has no closed form of these scores, or was fitted without groups.
        validation_prediction_: (v,) scores of the validation rows as predicted before the head was fitted on
            them; None where the head is not fitted on its validation rows.
    """

    is_network: ClassVar[bool] = False
    limits: ClassVar[Limits] = {
        "interaction": Subset(INTERACTIONS),
        "image_transform": IMAGE_TRANSFORMS,
        "target_transform": TARGET_TRANSFORMS,
    }
    interaction: str
    image_transform: str
    target_transform: str
    weights_: Weights
    n_features_in_: int
    interactions_: Interactions = Interactions()
    transforms_: Transforms = Transforms()
    held_out_: np.ndarray | None = None
    validation_prediction_: np.ndarray | None = None

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        validation: HeldOut | None = None,
        groups: np.ndarray | None = None,
        streams: Streams | None = None,
    ) -> Self:
        """Fit on fused vectors X (N, d) and scores y (N,).

        Args:
            X: Fused vectors.
            y: Mean opinion scores.
            validation: Fused vectors and scores for early stopping or for the choice of options; with None,
                heads that need such rows cut them out of X.
            groups: (N,) prompt of each row of X, for heads that predict rows without those of their prompt.
            streams: The streams of the columns of X; with None all columns count as features of the image.

        Raises:
            HeadError: An option is out of its limits, or the streams do not fit X.
            InteractionError: X lacks embeddings that the interaction needs.
        """
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            y_numeric=True,
            ensure_min_samples=2,
        )
        rows, task = fit_task(X, y, validation, groups)
        self.fit_many([self], rows, [task], streams=streams)
        return self

    @classmethod
    def fit_many(
        cls,
        heads: Sequence[Self],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None] = lambda _: None,
        streams: Streams | None = None,
        device: str = "cpu",
    ) -> None:
        """Fit several heads on rows of one matrix of fused vectors X (N, d), sharing common work.

        Args:
            heads: Unfitted heads, with any options.
            X: Fused vectors, finite.
            tasks: Rows and scores of each head.
            finished: Called with the number of each head, from 0, when the head is fitted.
            streams: The streams of the columns of X; with None all columns count as features of the image.
            device: Device on which networks are fitted, by torch's name; other heads are fitted on the CPU.

        Raises:
            HeadError: An option is out of its limits, or the streams do not fit X.
            InteractionError: X lacks embeddings that the interaction needs.
        """
        for head in heads:
            require_within(head.get_params(), head.limits)
        streams = _checked_streams(streams, X.shape[1])
        for numbers in _with_same_inputs(heads, tasks):
            cls._fit_transformed(
                [heads[number] for number in numbers],
                X,
                [tasks[number] for number in numbers],
                _renumbered(finished, numbers),
                streams,
                device,
            )

    @classmethod
    def _fit_transformed(
        cls,
        heads: Sequence[Self],
        X: np.ndarray,
        tasks: Sequence[FitTask],
        finished: Callable[[int], None],
        streams: Streams,
        device: str,
    ) -> None:
        """Fit heads that transform their inputs alike."""
        interactions = Interactions(heads[0].interaction, streams)
        columns = _interaction_columns(interactions, X, tasks[0])
        streams = interactions.output_streams()
        model_tasks = []
        for head, task in zip(heads, tasks, strict=True):
            head.held_out_ = None
            head.validation_prediction_ = None
            head.interactions_ = interactions
            head.transforms_ = Transforms.of(
                head.image_transform, head.target_transform, streams, task.scores[task.train]
            )
            model_tasks.append(head._model_task(task))
        inputs = heads[0].transforms_.inputs(columns)
        cls._fit_many(heads, inputs, model_tasks, finished, streams, device)
        for head in heads:
            head.n_features_in_ = X.shape[1]
            head._map_back()

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
        """Fit the models of several heads to transformed vectors X (N, d) and scores; set `weights_`."""
        raise NotImplementedError

    def _map_back(self) -> None:
        """Convert the model's predictions in training to scores, and complete the tensors."""
        if self.held_out_ is not None:
            self.held_out_ = self.transforms_.scores(self.held_out_)
        if self.validation_prediction_ is not None:
            self.validation_prediction_ = self.transforms_.scores(self.validation_prediction_)
        self.weights_ = self.weights_ | self.interactions_.tensors | self.transforms_.tensors

    def _smear(self, targets: np.ndarray) -> None:
        """Map predictions back to mean scores from now on, if `target_transform` says so.

        Heads whose limits have `SMEARED` call it when `held_out_` is set, before they report predictions.

        Args:
            targets: (n,) what the model was fitted to.

        Raises:
            HeadError: There are no predictions of training rows without their prompt.
        """
        if self.target_transform != SMEARED:
            return
        if self.held_out_ is None:
            raise HeadError(
                f"target_transform={SMEARED} predicts each training row without its prompt, which needs two "
                "prompts or more: pass the prompts as groups to fit, or use target_transform=rank-gauss"
            )
        self.transforms_ = self.transforms_.smeared(targets - self.held_out_)

    def _inputs(self, X: np.ndarray) -> np.ndarray:
        """Return the inputs of the head's model for fused vectors X (N, d)."""
        if self.interactions_.changes:
            X = self.interactions_.transform(X)
        return self.transforms_.inputs(X)

    def _model_task(self, task: FitTask) -> FitTask:
        """Return the task of the head's model: transformed scores, and a listener that receives scores."""
        return replace(
            task,
            scores=self.transforms_.targets(task.scores),
            watched=self._watched_by_model(task.watched) if task.watched else None,
            start=None if task.start is None else _model_weights(task.start),
        )

    def _watched_by_model(self, watched: WatchedRows) -> WatchedRows:
        def on_epoch(epoch: int, predicted: np.ndarray) -> None:
            watched.on_epoch(epoch, self.transforms_.scores(predicted))

        return WatchedRows(watched.rows, on_epoch)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return scores (N,) float64 of fused vectors X (N, d)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.transforms_.scores(self._predict(self._inputs(X)))

    def _predict(self, X: np.ndarray) -> np.ndarray:
        """Return the model's predictions (N,) float64 of transformed vectors X (N, d)."""
        raise NotImplementedError

    @classmethod
    def from_weights(cls, weights: Mapping[str, np.ndarray], **options: Any) -> Self:
        """Make a fitted head from the tensors of `weights_`.

        Raises:
            ValueError: A tensor is missing or the shapes do not fit each other.
        """
        head = cls(**options)
        head._restore(_model_weights(weights))
        width = head.n_features_in_  # of the model
        head.interactions_ = Interactions.restore(head.interaction, weights, width)
        head.transforms_ = Transforms.restore(head.image_transform, head.target_transform, weights, width)
        head.n_features_in_ = head.interactions_.n_features_in_
        head._map_back()
        return head

    def _restore(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set `weights_` and `n_features_in_` from the tensors of the model."""
        raise NotImplementedError

    @property
    def history(self) -> History:
        """No losses, as training is a single step."""
        return History()

    @property
    def validation_prediction(self) -> np.ndarray | None:
        """(v,) scores of the validation rows, predicted before the head was fitted on them; else None."""
        return self.validation_prediction_

    @property
    def held_out_prediction(self) -> np.ndarray | None:
        """(n,) scores of the training rows, each predicted without its group; None if unknown."""
        return self.held_out_


def _checked_streams(streams: Streams | None, width: int) -> Streams:
    if streams is None:
        return Streams.of(image=width)
    if streams.width != width:
        raise HeadError(
            f"the streams have {streams.width} columns ({streams}), but X has {width}: pass the streams of X"
        )
    return streams


def _interaction_columns(
    interactions: Interactions,
    X: np.ndarray,
    task: FitTask,
) -> np.ndarray:
    """Fit interactions to the training rows of a task; return X (N, d) with their columns.

    Columns that were learnt from the training rows are those of leaving a row's prompt out in these rows.
    """
    if not interactions.reads_scores:
        return interactions.fit_transform(X)
    train = task.train
    without_own_prompt = interactions.fit_transform(X[train], task.scores[train], task.train_groups())
    columns = interactions.transform(X)
    columns[train] = without_own_prompt
    return columns


def _with_same_inputs(heads: Sequence[BaseHead], tasks: Sequence[FitTask]) -> Iterator[list[int]]:
    """Yield the numbers of the heads whose models read the same inputs.

    Most interactions compute the columns of a row from this row alone, so that heads share them whatever rows
    they are fitted on. Those that read scores are shared by heads with the same training rows and scores.
    """
    options = []
    for head, task in zip(heads, tasks, strict=True):
        own: tuple[object, ...] = (head.interaction, head.image_transform)
        if Interactions(head.interaction).reads_scores:
            own += (task.train.tobytes(), task.scores[task.train].tobytes())
        options.append(own)
    for same in dict.fromkeys(options):
        yield [number for number, own in enumerate(options) if own == same]


def _model_weights(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a head's model alone."""
    return without_interactions(without_transforms(weights))


def _renumbered(finished: Callable[[int], None], numbers: Sequence[int]) -> Callable[[int], None]:
    """Return a function that calls `finished` with `numbers[place]`, given the place."""
    return lambda place: finished(numbers[place])
