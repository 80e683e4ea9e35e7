"""The logistic mapping is the least-squares rising logistic, and depends on nothing but the values."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import pearsonr

from tier4k.heads.metrics.all_metrics import evaluate
from tier4k.heads.metrics.logistic import logistic_mapping

Scores = tuple[np.ndarray, np.ndarray]
"""True scores (N,) and predictions (N,)."""

fitted = logistic_mapping.__wrapped__  # type: ignore[attr-defined]  # without the memory of earlier results


def squared_error(truth: np.ndarray, mapped: np.ndarray) -> float:
    return float(np.sum((truth - mapped) ** 2))


def unrelated(random: np.random.Generator, rows: int) -> Scores:
    return random.normal(size=rows), random.normal(size=rows)


def related(random: np.random.Generator, rows: int) -> Scores:
    prediction = random.normal(size=rows)
    return prediction + random.normal(size=rows), prediction


def saturated(random: np.random.Generator, rows: int) -> Scores:
    prediction = random.normal(size=rows)
    return 3 + np.tanh(2 * prediction) + random.normal(0, 0.3, rows), prediction


def backwards_with_ties(random: np.random.Generator, rows: int) -> Scores:
    prediction = random.normal(size=rows)
    return random.normal(size=rows) - 0.4 * prediction, np.round(2 * prediction) / 2


def steps_of_scores(random: np.random.Generator, rows: int) -> Scores:
    prediction = random.normal(size=rows)
    truth = np.round(np.clip(2.5 + prediction + random.normal(size=rows), 1, 5))
    return truth, np.exp(prediction)


def with_outliers(random: np.random.Generator, rows: int) -> Scores:
    prediction = random.standard_t(1.5, size=rows)
    return np.cbrt(prediction) / 2 + random.normal(size=rows), prediction


KINDS = (unrelated, related, saturated, backwards_with_ties, steps_of_scores, with_outliers)


def least_error_of_a_dense_grid(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the least squared error of rising logistics: a dense grid, the best of which scipy refines."""
    x = (prediction - prediction.mean()) / prediction.std()
    y = truth - truth.mean()
    distinct = np.unique(x)
    gaps = np.diff(distinct)
    middles = np.concatenate([distinct, distinct[:-1] + gaps / 2, np.linspace(x.min(), x.max(), 40)])
    starts = []
    for width in np.geomspace(max(gaps.min() / 8, 1e-6), 300, 40):
        beyond = width * np.array([0.5, 1, 2, 3, 5, 8, 12])
        middle = np.concatenate([middles, x.max() + beyond, x.min() - beyond])
        curve = expit((x - middle[:, None]) / width)
        curve -= curve.mean(axis=1, keepdims=True)
        size = np.maximum((curve**2).sum(axis=1), 1e-30)
        reduction = np.maximum(curve @ y, 0) ** 2 / size
        best = np.argsort(-reduction)[:3]
        starts += [(reduction[one], middle[one], width) for one in best]
    starts.sort(reverse=True)
    least = squared_error(y, np.zeros_like(y)) - starts[0][0]
    for _, middle, width in starts[:4]:
        least = min(least, refined_error(x, y, middle, width))
    return float(least)


def refined_error(
    x: np.ndarray,
    y: np.ndarray,
    middle: float,
    width: float,
) -> float:
    """Return the squared error of the rising logistic that scipy finds from a start in all 4 parameters."""
    curve = expit((x - middle) / width)
    height, bottom = np.polyfit(curve, y, 1)
    start = [bottom, np.log(max(height, 1e-9)), middle, np.log(width)]

    def residuals(values: np.ndarray) -> np.ndarray:
        return values[0] + np.exp(values[1]) * expit((x - values[2]) / np.exp(values[3])) - y

    limits = ([-np.inf, -30, -np.inf, -30], [np.inf, 30, np.inf, 8])
    found = least_squares(residuals, np.clip(start, *limits), bounds=limits, max_nfev=30)
    return float(2 * found.cost)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rising_logistic_of_a_dense_grid_fits_better(kind: Callable[..., Scores]) -> None:
    random = np.random.default_rng(20)
    for _ in range(10):
        truth, prediction = kind(random, int(random.integers(5, 41)))
        mapped = fitted(truth, prediction)
        if np.isnan(mapped).all():
            mapped = np.full(len(truth), truth.mean())
        spread = squared_error(truth, np.full(len(truth), truth.mean()))
        error = squared_error(truth, mapped)
        assert error <= least_error_of_a_dense_grid(truth, prediction) + 1e-7 * spread


