"""The raters' ceiling is what a predictor of the raters' true mean opinion reaches in a simulation."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.metrics.raters import NO_CEILING, UNKNOWN, ceiling_nan_reasons, raters_ceiling


@pytest.mark.parametrize(("raters", "disagreement"), [(5, 0.5), (5, 2.0), (21, 1.0)])
def test_a_perfect_predictor_reaches_the_ceiling(raters: int, disagreement: float) -> None:
    random = np.random.default_rng(raters)
    opinion = random.normal(3, 0.8, 20_000)
    # Raters agree on some images more than on others.
    spread = disagreement * random.uniform(0.5, 1.5, 20_000)
    ratings = opinion[:, None] + spread[:, None] * random.normal(size=(20_000, raters))
    scores = ratings.mean(axis=1)
    ceiling = raters_ceiling(scores, ratings.std(axis=1, ddof=1) / np.sqrt(raters))
    assert ceiling["plcc"] == pytest.approx(pearsonr(scores, opinion).statistic, abs=0.005)
    # Errors that are larger for some images are not normal together, so that the SRCC is approximate.
    assert ceiling["srcc"] == pytest.approx(spearmanr(scores, opinion).statistic, abs=0.015)
    assert ceiling["srcc"] < ceiling["plcc"] < 1


def test_the_ceiling_is_computed_from_the_rows_whose_ratings_are_known() -> None:
    scores = np.array([1.0, 2.0, 4.0, 9.0, 3.0])
    errors = np.array([0.5, np.nan, 0.5, 0.7, 0.3])
    known = [1.0, 4.0, 9.0, 3.0]
    mean = sum(known) / 4
    variance = sum((score - mean) ** 2 for score in known) / 3
    reliability = 1 - (0.25 + 0.25 + 0.49 + 0.09) / 4 / variance
    found = raters_ceiling(scores, errors)
    assert found["plcc"] ** 2 == pytest.approx(reliability)
    assert np.sin(np.pi / 6 * found["srcc"]) == pytest.approx(found["plcc"] / 2)
    assert list(found) == list(METRICS)
    assert {name for name, value in found.items() if np.isfinite(value)} == {"srcc", "plcc"}
    assert ceiling_nan_reasons(found) == NO_CEILING


def test_scores_without_errors_have_the_ceiling_1_and_mere_errors_0() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    assert raters_ceiling(scores, np.zeros(3))["srcc"] == pytest.approx(1)
    assert raters_ceiling(scores, np.full(3, 5.0))["srcc"] == 0


@pytest.mark.parametrize(
    ("scores", "errors"), [([1, 2, 3], [np.nan, np.nan, 0.1]), ([2, 2, 2], [0.1, 0.1, 0.1])]
)
def test_an_unknown_ceiling_has_a_reason(scores: list[float], errors: list[float]) -> None:
    found = raters_ceiling(np.array(scores, float), np.array(errors))
    assert np.isnan(list(found.values())).all()
    assert UNKNOWN in ceiling_nan_reasons(found)
