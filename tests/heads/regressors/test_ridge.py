"""The ridge head against scikit-learn and the definition of leaving one row out."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import check_estimator

from tier4k.heads.regressors.registry import HeadError, make_head, resolve_options
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask, WatchedRows


def rows(count: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(2, random.uniform(0.5, 3, columns), (count, columns))
    return X, 3 + X[:, :5] @ random.normal(size=5) + random.normal(size=count)


def reference(X: np.ndarray, y: np.ndarray, penalty: float, test: np.ndarray) -> np.ndarray:
    """scikit-learn's ridge on the same standardised inputs."""
    scaling = Standardization.of(X, y)
    return Ridge(alpha=penalty * X.shape[1]).fit(scaling.inputs(X), y).predict(scaling.inputs(test))


def test_it_is_a_scikit_learn_estimator() -> None:
    check_estimator(RidgeHead(), on_skip=None)
    check_estimator(RidgeHead(validation_fraction=0.2), on_skip=None)


@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_every_penalty_of_the_path_is_the_ridge_of_scikit_learn(
    shape: tuple[int, int], penalty: float
) -> None:
    (X, y), (test, _) = rows(*shape), rows(10, shape[1], seed=1)
    np.testing.assert_allclose(
        RidgeHead((penalty,)).fit(X, y).predict(test), reference(X, y, penalty, test), rtol=1e-8
    )


@pytest.mark.parametrize("shape", [(40, 12), (30, 50)])
def test_without_validation_rows_the_error_is_that_of_leaving_each_row_out(shape: tuple[int, int]) -> None:
    X, y = rows(*shape)
    inputs = Standardization.of(X, y).inputs(X)
    head = RidgeHead((0.1, 1.0, 10.0)).fit(X, y)
    for penalty, error in zip(head.penalties, head.error_, strict=True):
        others = [np.arange(len(y)) != row for row in range(len(y))]
        fits = [Ridge(alpha=penalty * X.shape[1]).fit(inputs[keep], y[keep]) for keep in others]
        left_out = [y[row] - fit.predict(inputs[[row]])[0] for row, fit in enumerate(fits)]
        assert error == pytest.approx(np.mean(np.square(left_out)), rel=1e-8)
    assert head.penalty_ == head.penalties[int(np.argmin(head.error_))]


@pytest.mark.parametrize("shape", [(40, 12), (30, 50)])
def test_the_error_of_leaving_each_prompt_out_is_that_of_a_fit_for_every_penalty(
    shape: tuple[int, int],
) -> None:
    X, y = rows(*shape)
    groups = np.random.default_rng(4).integers(9, size=len(y)).astype(str)
    inputs = Standardization.of(X, y).inputs(X)
    head = RidgeHead((0.001, 0.1, 1.0, 10.0), leave_out="group").fit(X, y, groups=groups)
    for penalty, error in zip(head.penalties, head.error_, strict=True):
        left_out = np.empty(len(y))
        for group in set(groups):
            out = groups == group
            fitted = Ridge(alpha=penalty * X.shape[1]).fit(inputs[~out], y[~out])
            left_out[out] = fitted.predict(inputs[out])
        assert error == pytest.approx(np.mean((y - left_out) ** 2), rel=1e-6)
    assert head.penalty_ == head.penalties[int(np.argmin(head.error_))]


@pytest.mark.parametrize("groups", [None, np.zeros(40)])
def test_without_two_prompts_rows_are_left_out_instead(groups: np.ndarray | None) -> None:
    X, y = rows(40, 12)
    head = RidgeHead(leave_out="group").fit(X, y, groups=groups)
    np.testing.assert_array_equal(head.error_, RidgeHead().fit(X, y).error_)
    assert head.held_out_prediction is None


def test_validation_rows_alone_choose_the_penalty() -> None:
    (X, y), held = rows(50, 30), rows(25, 30, seed=2)
    head = RidgeHead().fit(X, y, held)
    errors = [np.mean((reference(X, y, penalty, held[0]) - held[1]) ** 2) for penalty in head.penalties]
    np.testing.assert_allclose(head.error_, errors, rtol=1e-8)
    assert head.penalty_ == head.penalties[int(np.argmin(errors))]


def test_features_that_depend_on_the_training_scores_need_a_validation_part() -> None:
    """Finetuned encoders are like a column that equals the scores of their own training rows only."""
    X, y = rows(300, 40)
    seen, held, new = np.arange(150), np.arange(150, 200), np.arange(200, 300)
    leaked = np.random.default_rng(3).normal(y.mean(), y.std(), len(y))
    leaked[seen] = y[seen]
    X = np.column_stack([X, leaked])
    left_out = RidgeHead().fit(X[seen], y[seen])
    chosen = RidgeHead().fit(X[seen], y[seen], (X[held], y[held]))
    assert chosen.penalty_ > left_out.penalty_
    error, without = (np.mean((head.predict(X[new]) - y[new]) ** 2) for head in (chosen, left_out))
    assert error < without


def test_a_validation_part_that_the_head_cuts_out_is_not_fitted_on() -> None:
    X, y = rows(80, 12)
    head = RidgeHead((0.1, 1.0), validation_fraction=0.25, random_state=5).fit(X, y)
    order = np.random.RandomState(5).permutation(len(y))
    held, train = order[:20], order[20:]
    expected = RidgeHead((0.1, 1.0)).fit(X[train], y[train], (X[held], y[held]))
    np.testing.assert_allclose(head.error_, expected.error_, rtol=1e-10)
    np.testing.assert_allclose(head.predict(X), expected.predict(X), rtol=1e-10)


def test_a_head_is_its_two_tensors() -> None:
    X, y = rows(40, 10)
    head = RidgeHead().fit(X, y)
    np.testing.assert_array_equal(RidgeHead.from_weights(head.weights_).predict(X), head.predict(X))
    with pytest.raises(ValueError, match="not the weights of one ridge head"):
        RidgeHead.from_weights({"linear.weight": np.zeros((2, 10)), "linear.bias": np.zeros(1)})


def test_its_training_is_one_epoch() -> None:
    X, y = rows(40, 10)
    history = []
    head, watched = RidgeHead(), np.array([3, 1, 39])
    watch = WatchedRows(watched, lambda epoch, predicted: history.append((epoch, predicted)))
    RidgeHead.fit_many([head], X, [FitTask(y, np.arange(40), watched=watch)])
    ((epoch, predictions),) = history
    assert epoch == 1
    np.testing.assert_array_equal(predictions, head.predict(X[watched]))


def test_options_of_another_head_are_refused() -> None:
    with pytest.raises(HeadError, match="ridge head has no option learning_rate: it has penalties"):
        resolve_options("ridge", "cached", "resnet18", {"learning_rate": 1e-3})
    with pytest.raises(HeadError, match="--recipe published is a recipe of the heads mlp, gated, bilinear"):
        resolve_options("ridge", "published", "resnet18", {})
    assert isinstance(
        make_head("ridge", resolve_options("ridge", "cached", "resnet18", {}), seed=3), RidgeHead
    )


@pytest.mark.parametrize("penalties", [(), (0.0, 1.0), (-1.0,)])
def test_penalties_must_be_positive_and_not_empty(penalties: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="penalties is"):
        RidgeHead(penalties).fit(*rows(10, 6))