def test_the_values_are_those_of_a_logistic() -> None:
    random = np.random.default_rng(28)
    for kind in (unrelated, related, saturated, related):
        truth, prediction = kind(random, 30)
        mapped = fitted(truth, prediction)
        spread = squared_error(mapped, np.full(30, mapped.mean()))
        assert least_error_of_a_dense_grid(mapped, prediction) < 1e-3 * spread


@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_rises_and_equals_its_linear_least_squares_fit(kind: Callable[..., Scores]) -> None:
    random = np.random.default_rng(21)
    for rows in (5, 12, 60, 300):
        truth, prediction = kind(random, rows)
        mapped = fitted(truth, prediction)
        if np.isnan(mapped).all():
            continue
        assert (np.diff(mapped[np.argsort(prediction)]) >= -1e-12).all()
        height, bottom = np.polyfit(mapped, truth, 1)
        assert height == pytest.approx(1, abs=1e-6) and bottom == pytest.approx(0, abs=1e-5)


def test_the_logistic_is_recovered() -> None:
    x = np.linspace(-2, 3, 80)
    for bottom, height, middle, width in ((0.5, 4, 0.4, 0.6), (-3, 0.1, -1.9, 0.05), (1, 900, 2.9, 1.5)):
        truth = bottom + height / (1 + np.exp((middle - x) / width))
        np.testing.assert_allclose(fitted(truth, 40 * x - 7), truth, atol=1e-6 * height)


@pytest.mark.parametrize(
    "limit",
    [
        lambda x: 2 * x + 1,
        np.exp,
        lambda x: -np.exp(-x),
        lambda x: np.where(x > 0.3, 5.0, 2.0),
        lambda x: np.select([x < x[20], x > x[20]], [1.0, 4.0], 3.3),
        lambda x: np.where(x == x[-1], 1.0, 0.0),
    ],
    ids=["line", "exponential", "falling exponential", "step", "step through a point", "last point"],
)
def test_limits_of_logistics_are_recovered(limit: Callable[[np.ndarray], np.ndarray]) -> None:
    x = np.sort(np.random.default_rng(3).normal(size=50))
    truth = limit(x)
    np.testing.assert_allclose(fitted(truth, x), truth, atol=1e-5 * np.ptp(truth))


def test_a_mapping_fits_no_worse_than_a_line_and_the_best_step() -> None:
    random = np.random.default_rng(22)
    for rows in (6, 40, 200):
        truth, prediction = related(random, rows)
        error = squared_error(truth, fitted(truth, prediction))
        line = np.polyval(np.polyfit(prediction, truth, 1), prediction)
        assert error <= squared_error(truth, line) * (1 + 1e-6)
        for threshold in prediction:
            below = prediction < threshold
            step = np.where(below, np.mean(truth[below]) if below.any() else 0, np.mean(truth[~below]))
            if below.any() and truth[below].mean() < truth[~below].mean():
                assert error <= squared_error(truth, step) * (1 + 1e-9)


def test_there_is_no_mapping_only_where_every_step_falls() -> None:
    truth = np.arange(9.0)
    assert np.isnan(fitted(truth, -truth)).all()
    one_rises = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 6])  # the last is above the mean of the others
    mapped = fitted(one_rises, truth)
    np.testing.assert_allclose(mapped, [5.5] * 8 + [6])


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_fewer_than_five_rows_have_no_mapping(rows: int) -> None:
    assert np.isnan(fitted(np.arange(float(rows)), np.arange(float(rows)))).all()


