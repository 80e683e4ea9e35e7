"""Groups of runs that differ in one setting alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import (
    FACTORS,
    OF_IMAGES,
    OF_TEXT,
    ORDER,
    RunName,
    differing_parts,
    merged_name,
)

# Settings that decide the test rows, with their titles: runs that differ in one of them have no pairs.
UNPAIRED = {"data": "data set", "benchmark": "benchmark", "split": "split"}

SETTINGS = {**UNPAIRED, **FACTORS}

NO_VALUE = "none"  # shown for a setting that a run does not have, such as the image encoder of text alone


def values_of(runs: Sequence[ReportRun], targets: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the settings in which runs differ alone on a common target, with their values.

    Args:
        runs: Runs as `tier4k.heads.reporting.read_runs.read_runs` returns them.
        targets: Targets that count; empty for all.

    Returns:
        {key of `SETTINGS`: values such as "pooled" in the order of the runs}, in the order of `SETTINGS`.
    """
    letters: dict[str, set[str]] = {}
    for setting, group in comparable_groups(runs, tuple(SETTINGS)):
        for some, _ in with_targets(group, targets):
            letters.setdefault(setting, set()).update(run.letter for run in some)
    values = {}
    for setting, of_setting in letters.items():
        in_order = [value_of(run, setting) for run in runs if run.letter in of_setting]
        values[setting] = list(dict.fromkeys(in_order))
    return values


def with_targets(
    group: Sequence[ReportRun], targets: Sequence[str]
) -> list[tuple[list[ReportRun], list[str]]]:
    """Group runs as `group_by_folders`, with the given targets alone; empty means all."""
    found = []
    for runs, own_targets in group_by_folders(group):
        kept = [target for target in own_targets if not targets or target in targets]
        if kept:
            found.append((runs, kept))
    return found


def value_of(run: ReportRun, setting: str) -> str:
    return getattr(run.name, setting) or NO_VALUE


def comparable_groups(
    runs: Sequence[ReportRun], settings: Sequence[str] = tuple(FACTORS)
) -> list[tuple[str, list[ReportRun]]]:
    """Return the groups of runs that differ in one setting alone, as [(setting, runs)].

    Streams without images, or without text, have no settings of them: such runs differ in nothing but their
    streams from the runs of every image encoder, or of every text encoder.

    Args:
        runs: The runs.
        settings: Keys of `SETTINGS`.
    """
    comparable = []
    for setting in settings:
        others = [other for other in SETTINGS if other != setting]
        groups: dict[tuple[str, ...], dict[str, ReportRun]] = {}
        for run in runs:
            for name in _completions(run.name, runs) if setting == "streams" else [run.name]:
                other_values = tuple(getattr(name, other) for other in others)
                group = groups.setdefault(other_values, {})
                group.setdefault(getattr(name, setting), run)
        for group in groups.values():
            different = list(group.values())
            if len(different) > 1:
                comparable.append((setting, different))
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


def common_and_other_parts(
    setting: str, groups: Sequence[Sequence[ReportRun]]
) -> tuple[list[str], list[str]]:
    """Return the parts of a run's name that are alike in all groups, and those in which groups differ."""
    names = [common_name(group) for group in groups]
    common: list[str] = []
    others: list[str] = []
    for part in ("data", *ORDER):
        if part != setting:
            (others if differing_parts(names, [part]) else common).append(part)
    return common, others


def common_name(group: Sequence[ReportRun]) -> RunName:
    return merged_name([run.name for run in group])


def group_by_folders(group: Sequence[ReportRun]) -> list[tuple[list[ReportRun], list[str]]]:
    """Group runs with a common target by the folders that contain the results of the target."""
    targets: dict[str, list[ReportRun]] = {}
    for run in group:
        for target in run.results.summaries:
            targets.setdefault(target, []).append(run)
    found: dict[tuple[Path, ...], tuple[list[ReportRun], list[str]]] = {}
    for target, runs in targets.items():
        if len(runs) > 1:
            folders = tuple(run.folder(target) for run in runs)
            found.setdefault(folders, (runs, []))[1].append(target)
    return list(found.values())
