"""The runs of a report: read, told apart, and set out as lines of an ablation table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeVar

import pandas as pd

from tier4k.cache.errors import TierError
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.reporting.run_names import FACTORS, RunName, differing, labels, run_names
from tier4k.heads.reporting.terminal import LABELS, SHOWN_METRICS, shown_baselines
from tier4k.heads.results.files import read_config, read_curves, read_predictions
from tier4k.heads.results.results import Results

LOWER_IS_BETTER = frozenset(("rmse", "rmse_logistic"))

OF_TARGETS = (
    "targets",
    "environment",
)  # fields of a configuration in which the folders of one run of the report may differ

Value = TypeVar("Value")


class ReportError(TierError):
    """Runs or pictures that no report can be written of."""


@dataclass(frozen=True)
class Source:
    """A folder of runs/: its config.json and its results.json."""

    folder: Path
    config: Mapping[str, Any]
    results: Results


@dataclass(frozen=True)
class ReportRun:
    """One run, read from its folder; or several that differ in their targets alone, as those of a sweep, which a reader takes for one.

    Attributes:
        letter: A, B, … as in `tier compare`.
        sources: Where it was read; no two tell of the same target.
        config: The config.json of the first, with the targets of all.
        results: The results.json of all together.
        predictions: Their predictions.csv.
        curves: Their curves.csv; no line where the heads have no epochs.
        name: What a reader knows it by.
        label: The letter and what sets it apart from the other runs of the report.
        short: The same without the letter and the data set.
    """

    letter: str
    sources: tuple[Source, ...]
    config: Mapping[str, Any]
    results: Results
    predictions: pd.DataFrame
    curves: pd.DataFrame
    name: RunName
    label: str
    short: str

    @property
    def leaks(self) -> bool:
        """Whether anything of the test rows was seen in training."""
        return self.results.leaks

    def folder(self, target: str) -> Path:
        """Where the results of a target lie."""
        return next(source.folder for source in self.sources if target in source.results.summaries)


@dataclass(frozen=True)
class Line:
    """One line of the ablation table: a run's result, or a floor, on one target.

    Attributes:
        run: Letter of the run, "" for a floor.
        target: Name of the target.
        name: What is on the line; of a floor only the context says something.
        floor: Name of the floor, "" for a run.
        leaks: Whether the split leaks.
        figures: {metric: Summary} for `SHOWN_METRICS`.
        best: Metrics in which no run of the same target and context is better; empty where there is no other run.
    """

    run: str
    target: str
    name: RunName
    floor: str
    leaks: bool
    figures: Mapping[str, Summary]
    best: frozenset[str]

    @property
    def key(self) -> str:
        """What no other line has."""
        return " ".join((self.run or self.floor, self.target, *self.name.context))


def read_runs(folders: Sequence[Path]) -> list[ReportRun]:
    """Read runs, each once, put together those that differ in their targets alone, and name them.

    Raises:
        ReportError: No folder is given, or a run's predictions are not of its targets.
        ResultError: A folder is no run, or something in it is missing or damaged.
    """
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    if not distinct:
        raise ReportError("a report needs one run or more: tier report runs/*")
    groups = _groups([Source(folder, read_config(folder), Results.read(folder)) for folder in distinct])
    names = run_names(
        [group[0].config for group in groups], [group[0].results.id.rpartition("-")[-1] for group in groups]
    )
    several = bool(differing(names, ["data"]))
    return [
        _read(_letter(number), group, name, short, several)
        for number, (group, name, short) in enumerate(zip(groups, names, labels(names), strict=True))
    ]


def ablation(runs: Sequence[ReportRun]) -> list[Line]:
    """Every run's headline on every target, and the floors of every target and context once, data set by data set."""
    lines = [
        Line(
            run.letter,
            target,
            run.name,
            "",
            run.leaks,
            summaries[run.results.headline],
            _best_in(run, target, runs),
        )
        for run in runs
        for target, summaries in run.results.summaries.items()
    ]
    floors = {
        (target, floor, run.name.context): Line(
            "", target, run.name, floor, run.leaks, summaries[floor], frozenset()
        )
        for run in reversed(runs)
        for target, summaries in run.results.summaries.items()
        for floor in shown_baselines(run.results)
    }
    order = list(dict.fromkeys((line.name.data, line.target, line.name.context) for line in lines))
    return sorted(
        [*lines, *reversed(floors.values())],
        key=lambda line: order.index((line.name.data, line.target, line.name.context)),
    )


