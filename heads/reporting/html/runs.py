"""The runs of a report, with their names and the lines of the ablation table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from string import ascii_uppercase

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.levels import LEVEL_METRICS
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.leakage import leak_mark, leaked
from tier4k.heads.reporting.run_names import (
    FACTORS,
    OF_IMAGES,
    OF_TEXT,
    Context,
    RunName,
    differing_parts,
    run_names,
    short_labels,
)
from tier4k.heads.reporting.run_settings import RunSettings, read_settings
from tier4k.heads.reporting.terminal import LABELS, SHOWN_METRICS, references
from tier4k.heads.results.read import read_curves, read_predictions
from tier4k.heads.results.results import Results

LinePlace = tuple[str, str, Context]

LOWER_IS_BETTER = frozenset(("rmse", "rmse_logistic"))


@dataclass(frozen=True)
class RunFolder:
    """A folder of runs/ with its settings and results."""

    path: Path
    settings: RunSettings
    results: Results


@dataclass(frozen=True)
class ReportRun:
    """A run of the report: one folder, or several that differ in their targets alone, such as a sweep's.

    Attributes:
        letter: A, B, … as in `tier compare`.
        folders: The folders of the run; no two have a target in common.
        settings: Settings of the first folder.
        results: Results of all folders together.
        predictions: Lines of predictions.csv of all folders.
        curves: Lines of curves.csv of all folders; empty where the heads have no epochs.
        name: The settings that a reader sees.
        label: The letter and the settings that tell the run apart from the others of the report.
        short_label: The label without the letter and the data set.
    """

    letter: str
    folders: tuple[RunFolder, ...]
    settings: RunSettings
    results: Results
    predictions: pd.DataFrame
    curves: pd.DataFrame
    name: RunName
    label: str
    short_label: str

    @property
    def leaks(self) -> bool:
        """Whether prompts or images of the test rows were seen in training."""
        return self.results.leaks

    def folder(self, target: str) -> Path:
        """Folder with the results of a target.

        Raises:
            KeyError: The run has no such target.
        """
        for folder in self.folders:
            if target in folder.results.summaries:
                return folder.path
        raise KeyError(target)


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


def read_runs(folders: Sequence[Path]) -> list[ReportRun]:
    """Read and name runs; folders that differ in their targets alone become one run, and copies count once.

    Raises:
        ReportError: No run was given, or predictions of a target are missing.
        ResultError: A folder is not the folder of a run, or is damaged.
    """
    distinct = {folder.resolve(): folder for folder in folders}
    if not distinct:
        raise ReportError("a report needs one run or more: use tier report runs/*")
    groups = _groups(list(map(_read_folder, distinct.values())))
    settings = []
    identities = []
    for first, *_ in groups:
        settings.append(first.settings)
        identities.append(first.results.digest)
    names = run_names(settings, identities)
    labels = short_labels(names)
    several_data = bool(differing_parts(names, ["data"]))
    runs: list[ReportRun] = []
    for group, name, short_label in zip(groups, names, labels, strict=True):
        letter = _letter(len(runs))
        label = f"{letter}  {name.data} · {short_label}" if several_data else f"{letter}  {short_label}"
        runs.append(_report_run(group, name, letter, label, short_label))
    return runs


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


def comparable_groups(runs: Sequence[ReportRun]) -> list[tuple[str, list[ReportRun]]]:
    """Return the groups of runs that differ in one factor alone, as [(factor, runs)].

    Streams without images, or without text, have no settings of them: such runs differ in nothing but their
    streams from the runs of every image encoder, or of every text encoder.
    """
    comparable = []
    for factor in FACTORS:
        groups: dict[tuple[str, ...], dict[str, ReportRun]] = {}
        for run in runs:
            others = [other for other in FACTORS if other != factor]
            for name in _completions(run.name, runs) if factor == "streams" else [run.name]:
                other_values = [getattr(name, other) for other in others]
                group = groups.setdefault((*name.context, *other_values), {})
                group.setdefault(getattr(name, factor), run)
        for group in groups.values():
            different = list(group.values())
            if len(different) > 1:
                comparable.append((factor, different))
    return comparable


def _completions(name: RunName, runs: Sequence[ReportRun]) -> list[RunName]:
    """Return a name with the settings of images and of text that it lacks, once for those of each run."""
    names = [name]
    for parts in (OF_IMAGES, OF_TEXT):
        if getattr(name, parts[0]):
            continue
        settings = {tuple(getattr(run.name, part) for part in parts): None for run in runs}
        known = [values for values in settings if values[0]]
        completed = []
        for values in known:
            settings_of_run = dict(zip(parts, values, strict=True))
            completed += [replace(one, **settings_of_run) for one in names]
        names = completed or names
    return names


# ---- reading


def _read_folder(path: Path) -> RunFolder:
    return RunFolder(path, read_settings(path), Results.read(path))


def _groups(folders: Sequence[RunFolder]) -> list[list[RunFolder]]:
    """Group folders that differ in their targets alone, in the order of each first folder; drop copies."""
    groups: dict[str, list[list[RunFolder]]] = {}
    for folder in folders:
        _add_to_group(folder, groups.setdefault(folder.settings.key, []))
    order = _target_order(folders)

    def place(folder: RunFolder) -> int:
        return min(map(order.index, folder.results.summaries))

    ordered = []
    for groups_of_key in groups.values():
        for group in groups_of_key:
            group.sort(key=place)
            ordered.append(group)
    return ordered


def _add_to_group(folder: RunFolder, groups: list[list[RunFolder]]) -> None:
    """Add a folder to the first group without its targets, or to a new group; leave out a copy."""
    free_group = None
    for group in groups:
        known_targets: set[str] = set()
        for other in group:
            if other.results.id == folder.results.id:
                return
            known_targets |= other.results.summaries.keys()
        if free_group is None and known_targets.isdisjoint(folder.results.summaries):
            free_group = group
    if free_group is None:
        groups.append([folder])
    else:
        free_group.append(folder)


def _target_order(folders: Sequence[RunFolder]) -> list[str]:
    """Order targets as in the runs with most targets; targets of separate runs by name."""
    lists = [list(folder.results.summaries) for folder in folders]
    order: dict[str, None] = {}
    for targets in sorted(lists, key=lambda names: (-len(names), names[0])):
        order.update(dict.fromkeys(targets))
    return list(order)


def _report_run(
    folders: Sequence[RunFolder],
    name: RunName,
    letter: str,
    label: str,
    short_label: str,
) -> ReportRun:
    results = []
    predictions = []
    curves = []
    for folder in folders:
        results.append(folder.results)
        predictions.append(_predictions(folder))
        curves.append(read_curves(folder.path))
    return ReportRun(
        letter=letter,
        folders=tuple(folders),
        settings=folders[0].settings,
        results=_merge(results),
        predictions=pd.concat(predictions, ignore_index=True),
        curves=pd.concat(curves, ignore_index=True),
        name=name,
        label=label,
        short_label=short_label,
    )


def _merge(parts: Sequence[Results]) -> Results:
    """Merge results of different targets into the results of one run."""
    merged = parts[0]
    for part in parts[1:]:
        merged = replace(
            merged,
            missing_scores=merged.missing_scores | part.missing_scores,
            fewest_prompts=merged.fewest_prompts | part.fewest_prompts,
            summaries=merged.summaries | part.summaries,
            reasons=merged.reasons | part.reasons,
            prediction_intervals=merged.prediction_intervals | part.prediction_intervals,
            chosen=merged.chosen | part.chosen,
            selection_srcc=merged.selection_srcc | part.selection_srcc,
        )
    return merged


def _predictions(folder: RunFolder) -> pd.DataFrame:
    predictions = read_predictions(folder.path)
    targets = set(predictions["target"])
    for target in folder.results.summaries:
        if target not in targets:
            raise ReportError(
                f"{folder.path / 'predictions.csv'} has no predictions of {target}, but results.json "
                f"has results of {target}: delete {folder.path} and run the command of this run again"
            )
    return predictions


def _letter(number: int) -> str:
    """Return the letter of a run by its number: A to Z, then AA, AB, …"""
    more, last = divmod(number, len(ascii_uppercase))
    first = _letter(more - 1) if more else ""
    return first + ascii_uppercase[last]


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
