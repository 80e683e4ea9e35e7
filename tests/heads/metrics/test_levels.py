"""Metrics of generators and within prompts equal loops over rows, and say why they are missing."""

from dataclasses import replace
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from tier4k.heads.metrics.all_metrics import METRICS, evaluate_rows, nan_reasons
from tier4k.heads.metrics.levels import (
    EQUAL_GENERATORS,
    NO_PAIRS,
    TOO_FEW_GENERATORS,
    level_metrics,
)
from tier4k.heads.metrics.test_rows import TestRows

NAN = float("nan")

Row = tuple[str, str, float, float]  # prompt, generator, true score, prediction


def rows_of(listed: list[Row]) -> TestRows:
    prompt, generator, truth, prediction = zip(*listed, strict=True)
    return TestRows(
        np.array(prompt, object),
        np.array(generator, object),
        np.array(truth, float),
        np.array(prediction, float),
    )


def random_rows(seed: int, prompts: int = 20, rows: int = 10, generators: int = 5) -> TestRows:
    random = np.random.default_rng(seed)
    truth = random.normal(size=prompts * rows)
    return TestRows(
        np.repeat([f"p{number}" for number in range(prompts)], rows).astype(object),
        np.array([f"g{number}" for number in random.integers(0, generators, prompts * rows)], object),
        truth,
        truth + random.normal(size=prompts * rows),
    )


def generator_means(listed: list[Row], column: int) -> list[float]:
    """Mean of each generator over the means of its prompts, rounded, so that equal means are equal."""
    means = []
    for generator in sorted({row[1] for row in listed}):
        own = [row for row in listed if row[1] == generator]
        of_prompts = [
            fmean(row[column] for row in own if row[0] == prompt) for prompt in {row[0] for row in own}
        ]
        means.append(round(fmean(of_prompts), 6))
    return means


def expected_within_prompts(listed: list[Row]) -> tuple[float, float]:
    correlations, points, pairs = [], 0.0, 0
    for prompt in {row[0] for row in listed}:
        own = [row for row in listed if row[0] == prompt]
        truth, prediction = [row[2] for row in own], [row[3] for row in own]
        if len(set(truth)) > 1:
            is_constant = len(set(prediction)) == 1
            correlations.append(0.0 if is_constant else spearmanr(truth, prediction).statistic)
        for first, second in combinations(own, 2):
            if first[2] != second[2]:
                pairs += 1
                order = (first[2] - second[2]) * (first[3] - second[3])
                points += 1.0 if order > 0 else 0.5 if order == 0 else 0.0
    if not pairs:
        return NAN, NAN
    return fmean(correlations), points / pairs


row = st.tuples(
    st.sampled_from("abcde"),
    st.sampled_from("vwxyz"),
    st.integers(0, 5).map(lambda number: number / 4),
    st.integers(0, 4).map(lambda number: number / 3),
)


@pytest.mark.filterwarnings("ignore:An input array is constant")
@settings(deadline=None, max_examples=150)
@given(st.lists(row, min_size=1, max_size=40))
def test_every_metric_equals_a_loop_over_the_rows(listed: list[Row]) -> None:
    found = level_metrics(rows_of(listed))
    truth, prediction = generator_means(listed, 2), generator_means(listed, 3)
    expected = [NAN, NAN]
    if len(truth) >= 3:
        expected = [spearmanr(truth, prediction).statistic, kendalltau(truth, prediction).statistic]
    np.testing.assert_allclose(
        list(found.values()), [*expected, *expected_within_prompts(listed)], atol=1e-12, equal_nan=True
    )


def test_the_order_of_the_rows_and_names_does_not_matter() -> None:
    rows = random_rows(0)
    order = np.random.default_rng(1).permutation(200)
    shuffled = TestRows(*(column[order] for column in vars(rows).values()))
    assert level_metrics(shuffled) == pytest.approx(level_metrics(rows), abs=1e-12)


