"""Reading runs for a report or a figure: joined where only their targets differ, and named."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

import pandas as pd

from tier4k.heads.reporting.comparison import ROW_IDENTITY, ROW_ORDER
from tier4k.heads.reporting.errors import ReportError, require_runs
from tier4k.heads.reporting.name_runs import run_names
from tier4k.heads.reporting.order import places_in_order
from tier4k.heads.reporting.report_run import ReportRun, RunFolder, order_of_targets
from tier4k.heads.reporting.run_name import RunName, differing_parts, short_labels
from tier4k.heads.reporting.run_settings import read_settings
from tier4k.heads.results.read import read_curves, read_predictions
from tier4k.heads.results.results import Results


def read_runs(folders: Sequence[Path]) -> list[ReportRun]:
    """Read and name runs; folders that differ in their targets alone become one run, and copies count once.

    Runs whose names differ in their digits alone are in the order of their options. Of runs that differ in
    nothing but the heads that were kept (--models), the first counts. Runs with other test rows or scores all
    count.

    Raises:
        ReportError: No run was given, or predictions of a target are missing.
        ResultError: A folder is not the folder of a run, or is damaged.
    """
    distinct = {folder.resolve(): folder for folder in require_runs(folders)}
    groups = _groups(_in_order([_read_folder(path) for path in distinct.values()]))
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


def _read_folder(path: Path) -> RunFolder:
    return RunFolder(path, read_settings(path), Results.read(path))


def _in_order(folders: Sequence[RunFolder]) -> list[RunFolder]:
    names = [folder.path.absolute().name for folder in folders]
    places = places_in_order(names, [folder.settings.sort_key for folder in folders])
    return [folders[place] for place in places]


def _groups(folders: Sequence[RunFolder]) -> list[list[RunFolder]]:
    """Group folders that differ in their targets alone, in the order of each first folder; drop copies."""
    groups: dict[str, list[list[RunFolder]]] = {}
    for folder in folders:
        _add_to_group(folder, groups.setdefault(folder.settings.key, []))
    order = order_of_targets(folders)

    def place(folder: RunFolder) -> int:
        return min(map(order.index, folder.results.summaries))

    ordered = []
    for groups_of_key in groups.values():
        for group in groups_of_key:
            group.sort(key=place)
            ordered.append(group)
    return ordered


def _add_to_group(folder: RunFolder, groups: list[list[RunFolder]]) -> None:
    """Add a folder to the first group without its targets, or to a new group; leave out an equal run."""
    free_group = None
    for group in groups:
        known_targets: set[str] = set()
        for other in group:
            if _is_equal(other, folder):
                return
            known_targets |= other.results.summaries.keys()
        if free_group is None and known_targets.isdisjoint(folder.results.summaries):
            free_group = group
    if free_group is None:
        groups.append([folder])
    else:
        free_group.append(folder)


def _is_equal(one: RunFolder, other: RunFolder) -> bool:
    """Return whether two runs with the same settings have the same targets, test rows and scores."""
    if one.results.summaries.keys() != other.results.summaries.keys():
        return False
    return one.results.id == other.results.id or _test_rows(one).equals(_test_rows(other))


def _test_rows(folder: RunFolder) -> pd.DataFrame:
    """Return target, repeat, name, prompt and score of every test row, in one order."""
    rows = read_predictions(folder.path).sort_values(["target", *ROW_ORDER], kind="stable", ignore_index=True)
    return rows[["target", *ROW_IDENTITY]]


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
