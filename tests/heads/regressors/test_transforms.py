"""Transforms of image features and of scores, which every head has: their formulas, and what a head gives."""

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.splits import make_splits
from tier4k.heads.data.streams import Streams
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.kernel import KernelRidgeHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.registry import HEADS, resolve_options, restore_head
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.tasks import FitTask, WatchedRows
from tier4k.tests.builders.feature_sets import feature_set

STREAMS = Streams.of(text=2, image=3, image_prompt=3, zero_shot=1)
BOTH = {"image_transform": "sqrt", "target_transform": "rank-gauss"}
NETWORK = {"max_epochs": 2, "hidden": 4}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": NETWORK,
    "gated": NETWORK,
    "bilinear": NETWORK,
    "ensemble": {"members": ("ridge", "svr", "gated")},
}


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of either sign, and skewed scores of which some are equal."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(count, STREAMS.width)) ** 3
    scores = np.exp(X[:, 0] / 3 + np.cbrt(X[:, 3]) + 0.3 * random.normal(size=count))
    return X, np.round(scores, 1)


def rooted(X: np.ndarray) -> np.ndarray:
    """The roots of columns 2 to 7, image and image prompt, number by number."""
    out = X.copy()
    for row in range(len(X)):
        for column in range(2, 8):
            out[row, column] = np.copysign(abs(X[row, column]) ** 0.5, X[row, column])
    return out


def quantiles(scores: np.ndarray) -> np.ndarray:
    """Normal quantiles of mid-ranks, by counting."""
    found = []
    for score in scores:
        middle = np.sum(scores < score) + (np.sum(scores == score) + 1) / 2
        found.append(NormalDist().inv_cdf((middle - 0.5) / len(scores)))
    return np.array(found)


