"""The lines of the report's ablation table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.levels import LEVEL_METRICS
from tier4k.heads.reporting.labels import LABELS, SHOWN_METRICS, references
from tier4k.heads.reporting.leakage import leak_mark, leaked
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import Context, RunName

LinePlace = tuple[str, str, Context]

LOWER_IS_BETTER = frozenset(("rmse", "rmse_logistic"))


@dataclass(frozen=True)
class TableLine:
    """One line of the ablation table: a run's result, a baseline, or the raters' ceiling, on one target.

    Attributes:
        run: Letter of the run, "" for a baseline.
        target: Name of the target.
        name: Name of the run; for a baseline only its context counts.
        baseline: Name of the baseline or of the ceiling, "" for a run.
        leaks: Mark with the size of the leak, as `leak_mark` returns it; "" if nothing leaks.
        metrics: {metric: Summary}.
        best: Metrics in which no run with the same target and test rows is better; empty without other runs.
    """

    run: str
    target: str
    name: RunName
    baseline: str
    leaks: str
    metrics: Mapping[str, Summary]
    best: frozenset[str]

    @property
    def place(self) -> LinePlace:
        """Place of the line in the table: lines with equal places stand together."""
        return self.name.data, self.target, self.name.context

    @property
    def key(self) -> str:
        """Identity of the line on the page."""
        name = self.run or self.baseline
        return " ".join((name, self.target, *self.name.context))


def ablation_lines(runs: Sequence[ReportRun]) -> list[TableLine]:
    """Return every run's result on every target, and the baselines of every target and context once.

    Lines of one data set, target and context stand together.
    """
    lines = _run_lines(runs)
    groups: dict[LinePlace, list[TableLine]] = {}
    for line in [*lines, *_baseline_lines(runs)]:
        groups.setdefault(line.place, []).append(line)
    ordered = []
    for group in groups.values():
        ordered += group
    return ordered


def line_title(line: TableLine, runs: Mapping[str, ReportRun]) -> str:
    """Return the settings that tell a line apart from the other lines; `runs` has the runs by letter."""
    if line.run:
        return runs[line.run].short_label
    return f"{LABELS[line.baseline]} · {line.name.benchmark} · {line.name.split}"


def lines_by_data(lines: Iterable[TableLine]) -> dict[str, list[TableLine]]:
    """Group lines by data set."""
    grouped: dict[str, list[TableLine]] = {}
    for line in lines:
        grouped.setdefault(line.name.data, []).append(line)
    return grouped


def letter_ranges(selected: Sequence[ReportRun], runs: Sequence[ReportRun]) -> str:
    """List the letters of selected runs, such as "A–D, F"; "all runs" if several runs are all selected."""
    if len(selected) == len(runs) > 1:
        return "all runs"
    letters = [run.letter for run in runs]
    places = sorted(letters.index(run.letter) for run in selected)
    texts = []
    # Place minus rank is equal for runs that follow each other.
    for _, neighbours in groupby(enumerate(places), lambda pair: pair[1] - pair[0]):
        part = [letters[place] for _, place in neighbours]
        texts.append(f"{part[0]}–{part[-1]}" if len(part) > 2 else ", ".join(part))
    return ", ".join(texts)


# ---- lines of the table


def _run_lines(runs: Sequence[ReportRun]) -> list[TableLine]:
    lines = []
    for run in runs:
        for target, summaries in run.results.summaries.items():
            line = TableLine(
                run=run.letter,
                target=target,
                name=run.name,
                baseline="",
                leaks=leak_mark(**leaked(run.results)),
                metrics=summaries[run.results.headline],
                best=_best_metrics(run, target, runs),
            )
            lines.append(line)
    return lines


def _baseline_lines(runs: Sequence[ReportRun]) -> list[TableLine]:
    lines: dict[LinePlace, TableLine] = {}
    # Of several runs with a baseline, the first of the report is written last, and stays.
    for run in reversed(runs):
        for target, summaries in run.results.summaries.items():
            for baseline in filter(summaries.__contains__, references(run.results)):
                lines[target, baseline, run.name.context] = TableLine(
                    run="",
                    target=target,
                    name=run.name,
                    baseline=baseline,
                    leaks=leak_mark(**leaked(run.results)),
                    metrics=summaries[baseline],
                    best=frozenset(),
                )
    return list(reversed(lines.values()))


def _best_metrics(
    run: ReportRun,
    target: str,
    runs: Sequence[ReportRun],
) -> frozenset[str]:
    """Return the metrics in which no other run of the target and test rows is better; none without others."""
    rivals = []
    for other in runs:
        if other.settings.test_rows == run.settings.test_rows and target in other.results.summaries:
            result = other.results.summaries[target][other.results.headline]
            rivals.append(result)
    if len(rivals) < 2:
        return frozenset()
    own = run.results.summaries[target][run.results.headline]
    best = set()
    for metric in (*SHOWN_METRICS, *LEVEL_METRICS):
        means = np.array([rival[metric].mean for rival in rivals])
        if np.isnan(means).all():
            continue
        best_mean = np.nanmin(means) if metric in LOWER_IS_BETTER else np.nanmax(means)
        if own[metric].mean == best_mean:
            best.add(metric)
    return frozenset(best)
