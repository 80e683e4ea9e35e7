"""The conclusion of a report says what the tests allow, and never more."""

import math
import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tier4k.heads.reporting.html.conclusion import Evidence, MeasuredRun, conclude

NAN = math.nan
INTERVAL = (0.7, 0.9)
BASELINE = MeasuredRun("generator mean", 0.5, (0.4, 0.6))


def evidence(
    values: list[float],
    p: dict[tuple[int, int], float] | None = None,
    p_baseline: tuple[float, ...] = (),
    baseline: MeasuredRun | None = None,
    no_test: str = "",
) -> Evidence:
    """Evidence on runs A, B, … with these values."""
    runs = [MeasuredRun("ABCDEF"[place], value, INTERVAL) for place, value in enumerate(values)]
    return Evidence("quality", tuple(runs), p or {}, no_test, "", baseline, p_baseline)


def test_a_run_is_best_only_if_every_other_run_is_significantly_lower() -> None:
    p = {(0, 1): 0.01, (0, 2): 0.9, (1, 2): 0.04}
    assert conclude(evidence([0.6, 0.819, 0.5], p)) == (
        "B is best for quality, SRCC 0.819 [0.700, 0.900]: both other runs are significantly lower "
        "(largest p = 0.040)."
    )
    assert conclude(evidence([0.8, 0.6], {(0, 1): 0.0001})) == (
        "A is best for quality, SRCC 0.800 [0.700, 0.900]: B is significantly lower (0.600, p < 0.001)."
    )


def test_a_difference_that_is_not_significant_is_called_so() -> None:
    assert conclude(evidence([0.8, 0.79], {(0, 1): 0.31})) == (
        "A has the highest SRCC for quality, 0.800 [0.700, 0.900]; the difference from B is not significant, "
        "p = 0.310."
    )
    p = {(0, 1): 0.2, (0, 2): 0.01, (1, 2): 0.01}
    assert conclude(evidence([0.8, 0.79, 0.1], p)).endswith(
        "; it differs significantly from 1 of the 2 other runs, but not from B, p = 0.200."
    )
    assert (
        "; it does not differ significantly from any of the 2 other runs; the next is B, p = 0.200."
        in conclude(evidence([0.8, 0.79, 0.1], p | {(0, 2): 0.06}))
    )


def test_runs_without_a_test_are_not_called_different() -> None:
    text = conclude(evidence([0.8, 0.2], {(0, 1): NAN}, no_test="test prompts are also in training"))
    assert text.endswith("; the difference has no test, as test prompts are also in training.")
    assert "A has the highest SRCC" in text
    assert "No run has an SRCC for quality." in conclude(evidence([NAN, NAN]))
    assert "best" not in conclude(evidence([0.8, NAN], {(0, 1): NAN}))
    against = conclude(evidence([0.8, 0.7], {(0, 1): NAN}, (NAN, NAN), BASELINE, "one prompt is tested"))
    assert "Differences from the generator mean baseline" in against
    assert against.endswith("have no test, as one prompt is tested.")


def test_one_run_is_described_and_compared_with_its_baseline_alone() -> None:
    described = "A has SRCC 0.800 [0.700, 0.900] for quality."
    assert conclude(evidence([0.8])) == described
    named = "the generator mean baseline (SRCC 0.500 [0.400, 0.600])"
    cases = {
        0.001: f"It is significantly above {named}, p = 0.001.",
        0.2: f"Its difference from {named} is not significant (p = 0.200).",
        NAN: f"Its difference from {named} has no test.",
    }
    for p, sentence in cases.items():
        assert conclude(evidence([0.8], p_baseline=(p,), baseline=BASELINE)) == f"{described} {sentence}"
    assert f"It does not beat {named}." in conclude(evidence([0.3], p_baseline=(1.0,), baseline=BASELINE))


@pytest.mark.parametrize(
    ("values", "p", "sentence"),
    [
        ([0.4, 0.3], (1.0, 1.0), "No run beats"),
        ([0.8, 0.3], (0.01, 1.0), "1 of 2 runs is significantly above"),
        ([0.8, 0.7], (0.01, 0.02), "Both runs are significantly above"),
    ],
)
def test_several_runs_are_compared_with_the_strongest_baseline(
    values: list[float], p: tuple[float, ...], sentence: str
) -> None:
    text = conclude(evidence(values, {(0, 1): 0.5}, p, BASELINE))
    assert text.endswith(f"{sentence} the generator mean baseline (SRCC 0.500 [0.400, 0.600]).")


def test_a_p_value_under_five_percent_is_not_that_of_a_run_below_the_baseline() -> None:
    """B is significantly below the baseline, which is no reason for or against A."""
    text = conclude(evidence([0.6, 0.3], {(0, 1): 0.5}, (0.06, 0.001), BASELINE))
    assert text.endswith(
        "No run is significantly above the generator mean baseline (SRCC 0.500 [0.400, 0.600]): the smallest "
        "p-value of the paired tests is 0.060 after Holm's correction."
    )


P = st.one_of(st.just(NAN), st.floats(0, 1))


@given(st.data())
def test_a_difference_is_claimed_only_where_the_corrected_p_value_is_under_five_percent(
    data: st.DataObject,
) -> None:
    count = data.draw(st.integers(1, 5))
    values = data.draw(st.lists(st.one_of(st.just(NAN), st.floats(-1, 1)), min_size=count, max_size=count))
    p = {pair: data.draw(P) for pair in combinations(range(count), 2)}
    p_baseline = tuple(data.draw(st.lists(P, min_size=count, max_size=count)))
    text = conclude(evidence(values, p, p_baseline, BASELINE))
    finite = [place for place in range(count) if math.isfinite(values[place])]
    if "is best" in text:
        top = max(finite, key=lambda place: values[place])
        assert all(evidence(values, p).p_of(top, place) < 0.05 for place in range(count) if place != top)
    if counted := re.search(r"it differs significantly from (\d) of", text):
        top = max(finite, key=lambda place: values[place])
        tests = [evidence(values, p).p_of(top, place) for place in range(count) if place != top]
        assert int(counted[1]) == sum(test < 0.05 for test in tests)
    above = [place for place in finite if values[place] > BASELINE.srcc and p_baseline[place] < 0.05]
    claimed = re.search(r"(It|Both|All \d|\d of \d)(?: runs?)? (?:is|are) significantly above", text)
    assert bool(claimed) == bool(above)
    if claimed and claimed[1] != "It":
        claimed_runs = 2 if claimed[1] == "Both" else int(re.findall(r"\d", claimed[1])[0])
        assert claimed_runs == len(above)