def test_a_predictor_of_the_prompt_alone_ranks_neither_generators_nor_the_images_of_a_prompt() -> None:
    """Every generator has an image of every prompt; the scores are sums of effects of both."""
    prompt, generator = (numbers.ravel() for numbers in np.indices((12, 4)))
    noise = np.random.default_rng(2).normal(size=48)
    truth = 10.0 * generator + 100.0 * prompt + noise - np.repeat(noise.reshape(12, 4).mean(1), 4)
    rows = TestRows(prompt, generator, truth, truth)
    assert list(level_metrics(rows).values()) == [1, 1, 1, 1]
    of_generator = level_metrics(replace(rows, prediction=0.1 * generator))
    assert of_generator == {"system_srcc": 1, "system_krcc": 1, "prompt_srcc": 1, "prompt_pairs": 1}
    of_prompt = level_metrics(replace(rows, prediction=0.1 * prompt))
    assert np.isnan([of_prompt["system_srcc"], of_prompt["system_krcc"]]).all()
    assert (of_prompt["prompt_srcc"], of_prompt["prompt_pairs"]) == (0, 0.5)
    assert nan_reasons(replace(rows, prediction=0.1 * prompt)) == EQUAL_GENERATORS


def test_a_prompt_with_many_images_of_a_generator_does_not_outweigh_the_others() -> None:
    # Generator x is best on two of three prompts, but has many images of the third.
    listed = [("p", "x", 5.0, 5.0), ("q", "x", 5.0, 5.0), *[("r", "x", 1.0, 1.0)] * 20]
    listed += [(prompt, "y", 3.0, 2.0) for prompt in "pqr"] + [(prompt, "z", 2.0, 1.0) for prompt in "pqr"]
    assert level_metrics(rows_of(listed))["system_srcc"] == 1
    assert generator_means(listed, 2) == [pytest.approx(11 / 3), 3, 2]


def test_predictions_that_are_equal_up_to_rounding_are_equal() -> None:
    rows = random_rows(3)
    equal = np.full(200, 0.1)
    rounded = replace(rows, prediction=equal + np.random.default_rng(4).choice([0, 1.4e-17], 200))
    found = level_metrics(rounded)
    assert np.isnan(found["system_srcc"]) and (found["prompt_srcc"], found["prompt_pairs"]) == (0, 0.5)
    # The means of equal predictions of 3 and of 7 rows differ in the last digit.
    assert np.isnan(level_metrics(replace(rows, prediction=equal))["system_krcc"])


def test_reasons_name_what_is_missing_and_leave_the_other_metrics_alone() -> None:
    rows = random_rows(5)
    one_generator = replace(rows, generator=np.full(200, "g0", object))
    assert nan_reasons(rows) == ""
    assert nan_reasons(one_generator) == TOO_FEW_GENERATORS
    own_prompts = replace(rows, group=np.arange(200))
    assert nan_reasons(own_prompts) == NO_PAIRS
    assert nan_reasons(replace(own_prompts, generator=one_generator.generator)) == (
        f"{TOO_FEW_GENERATORS}; {NO_PAIRS}"
    )
    for changed, missing in ((one_generator, "system"), (own_prompts, "prompt")):
        values = evaluate_rows(changed)
        assert list(values) == list(METRICS)
        assert all(np.isnan(value) == name.startswith(missing) for name, value in values.items())


def test_a_reason_of_all_metrics_is_given_once() -> None:
    rows = random_rows(6)
    assert nan_reasons(replace(rows, prediction=np.full(200, 2.0))) == "all predictions are equal"
    assert nan_reasons(replace(rows, truth=np.full(200, 2.0))) == "all true scores are equal"
    spoiled = replace(rows, prediction=np.r_[np.nan, rows.prediction[1:]])
    assert nan_reasons(spoiled) == "a prediction is not finite"
    assert np.isnan(list(level_metrics(spoiled).values())).all()
    assert nan_reasons(TestRows(*(column[:1] for column in vars(rows).values()))) == "1 test rows"
    constant = evaluate_rows(replace(rows, prediction=np.full(200, 2.0)))
    assert np.isnan(constant["srcc"]) and constant["prompt_pairs"] == 0.5
