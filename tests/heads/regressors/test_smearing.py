"""`target_transform=rank-gauss-mean`: predictions of heads on normal quantiles become mean scores."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from tier4k.heads.regressors.kernel import KernelRidgeHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.tasks import FitTask, WatchedRows
from tier4k.heads.regressors.transforms import rank_gauss

RANKS = {"target_transform": "rank-gauss"}
MEANS = {"target_transform": "rank-gauss-mean"}
HEADS = {"ridge": RidgeHead((0.3,)), "kernel-ridge": KernelRidgeHead((2.0,), (0.3,))}
GROUPS = np.arange(120) // 4


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and skewed scores with much noise."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(count, 4))
    return X, np.exp(X[:, 0] + 0.8 * random.normal(size=count))


def fitted(name: str, **options: Any) -> Any:
    X, y = rows(120)
    return type(HEADS[name])(**HEADS[name].get_params() | options).fit(X, y, groups=GROUPS)


@pytest.mark.parametrize("name", HEADS)
def test_a_prediction_is_the_mean_score_over_the_residuals_of_left_out_prompts(name: str) -> None:
    X, y = rows(120)
    test, _ = rows(30, seed=1)
    curve = rank_gauss(y)
    quantiles = curve.inverse()(y)
    plain = type(HEADS[name])(**HEADS[name].get_params()).fit(X, quantiles, groups=GROUPS)
    residuals = quantiles - plain.held_out_prediction
    expected = [np.mean([curve(np.array(z + r)) for r in residuals]) for z in plain.predict(test)]
    head = fitted(name, **MEANS)
    np.testing.assert_allclose(head.predict(test), expected, rtol=2e-3, atol=2e-3)
    held_out = [np.mean([curve(np.array(z + r)) for r in residuals]) for z in plain.held_out_prediction]
    np.testing.assert_allclose(head.held_out_prediction, held_out, rtol=2e-3, atol=2e-3)


def test_it_keeps_the_order_and_comes_nearer_to_skewed_scores() -> None:
    """With y = exp(x + .8 e) the mean is exp(x + .32), and the median, which quantiles give, exp(x)."""
    test, y = rows(4000, seed=1)
    ranks = fitted("ridge", **RANKS).predict(test)
    means = fitted("ridge", **MEANS).predict(test)
    assert spearmanr(ranks, means).statistic == pytest.approx(1)
    assert np.mean((means - y) ** 2) < np.mean((ranks - y) ** 2)
    assert abs(means.mean() - y.mean()) < abs(ranks.mean() - y.mean())


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_its_tensors_and_reports_what_it_predicts(name: str) -> None:
    X, y = rows(120)
    reported = []
    watch = WatchedRows(np.arange(120), lambda _, predicted: reported.append(predicted))
    head = type(HEADS[name])(**HEADS[name].get_params() | MEANS)
    type(head).fit_many([head], X, [FitTask(y, np.arange(120), watched=watch, group=GROUPS)])
    np.testing.assert_allclose(reported[0], head.predict(X), rtol=1e-9)
    restored = type(head).from_weights(head.weights_, **head.get_params())
    np.testing.assert_allclose(restored.predict(X), head.predict(X), rtol=1e-9)


def test_equal_scores_everywhere_are_what_a_head_predicts() -> None:
    X, _ = rows(40)
    head = RidgeHead(**MEANS).fit(X, np.full(40, 2.5), groups=np.arange(40) // 4)
    np.testing.assert_allclose(head.predict(X), 2.5)


def test_a_head_without_prompts_or_without_left_out_predictions_is_refused() -> None:
    X, y = rows(40)
    with pytest.raises(HeadError, match="needs two prompts or more: .* or use target_transform=rank-gauss"):
        RidgeHead(**MEANS).fit(X, y)
    with pytest.raises(HeadError, match="rank-gauss-mean"):
        MLPHead(**MEANS).fit(X, y)
