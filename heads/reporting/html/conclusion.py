"""The sentences with which a report opens: what the tests allow to say about the runs on one target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tier4k.heads.reporting.comparison import SIGNIFICANT

Interval = tuple[float, float]


@dataclass(frozen=True)
class MeasuredRun:
    """A run, or a baseline, with its SRCC on one target.

    Attributes:
        name: Name as a reader sees it.
        srcc: Mean over the repeats; NaN without an SRCC.
        interval: 95 % interval of the recipe on new prompts; NaN without one.
    """

    name: str
    srcc: float
    interval: Interval

    @property
    def value(self) -> str:
        """The SRCC with its interval, such as "SRCC 0.819 [0.781, 0.853]"."""
        return f"SRCC {number(self.srcc)}{self.bounds}"

    @property
    def bounds(self) -> str:
        """The interval after a space; "" without one."""
        if not math.isfinite(self.interval[0]):
            return ""
        return f" [{number(self.interval[0])}, {number(self.interval[1])}]"


@dataclass(frozen=True)
class Evidence:
    """What is known about runs on one target that were tested on the same rows under the same protocol.

    Attributes:
        target: Name of the target.
        runs: The runs with their SRCC.
        p: p-value of each pair (first, second) of places in `runs`, first < second, after Holm's correction;
            NaN where there is no test.
        no_test: Why pairs have no test; "" where all have one.
        no_value: Why runs have no SRCC; "" where all have one, or where no reason is known.
        baseline: The baseline with the highest SRCC; None without baselines.
        p_baseline: p-value of each run against the baseline, after Holm's correction; NaN without a test.
    """

    target: str
    runs: tuple[MeasuredRun, ...]
    p: Mapping[tuple[int, int], float]
    no_test: str = ""
    no_value: str = ""
    baseline: MeasuredRun | None = None
    p_baseline: tuple[float, ...] = ()

    def p_of(self, one: int, other: int) -> float:
        """The p-value of two runs, NaN where there is no test."""
        return self.p.get((min(one, other), max(one, other)), math.nan)


def conclude(evidence: Evidence) -> str:
    """Return one or two sentences: the best run, and the runs against the strongest baseline.

    A difference is claimed only where its p-value after Holm's correction is under `SIGNIFICANT`.
    """
    measured = [place for place, run in enumerate(evidence.runs) if math.isfinite(run.srcc)]
    if not measured:
        return f"No run has an SRCC for {evidence.target}{_because(evidence.no_value)}."
    top = max(measured, key=lambda place: evidence.runs[place].srcc)
    first = _alone(evidence, top) if len(evidence.runs) == 1 else _among_others(evidence, top)
    return " ".join(filter(None, (first, _against_baseline(evidence, measured))))


def number(value: float) -> str:
    """Format a correlation with three decimals and a true minus sign."""
    return f"{value:.3f}".replace("-", "−")


def p_text(p: float) -> str:
    """Format a p-value after Holm's correction, such as "p = 0.012"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _because(reason: str) -> str:
    return f", as {reason}" if reason else ""


def _is_significant(p: float) -> bool:
    return p < SIGNIFICANT  # False for NaN


def _alone(evidence: Evidence, run: int) -> str:
    only = evidence.runs[run]
    return f"{only.name} has {only.value} for {evidence.target}."


def _among_others(evidence: Evidence, top: int) -> str:
    """Compare the run with the highest SRCC with every other run."""
    best = evidence.runs[top]
    others = [place for place in range(len(evidence.runs)) if place != top]
    unclear = [place for place in others if not _is_significant(evidence.p_of(top, place))]
    if not unclear:
        return f"{best.name} is best for {evidence.target}, {best.value}: {_lower(evidence, top, others)}."
    opening = f"{best.name} has the highest SRCC for {evidence.target}, {number(best.srcc)}{best.bounds}"
    return f"{opening}; {_not_significant(evidence, top, others, unclear)}."


def _lower(
    evidence: Evidence,
    top: int,
    others: Sequence[int],
) -> str:
    largest = p_text(max(evidence.p_of(top, place) for place in others))
    if len(others) == 1:
        other = evidence.runs[others[0]]
        return f"{other.name} is significantly lower ({number(other.srcc)}, {largest})"
    others_named = "both other runs" if len(others) == 2 else f"all {len(others)} other runs"
    return f"{others_named} are significantly lower (largest {largest})"


def _not_significant(
    evidence: Evidence,
    top: int,
    others: Sequence[int],
    unclear: Sequence[int],
) -> str:
    """State which differences from the highest run are not significant, or have no test."""
    tested = [place for place in unclear if math.isfinite(evidence.p_of(top, place))]
    if not tested:
        which = (
            "the difference has" if len(others) == 1 else f"{len(unclear)} of {len(others)} differences have"
        )
        return f"{which} no test{_because(evidence.no_test)}"
    closest = max(tested, key=lambda place: evidence.runs[place].srcc)
    name = evidence.runs[closest].name
    p = p_text(evidence.p_of(top, closest))
    if len(others) == 1:
        return f"the difference from {name} is not significant, {p}"
    number_of_others = f"the {len(others)} other runs"
    clear = len(others) - len(unclear)
    if not clear:
        return f"it does not differ significantly from any of {number_of_others}; the next is {name}, {p}"
    more = len(unclear) - 1
    and_more = f", and {more} {'other' if more == 1 else 'others'}" if more else ""
    return f"it differs significantly from {clear} of {number_of_others}, but not from {name}, {p}{and_more}"


def _against_baseline(evidence: Evidence, measured: Sequence[int]) -> str:
    """Compare the runs with the strongest baseline."""
    baseline = evidence.baseline
    if baseline is None or not math.isfinite(baseline.srcc):
        return ""
    described = f"the {baseline.name} baseline ({baseline.value})"
    higher = [place for place in measured if evidence.runs[place].srcc > baseline.srcc]
    above = [place for place in higher if _is_significant(evidence.p_baseline[place])]
    if len(evidence.runs) == 1:
        return _one_against_baseline(evidence, described, bool(higher), bool(above))
    if not higher:
        return f"No run beats {described}."
    if not any(math.isfinite(evidence.p_baseline[place]) for place in higher):
        return f"Differences from {described} have no test{_because(evidence.no_test)}."
    if not above:
        tests = [evidence.p_baseline[place] for place in higher]
        smallest = p_text(min(p for p in tests if math.isfinite(p)))
        return (
            f"No run is significantly above {described}: the smallest p-value of the paired tests is "
            f"{smallest.removeprefix('p = ')} after Holm's correction."
        )
    if len(above) == len(evidence.runs):
        all_named = "Both" if len(above) == 2 else f"All {len(above)}"
        return f"{all_named} runs are significantly above {described}."
    be = "is" if len(above) == 1 else "are"
    return f"{len(above)} of {len(evidence.runs)} runs {be} significantly above {described}."


def _one_against_baseline(
    evidence: Evidence,
    baseline: str,
    higher: bool,
    above: bool,
) -> str:
    (p,) = evidence.p_baseline
    if not higher:
        return f"It does not beat {baseline}."
    if above:
        return f"It is significantly above {baseline}, {p_text(p)}."
    if math.isfinite(p):
        return f"Its difference from {baseline} is not significant ({p_text(p)})."
    return f"Its difference from {baseline} has no test{_because(evidence.no_test)}."
