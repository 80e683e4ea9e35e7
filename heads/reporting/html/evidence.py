"""The evidence for the conclusion of a report: paired tests of runs on the same rows, and their baselines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.all_metrics import LIMITS
from tier4k.heads.metrics.recipe import largest_p
from tier4k.heads.metrics.significance import holm
from tier4k.heads.reporting.comparison import ROW_IDENTITY, ROW_ORDER, Comparison, compare
from tier4k.heads.reporting.html.conclusion import Evidence, MeasuredRun, conclude
from tier4k.heads.reporting.labels import LABELS, shown_baselines
from tier4k.heads.reporting.report_run import ReportRun

METRIC = "srcc"

NAN = float("nan")


@dataclass(frozen=True)
class Conclusion:
    """The conclusion on one group of runs: those with the same data, test rows, splits and protocol.

    Attributes:
        context: Data set, benchmark and split of the runs.
        runs: The runs.
        sentences: {target: one or two sentences}.
    """

    context: tuple[str, str, str]
    runs: tuple[ReportRun, ...]
    sentences: Mapping[str, str]


def conclusions(runs: Sequence[ReportRun]) -> list[Conclusion]:
    """Return the conclusion on every group of comparable runs, in the order of the runs."""
    return [_conclusion(group, len(runs) > 1) for group in comparable_runs(runs)]


def comparable_runs(runs: Sequence[ReportRun]) -> list[list[ReportRun]]:
    """Group runs whose results may be ranked: equal data, test rows, scores, splits and protocol version."""
    rows = {run.letter: _row_identities(run) for run in runs}
    groups: list[list[ReportRun]] = []
    for run in runs:
        fitting = [group for group in groups if all(_is_comparable(run, other, rows) for other in group)]
        if fitting:
            fitting[0].append(run)
        else:
            groups.append([run])
    return groups


def _is_comparable(
    one: ReportRun,
    other: ReportRun,
    rows: Mapping[str, Mapping[str, bytes]],
) -> bool:
    """Return whether the results of two runs may be ranked; `rows` has the identities of rows by letter."""
    if one.name.context != other.name.context or one.settings.test_rows != other.settings.test_rows:
        return False
    if one.settings.protocol != other.settings.protocol:
        return False
    common = rows[one.letter].keys() & rows[other.letter].keys()
    return all(rows[one.letter][target] == rows[other.letter][target] for target in common)


def _row_identities(run: ReportRun) -> dict[str, bytes]:
    """Return for each target the hashes of its test rows: repeat, name, prompt and score."""
    identities = {}
    for target, rows in run.predictions.groupby("target"):
        ordered = rows.sort_values(ROW_ORDER, kind="stable")[ROW_IDENTITY]
        identities[str(target)] = pd.util.hash_pandas_object(ordered, index=False).to_numpy().tobytes()
    return identities


def _conclusion(runs: Sequence[ReportRun], with_letters: bool) -> Conclusion:
    tests = _pair_tests(runs)
    against_baselines = _baseline_tests(runs)
    sentences = {}
    for target in _targets(runs):
        measured = [run for run in runs if target in run.results.summaries]
        sentences[target] = conclude(_evidence(target, measured, tests, against_baselines, with_letters))
    return Conclusion(runs[0].name.context, tuple(runs), sentences)


def _targets(runs: Sequence[ReportRun]) -> list[str]:
    return list(dict.fromkeys(target for run in runs for target in run.results.summaries))


def _evidence(
    target: str,
    runs: Sequence[ReportRun],
    tests: Mapping[tuple[str, str, str], Comparison],
    against_baselines: Mapping[tuple[str, str], float],
    with_letters: bool,
) -> Evidence:
    measured = []
    for run in runs:
        name = f"{run.letter} ({run.short_label})" if with_letters else run.short_label
        measured.append(_measured(name, _result(run, target)))
    p = {}
    no_test = ""
    for (first, one), (second, other) in combinations(enumerate(runs), 2):
        test = tests.get((one.letter, other.letter, target))
        p[first, second] = test.p_holm if test else NAN
        no_test = no_test or (test.interval_reason if test else "")
    strongest = _strongest_of_all(runs, target)
    return Evidence(
        target=target,
        runs=tuple(measured),
        p=p,
        no_test=no_test or _result(runs[0], target).interval_reason,
        no_value=runs[0].results.reasons[target].get(runs[0].results.headline, ""),
        baseline=_measured(_baseline_name(strongest[0]), strongest[1]) if strongest else None,
        p_baseline=tuple(against_baselines.get((run.letter, target), NAN) for run in runs),
    )


def _measured(name: str, summary: Summary) -> MeasuredRun:
    return MeasuredRun(name, summary.mean, summary.bounds)


def _result(run: ReportRun, target: str) -> Summary:
    return run.results.summaries[target][run.results.headline][METRIC]


def _baseline_name(baseline: str) -> str:
    return LABELS[baseline].removeprefix("baseline: ")


def _strongest_baseline(run: ReportRun, target: str) -> tuple[str, Summary] | None:
    """Return the baseline with the highest SRCC that a run has for a target, with its name; None without."""
    summaries = run.results.summaries[target]
    found = [(name, summaries[name][METRIC]) for name in shown_baselines(run.results) if name in summaries]
    known = [one for one in found if np.isfinite(one[1].mean)]
    return max(known, key=lambda one: one[1].mean, default=None)


def _strongest_of_all(runs: Sequence[ReportRun], target: str) -> tuple[str, Summary] | None:
    found = []
    for run in runs:
        strongest = _strongest_baseline(run, target)
        if strongest:
            found.append(strongest)
    return max(found, key=lambda one: one[1].mean, default=None)


# ---- tests


def _pair_tests(runs: Sequence[ReportRun]) -> dict[tuple[str, str, str], Comparison]:
    """Test every pair of runs in every target; Holm's correction counts all of them.

    Returns:
        {(letter, letter, target): the test}.
    """
    tests: dict[tuple[str, str, str], Comparison] = {}
    for target in _targets(runs):
        tested = [run for run in runs if target in run.results.summaries]
        if len(tested) < 2:
            continue
        for test in compare([run.folder(target) for run in tested]):
            if test.target == target:
                tests[tested[test.first].letter, tested[test.second].letter, target] = test
    corrected = holm(np.array([test.p for test in tests.values()]))
    with_holm = {}
    for (key, test), p in zip(tests.items(), corrected, strict=True):
        with_holm[key] = replace(test, p_holm=float(p))
    return with_holm


def _baseline_tests(runs: Sequence[ReportRun]) -> dict[tuple[str, str], float]:
    """Test every run against the strongest baseline of its rows, in every target.

    Predictions of baselines are not kept, so the test uses both intervals: it is conservative.

    Returns:
        {(letter, target): p-value after Holm's correction for all of them}.
    """
    keys = []
    p = []
    for run, target, baseline in _with_baselines(runs):
        rows = run.predictions[run.predictions["target"] == target]
        result = _result(run, target)
        low = result.bounds[0]
        high = baseline.bounds[1]
        prompts = rows["group"].nunique()
        keys.append((run.letter, target))
        p.append(largest_p(result.mean, low, baseline.mean, high, prompts, LIMITS[METRIC]))
    return dict(zip(keys, holm(np.array(p)).tolist(), strict=True))


def _with_baselines(runs: Sequence[ReportRun]) -> Iterator[tuple[ReportRun, str, Summary]]:
    """Yield every run and target with the strongest baseline that any run of the group has for the target."""
    for run in runs:
        for target in run.results.summaries:
            others = [other for other in runs if target in other.results.summaries]
            strongest = _strongest_of_all(others, target)
            if strongest:
                yield run, target, strongest[1]