def mapped_back(predicted: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The line between the two neighbouring pairs of quantile and score; beyond them the mean gradient."""
    pairs = sorted(set(zip(quantiles(scores), scores, strict=True)))
    gradient = (pairs[-1][1] - pairs[0][1]) / (pairs[-1][0] - pairs[0][0])
    found = []
    for value in predicted:
        if value <= pairs[0][0]:
            found.append(pairs[0][1] + gradient * (value - pairs[0][0]))
        elif value >= pairs[-1][0]:
            found.append(pairs[-1][1] + gradient * (value - pairs[-1][0]))
        else:
            above = next(number for number, pair in enumerate(pairs) if pair[0] > value)
            (x0, y0), (x1, y1) = pairs[above - 1], pairs[above]
            found.append(y0 + (y1 - y0) * (value - x0) / (x1 - x0))
    return np.array(found)


def test_sqrt_takes_the_signed_root_of_the_image_columns_and_of_no_others() -> None:
    (X, y), (test, _) = rows(60), rows(20, seed=1)
    head = RidgeHead((0.3,), image_transform="sqrt").fit(X, y, streams=STREAMS)
    plain = RidgeHead((0.3,)).fit(rooted(X), y, streams=STREAMS)
    np.testing.assert_allclose(head.predict(test), plain.predict(rooted(test)), rtol=1e-10)


def test_a_head_on_its_own_takes_all_columns_for_image_features() -> None:
    X, y = rows(40)
    head = KernelRidgeHead((1.0,), (0.1,), image_transform="sqrt").fit(X, y)
    roots = np.sign(X) * np.sqrt(np.abs(X))
    expected = KernelRidgeHead((1.0,), (0.1,)).fit(roots, y).predict(roots)
    np.testing.assert_allclose(head.predict(X), expected, rtol=1e-10)


def test_rank_gauss_fits_normal_quantiles_of_mid_ranks_and_maps_predictions_back() -> None:
    (X, y), (test, _) = rows(60), rows(200, seed=1)
    assert len(np.unique(y)) < len(y), "some scores should be equal"
    head = RidgeHead((0.3,), target_transform="rank-gauss").fit(X, y, streams=STREAMS)
    plain = RidgeHead((0.3,)).fit(X, quantiles(y), streams=STREAMS).predict(test)
    assert plain.min() < quantiles(y).min()
    assert plain.max() > quantiles(y).max()
    np.testing.assert_allclose(head.predict(test), mapped_back(plain, y), rtol=1e-9)
    assert spearmanr(head.predict(test), plain).statistic == pytest.approx(1)
    assert len(np.unique(head.predict(test))) == len(test)


def test_equal_scores_everywhere_are_what_a_head_predicts() -> None:
    X, _ = rows(30)
    head = RidgeHead(target_transform="rank-gauss").fit(X, np.full(30, 2.5))
    np.testing.assert_allclose(head.predict(X), 2.5)


def test_held_out_predictions_are_scores() -> None:
    """Each prompt's rows by scikit-learn's ridge on the quantiles of the others, mapped back."""
    X, y = rows(60)
    groups = np.arange(60) // 4
    head = RidgeHead((0.3,), **BOTH).fit(X, y, groups=groups, streams=STREAMS)
    inputs = rooted(X)
    deviation = inputs.std(0)
    for columns in (slice(0, 2), slice(2, 5), slice(5, 8), slice(8, 9)):
        deviation[columns] = np.maximum(deviation[columns], 0.1 * np.median(deviation[columns]))
    inputs = (inputs - inputs.mean(0)) / deviation
    expected = np.empty(60)
    for group in np.unique(groups):
        out = groups == group
        ridge = Ridge(alpha=0.3 * 9).fit(inputs[~out], quantiles(y)[~out])
        expected[out] = ridge.predict(inputs[out])
    np.testing.assert_allclose(head.held_out_prediction, mapped_back(expected, y), rtol=1e-8)


def test_an_ensemble_transforms_for_its_members_and_holds_out_scores() -> None:
    (X, y), held = rows(80), rows(30, seed=1)
    head = EnsembleHead(("ridge", "svr"), **BOTH, random_state=0).fit(X, y, held, streams=STREAMS)
    x = np.unique(quantiles(y))
    inner = np.clip(held[1], y.min(), y.max())
    gradient = np.ptp(x) / np.ptp(y)
    targets = np.interp(inner, np.unique(y), x) + gradient * (held[1] - inner)
    plain = EnsembleHead(("ridge", "svr"), random_state=0)
    plain.fit(rooted(X), quantiles(y), (rooted(held[0]), targets), streams=STREAMS)
    np.testing.assert_allclose(
        head.validation_prediction, mapped_back(plain.validation_prediction, y), rtol=1e-7
    )
    expected = plain.predict(rooted(held[0]))
    # The members are fitted again on all rows, whose quantiles stay those of the training rows.
    np.testing.assert_allclose(head.predict(held[0]), mapped_back(expected, y), rtol=1e-7)


def test_what_an_epoch_predicts_is_scores() -> None:
    X, y = rows(60)
    history = []
    head = MLPHead(max_epochs=3, validation_fraction=0.0, random_state=0, **BOTH)
    watch = WatchedRows(np.arange(60), lambda _, predicted: history.append(predicted))
    MLPHead.fit_many([head], X, [FitTask(100 * y, np.arange(60), watched=watch)], streams=STREAMS)
    assert len(history) == 3
    np.testing.assert_allclose(history[-1], head.predict(X), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_its_tensors_with_both_transforms(name: HeadName) -> None:
    features = feature_set()
    options = resolve_options(name, "cached", "resnet18", QUICK.get(name, {}) | BOTH)
    splits = make_splits(features, "random", 1, 0)
    (trial,) = run_trials(features, fuse(features, "nr"), ("MOS_q",), splits, name, options)
    X = fuse(features, "nr").X
    restored = restore_head(name, trial.head.weights_, options, seed=0)
    np.testing.assert_allclose(restored.predict(X), trial.head.predict(X), rtol=1e-6)
    np.testing.assert_allclose(trial.predictions["last"], restored.predict(X)[splits[0].test], rtol=1e-4)
    for transform in BOTH:
        with pytest.raises(ValueError, match="not the weights of a head with .* expected the tensors"):
            restore_head(name, trial.head.weights_, options | {transform: "none"}, seed=0)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("image_transform.columns", np.ones(8, bool), r"has shape \(8,\) and type bool, expected \(9,\)"),
        ("image_transform.columns", np.ones(9), "type float64"),
        ("target_transform.curve", np.array([[0.0, 1], [2, 2]]), "does not have two rows of finite, rising"),
        ("target_transform.curve", np.zeros((3, 4)), r"of shape \(3, 4\) does not have two rows"),
        ("target_transform.curve", np.array([[0.0, 1], [2, np.nan]]), "finite, rising values"),
    ],
)
def test_tensors_of_transforms_that_do_not_fit_are_refused(
    name: str, tensor: np.ndarray, message: str
) -> None:
    X, y = rows(20)
    weights = RidgeHead(**BOTH).fit(X, y, streams=STREAMS).weights_
    with pytest.raises(ValueError, match=message):
        RidgeHead.from_weights(weights | {name: tensor}, **BOTH)


def test_heads_with_and_without_transforms_are_fitted_together_as_alone() -> None:
    X, y = rows(60)
    options: list[dict[str, Any]] = [
        {},
        {"image_transform": "sqrt"},
        BOTH,
        {"target_transform": "rank-gauss"},
    ]
    heads = [RidgeHead(**given) for given in options]
    tasks = [FitTask(y, np.arange(number, 50 + number)) for number in range(4)]
    finished: list[int] = []
    RidgeHead.fit_many(heads, X, tasks, finished.append, STREAMS)
    assert sorted(finished) == [0, 1, 2, 3]
    for head, given, task in zip(heads, options, tasks, strict=True):
        alone = RidgeHead(**given).fit(X[task.train], y[task.train], streams=STREAMS)
        np.testing.assert_allclose(head.predict(X), alone.predict(X), rtol=1e-9)


def test_scores_of_other_rows_do_not_matter() -> None:
    X, y = rows(40)
    other = y.copy()
    other[30:] = np.nan
    heads = [RidgeHead(**BOTH), RidgeHead(**BOTH)]
    RidgeHead.fit_many(heads, X, [FitTask(scores, np.arange(30)) for scores in (y, other)], streams=STREAMS)
    np.testing.assert_array_equal(heads[0].predict(X), heads[1].predict(X))


def test_streams_of_another_width_are_refused() -> None:
    X, y = rows(10)
    with pytest.raises(HeadError, match="the streams have 4 columns .* but X has 9"):
        RidgeHead().fit(X, y, streams=Streams.of(text=4))