def spans(some: Sequence[ReportRun], runs: Sequence[ReportRun]) -> str:
    """Letters of some of the runs as a reader takes them in at a glance, such as "A–D, F"; "all runs" where they are all of several."""
    if len(some) == len(runs) > 1:
        return "all runs"
    letters = [run.letter for run in runs]
    places = enumerate(sorted(letters.index(run.letter) for run in some))
    stretches = [
        [letters[place] for _, place in part] for _, part in groupby(places, lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{one[0]}–{one[-1]}" if len(one) > 2 else ", ".join(one) for one in stretches)


def comparable(runs: Sequence[ReportRun]) -> list[tuple[str, list[ReportRun]]]:
    """Groups of runs that differ in one factor alone, as [(factor, runs)]."""
    found = []
    for factor in FACTORS:
        groups: dict[tuple[str, ...], dict[str, ReportRun]] = {}
        for run in runs:
            others = tuple(getattr(run.name, other) for other in FACTORS if other != factor)
            groups.setdefault((*run.name.context, *others), {}).setdefault(getattr(run.name, factor), run)
        found += [(factor, list(group.values())) for group in groups.values() if len(group) > 1]
    return found


def by_data(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Lines of each data set."""
    out: dict[str, list[Line]] = {}
    for line in lines:
        out.setdefault(line.name.data, []).append(line)
    return out


def _groups(sources: Sequence[Source]) -> list[list[Source]]:
    """Sources that differ in their targets alone, in the order of the first of each; the same run in two folders counts once."""
    alike: dict[str, list[list[Source]]] = {}
    for source in sources:
        key = json.dumps(
            {name: value for name, value in source.config.items() if name not in OF_TARGETS}, sort_keys=True
        )
        groups = alike.setdefault(key, [])
        if any(source.results.id == one.results.id for group in groups for one in group):
            continue
        targets = set(source.results.summaries)
        free = next(
            (group for group in groups if not any(targets & set(one.results.summaries) for one in group)),
            None,
        )
        if free is None:
            groups.append([source])
        else:
            free.append(source)
    order = _target_order(sources)
    return [
        sorted(group, key=lambda one: min(map(order.index, one.results.summaries)))
        for groups in alike.values()
        for group in groups
    ]


def _target_order(sources: Sequence[Source]) -> list[str]:
    """Targets in the order of the runs that have most of them; those that no run has together by name."""
    lists = [list(source.results.summaries) for source in sources]
    return list(
        dict.fromkeys(
            target for targets in sorted(lists, key=lambda one: (-len(one), one[0])) for target in targets
        )
    )


def _read(letter: str, sources: Sequence[Source], name: RunName, short: str, several_data: bool) -> ReportRun:
    predictions = [_predictions(source) for source in sources]
    results = _together([source.results for source in sources])
    return ReportRun(
        letter,
        tuple(sources),
        {**sources[0].config, "targets": list(results.summaries)},
        results,
        pd.concat(predictions, ignore_index=True),
        pd.concat([read_curves(source.folder) for source in sources], ignore_index=True),
        name,
        label=f"{letter}  {name.data} · {short}" if several_data else f"{letter}  {short}",
        short=short,
    )


def _together(parts: Sequence[Results]) -> Results:
    """Results of different targets as those of one run."""
    return replace(
        parts[0],
        summaries=_union([part.summaries for part in parts]),
        reasons=_union([part.reasons for part in parts]),
        intervals=_union([part.intervals for part in parts]),
        held_out_srcc=_union([part.held_out_srcc for part in parts]),
        seconds=sum(part.seconds for part in parts),
    )


def _union(parts: Iterable[Mapping[str, Value]]) -> dict[str, Value]:
    return {target: value for part in parts for target, value in part.items()}


def _predictions(source: Source) -> pd.DataFrame:
    predictions = read_predictions(source.folder)
    missing = [target for target in source.results.summaries if not (predictions["target"] == target).any()]
    if missing:
        raise ReportError(
            f"{source.folder / 'predictions.csv'} has no line of {', '.join(missing)}, which results.json tells of: delete {source.folder} "
            "and run the command again that made it"
        )
    return predictions


def _letter(number: int) -> str:
    more, last = divmod(number, len(ascii_uppercase))
    return (_letter(more - 1) if more else "") + ascii_uppercase[last]


def _best_in(run: ReportRun, target: str, runs: Sequence[ReportRun]) -> frozenset[str]:
    rivals = [
        other.results
        for other in runs
        if other.name.context == run.name.context and target in other.results.summaries
    ]
    if len(rivals) < 2:
        return frozenset()
    own = run.results.summaries[target][run.results.headline]
    best = set()
    for metric in SHOWN_METRICS:
        means = [rival.summaries[target][rival.headline][metric].mean for rival in rivals]
        means = [mean for mean in means if mean == mean]
        if means and own[metric].mean == (min if metric in LOWER_IS_BETTER else max)(means):
            best.add(metric)
    return frozenset(best)


def line_title(line: Line, runs: Mapping[str, ReportRun]) -> str:
    """What sets a line apart from the others, in words; `runs` by their letters."""
    return (
        runs[line.run].short
        if line.run
        else f"{LABELS[line.floor]} · {line.name.benchmark} · {line.name.split}"
    )
