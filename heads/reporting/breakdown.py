"""Results of runs within parts of their test rows: by generator, data set, or with image prompt."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.text import Text

from tier4k.extract.screen.table import ESSENTIAL, Column, Table, count_column, text_column
from tier4k.heads.reporting.choices import Part
from tier4k.heads.reporting.errors import require_runs
from tier4k.heads.reporting.parts import PART_METRICS, TITLES, within_parts
from tier4k.heads.reporting.terminal.cells import metric_cell
from tier4k.heads.reporting.tidy import named_once, run_labels
from tier4k.heads.results.read import read_predictions
from tier4k.heads.results.results import Results


def breakdown(runs: Sequence[Path], by: Part) -> pd.DataFrame:
    """Measure every run's result within each part of its test rows.

    Args:
        runs: Folders of runs.
        by: Column that contains the part of each row.

    Returns:
        One line for each run, target and part, by target and name of the run: `run` (its ten digits), `name`
        (of its folder), `method`, `head`, `target`, the part under the name of `by`, `images` (distinct),
        `repeats` (number of repeats in which the part has an SRCC), and for each of `PART_METRICS` the mean
        over these repeats, and the standard deviation in a column `METRIC_sd`.

    Raises:
        ReportError: No run was given.
        ResultError: A run cannot be read.
    """
    frames = []
    for name, run in named_once(require_runs(runs)).items():
        results = Results.read(run)
        rows = read_predictions(run)
        if by == "dataset" and by not in rows:  # of one data set
            rows = rows.assign(dataset=results.data)
        frame = within_parts(rows, by)
        about = {
            "run": name,
            "name": run.absolute().name,
            "method": results.method,
            "head": results.estimator,
        }
        for place, (column, value) in enumerate(about.items()):
            frame.insert(place, column, value)
        frames.append(frame)
    return pd.concat(frames).sort_values(["target", "name", "run"], kind="stable", ignore_index=True)


def breakdown_table(frame: pd.DataFrame, runs: Sequence[Path]) -> Table:
    """Make the terminal's table of a breakdown, with the settings besides method and head that vary.

    Args:
        frame: What `breakdown` returned for `runs`.
        runs: Folders of the runs.

    Raises:
        ResultError: A run cannot be read.
    """
    part = frame.columns[frame.columns.get_loc("images") - 1]
    labels = run_labels(runs, known=("method", "head"))
    setting = []
    if any(labels.values()):
        frame = frame.assign(setting=_settings(frame, runs, labels))
        setting.append(text_column("setting", importance=80, wraps=True))
    columns = [
        text_column("run"),
        text_column("method", importance=84),
        text_column("head", importance=82),
        *setting,
        text_column("target"),
        text_column(part, wraps=True),
        count_column("images", importance=70),
    ]
    for name, title in zip(PART_METRICS, TITLES, strict=True):
        columns.append(_metric_column(name, title))
    return Table(tuple(columns), tuple(frame.to_dict("records")))


def _metric_column(name: str, title: str) -> Column:
    importance = ESSENTIAL if name == "srcc" else 90
    return Column(title, lambda row: metric_cell(row[name], row[f"{name}_sd"]), importance, is_number=True)


def breakdown_notes(frame: pd.DataFrame) -> Iterator[Text]:
    """Explain the NaN values in a breakdown."""
    if (frame["repeats"] == 0).any():
        yield Text(
            "NaN: in every repeat the part has fewer than two rows, equal scores or equal predictions",
            "dim",
        )


def _settings(
    frame: pd.DataFrame,
    runs: Sequence[Path],
    labels: dict[Path, str],
) -> pd.Series:
    """Return for each line of a breakdown the label of its run."""
    by_name = {}
    for name, run in named_once(runs).items():
        by_name[name] = labels[run.resolve()]
    return frame["run"].map(by_name)
