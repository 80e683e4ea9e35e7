"""Williams' test has its published values, its level on independent rows, and a reason where it is NaN."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, pearsonr, spearmanr
from scipy.stats import t as student

from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.metrics.williams import williams, williams_t


def pair(random: np.random.Generator, rows: int, noise: float = 1.0) -> tuple[TestRows, TestRows]:
    """Two predictors of the same scores, the first with noise of deviation 1."""
    truth = random.normal(size=rows)
    group, generator = np.arange(rows), np.zeros(rows)
    return TestRows(group, generator, truth, truth + random.normal(size=rows)), TestRows(
        group, generator, truth, truth + noise * random.normal(size=rows)
    )


@pytest.mark.parametrize(
    ("correlations", "rows", "t", "p"),
    [
        (
            (0.3, 0.4, 0.5),
            100,
            -1.0767,
            0.2843,
        ),  # Silver, Hittner & May, Applied Psychological Measurement 30 (2006)
        (
            (0.4, 0.5, 0.1),
            103,
            -0.89,
            0.37,
        ),  # the example of Steiger (1980), case A, as in the R package psych
    ],
)
def test_published_examples(correlations: tuple[float, float, float], rows: int, t: float, p: float) -> None:
    digits = len(str(t).split(".")[1])
    found = williams_t(*correlations, rows)
    assert (
        round(found, digits) == t
        and round(2 * student.sf(abs(found), rows - 3), len(str(p).split(".")[1])) == p
    )


@pytest.mark.parametrize(("metric", "correlation"), [("plcc", pearsonr), ("srcc", spearmanr)])
def test_the_correlations_are_those_of_the_metric_and_the_p_value_is_two_sided(
    metric: str, correlation: Callable
) -> None:
    first, second = pair(np.random.default_rng(0), 60, noise=2)
    r1, r2 = (correlation(rows.truth, rows.prediction).statistic for rows in (first, second))
    r12 = correlation(first.prediction, second.prediction).statistic
    determinant = np.linalg.det([[1, r1, r2], [r1, 1, r12], [r2, r12, 1]])
    t = (r1 - r2) * np.sqrt(
        59 * (1 + r12) / (2 * 59 / 57 * determinant + ((r1 + r2) / 2) ** 2 * (1 - r12) ** 3)
    )
    assert williams(metric, [first], [second]).p == pytest.approx(2 * student.sf(t, 57))
    assert williams(metric, [first], [second]).p == pytest.approx(williams(metric, [second], [first]).p)


def test_p_is_uniform_for_equal_predictors_of_independent_rows() -> None:
    random = np.random.default_rng(1)
    p = [williams("plcc", [first], [second]).p for first, second in (pair(random, 50) for _ in range(1000))]
    assert kstest(p, "uniform").pvalue > 0.01


def test_on_ranks_the_level_is_nearly_the_nominal_one() -> None:
    random = np.random.default_rng(2)
    p = [williams("srcc", [first], [second]).p for first, second in (pair(random, 50) for _ in range(1000))]
    assert 0.04 < np.mean(np.array(p) < 0.05) < 0.09


def test_p_is_small_where_one_is_better() -> None:
    random = np.random.default_rng(2)
    assert (
        np.median([williams("plcc", *([rows] for rows in pair(random, 80, noise=3))).p for _ in range(20)])
        < 0.01
    )


def test_rows_that_resemble_each_other_make_p_too_small() -> None:
    """Therefore the bootstrap over prompts stays the result."""
    random, found = np.random.default_rng(3), []
    for _ in range(200):
        first, second = (
            TestRows(*(np.repeat(column, 4) for column in vars(rows).values())) for rows in pair(random, 20)
        )
        found.append(williams("plcc", [first], [second]).p < 0.05)
    assert np.mean(found) > 0.2


def test_p_of_several_repeats_is_twice_the_median_and_at_most_one() -> None:
    random = np.random.default_rng(4)
    repeats = [pair(random, 40, noise=1.5) for _ in range(5)]
    alone = [williams("srcc", [first], [second]).p for first, second in repeats]
    assert williams("srcc", *zip(*repeats, strict=True)).p == pytest.approx(2 * sorted(alone)[2])
    assert 0.02 < 2 * sorted(alone)[2] < 1
    likely = max(repeats, key=lambda both: williams("srcc", [both[0]], [both[1]]).p)
    assert williams("srcc", [likely[0]] * 3, [likely[1]] * 3).p == min(1, 2 * max(alone))


def test_a_missing_p_has_a_reason() -> None:
    first, second = pair(np.random.default_rng(5), 30)
    constant = replace(first, prediction=np.ones(30))
    perfect = replace(first, prediction=3 * first.truth + 1)
    three = [TestRows(*(column[:3] for column in vars(rows).values())) for rows in (first, second)]
    for one, other, why in (
        (*three, "the repeat has 3 test rows, but the test needs 4"),
        (first, constant, "a run's correlation does not exist"),
        (first, first, "determine each other"),
        (perfect, second, "determine each other"),
    ):
        for repeats in (1, 2):
            found = williams("plcc", [*[first] * (repeats - 1), one], [*[second] * (repeats - 1), other])
            assert np.isnan(found.p) and why in found.why_not
    assert williams("plcc", [first], [second]).why_not == ""