def test_predictions_that_are_equal_or_not_finite_have_no_mapping() -> None:
    truth = np.arange(9.0)
    for prediction in (np.ones(9), 1 + 1e-15 * truth, np.r_[truth[:8], np.inf], np.r_[truth[:8], np.nan]):
        assert np.isnan(fitted(truth, prediction)).all()


@pytest.mark.parametrize(("kind", "rows"), [(unrelated, 7), (related, 33), (saturated, 200)])
def test_the_bits_of_the_result_do_not_depend_on_the_memory_of_the_arrays(
    kind: Callable[..., Scores],
    rows: int,
) -> None:
    random = np.random.default_rng(rows)
    truth, prediction = kind(random, rows)
    expected = fitted(truth, prediction)
    others = []
    for offset in range(8, 65):
        others.append(np.empty(random.integers(1, 5000)))  # moves later allocations
        found = fitted(at_offset(truth, offset), at_offset(prediction, 72 - offset))
        assert found.tobytes() == expected.tobytes()
    columns = np.stack([prediction, truth, prediction], axis=1)
    assert fitted(columns[:, 1], columns[:, 2]).tobytes() == expected.tobytes()
    assert fitted(truth[::-1].copy()[::-1], prediction).tobytes() == expected.tobytes()


def test_the_bits_of_every_metric_do_not_depend_on_the_memory_of_the_arrays() -> None:
    truth, prediction = related(np.random.default_rng(27), 90)
    metrics = evaluate.__wrapped__  # type: ignore[attr-defined]
    expected = metrics(truth, prediction)
    for offset in (8, 9, 12, 16, 20, 24, 31, 32, 40, 48, 64):
        assert metrics(at_offset(truth, offset), at_offset(prediction, 72 - offset)) == expected


def at_offset(values: np.ndarray, offset: int) -> np.ndarray:
    """Return a copy that starts `offset` bytes behind a multiple of 64."""
    memory = np.empty(values.nbytes + 192, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    copy = memory[start : start + values.nbytes].view(values.dtype)
    copy[:] = values
    return copy


def test_the_order_of_rows_does_not_change_a_bit() -> None:
    random = np.random.default_rng(23)
    truth, prediction = backwards_with_ties(random, 60)
    order = random.permutation(60)
    assert fitted(truth[order], prediction[order]).tobytes() == fitted(truth, prediction)[order].tobytes()


def test_the_unit_of_the_predictions_does_not_matter() -> None:
    truth, prediction = related(np.random.default_rng(24), 60)
    expected = fitted(truth, prediction)
    np.testing.assert_allclose(fitted(truth, 1e6 * prediction - 5e5), expected, atol=1e-6)
    np.testing.assert_allclose(fitted(100 * truth + 7, prediction), 100 * expected + 7, atol=1e-4)


def test_another_process_gets_the_same_bits() -> None:
    program = (
        "import numpy as np; from tier4k.heads.metrics.logistic import logistic_mapping as f;"
        "r = np.random.default_rng(25); x = r.normal(size=150);"
        "print(f(x + r.normal(size=150), x).tobytes().hex())"
    )
    found = subprocess.check_output([sys.executable, "-c", program], text=True)
    random = np.random.default_rng(25)
    prediction = random.normal(size=150)
    here = fitted(prediction + random.normal(size=150), prediction)
    assert found.strip() == here.tobytes().hex()


def test_the_best_curve_has_the_highest_correlation_of_the_rising_curves() -> None:
    truth, prediction = saturated(np.random.default_rng(26), 100)
    best = pearsonr(truth, fitted(truth, prediction)).statistic
    assert best > pearsonr(truth, prediction).statistic
    for middle in np.linspace(-3, 3, 25):
        for width in np.geomspace(0.01, 30, 15):
            curve = expit((prediction - middle) / width)
            if np.ptp(curve) > 1e-9:
                assert pearsonr(truth, curve).statistic <= best + 1e-9
