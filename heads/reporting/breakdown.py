"""What runs reach within parts of their test rows: generators, or rows with and without an image prompt."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from tier4k.heads.metrics.correlation import plcc, srcc
from tier4k.heads.metrics.logistic import logistic5_mapping, logistic_mapping
from tier4k.heads.reporting.choices import Part
from tier4k.heads.reporting.tidy import named_once, run_labels
from tier4k.heads.results.files import read_predictions
from tier4k.heads.results.results import Results

Figure = Callable[[np.ndarray, np.ndarray], float]

FIGURES: dict[str, Figure] = {
    "srcc": srcc,
    "plcc": plcc,
    "plcc_logistic": lambda truth, prediction: plcc(truth, logistic_mapping(truth, prediction)),
    "plcc_logistic5": lambda truth, prediction: plcc(truth, logistic5_mapping(truth, prediction)),
}

TITLES = ("SRCC", "PLCC", "PLCC (logistic)", "PLCC (5-parameter)")


def breakdown(runs: Sequence[Path], by: Part) -> pd.DataFrame:
    """Figures of every run's result within each part of its test rows.

    Returns:
        One line for each run, target and part: `run`, `method`, `head`, `target`, the part under the name of `by`, `pictures` (distinct),
        `repeats` (in which the part has an SRCC), and for each of `FIGURES` the mean over these, and `_sd`. A mean over those repeats
        alone in which a rising curve fits would be too good: after a logistic it is NaN where none fits in one of them.

    Raises:
        ResultError: A run cannot be read.
    """
    return pd.concat([_of_run(name, run, by) for name, run in named_once(runs).items()], ignore_index=True)


def breakdown_table(frame: pd.DataFrame, runs: Sequence[Path]) -> Table:
    """The breakdown of runs on a terminal, with what sets them apart besides method and head."""
    apart = run_labels(runs, known=("method", "head"))
    settings = {name: apart[run.resolve()] for name, run in named_once(runs).items()}
    about = list(frame.columns[1:6])
    if any(settings.values()):
        frame = frame.assign(setting=frame["run"].map(settings))
        about.insert(2, "setting")
    table = Table()
    for name in about:
        table.add_column(name, overflow="fold")
    for title in TITLES:
        table.add_column(title, justify="right")
    for line in frame.to_dict("records"):
        table.add_row(
            *(str(line[name]) for name in about), *(_cell(line[name], line[f"{name}_sd"]) for name in FIGURES)
        )
    return table


def breakdown_notes(frame: pd.DataFrame) -> Iterator[Text]:
    """What a reader must know of the figures that are NaN."""
    there = frame[frame["repeats"] > 0]
    if without := int(there[["plcc_logistic", "plcc_logistic5"]].isna().to_numpy().sum()):
        yield Text(
            f"NaN after a logistic: in one repeat or more no rising curve fits the part ({without} figures)",
            "dim",
        )
    if len(there) < len(frame):
        yield Text(
            "NaN in all figures: in no repeat has the part rows with different scores and predictions", "dim"
        )


def within_parts(rows: pd.DataFrame, by: Part) -> pd.DataFrame:
    """Figures of predictions within each part of their rows.

    Args:
        rows: Predictions, as `read_predictions` reads them.
        by: What parts them.

    Returns:
        The lines of `breakdown` without the columns that tell of the run, by target and part in the order of the predictions.
    """
    lines = []
    for (target, part), its in rows.groupby(["target", by], sort=False):
        repeats = [
            (one["truth"].to_numpy(), one["prediction"].to_numpy()) for _, one in its.groupby("repeat")
        ]
        figures = pd.DataFrame(
            [{name: figure(*both) for name, figure in FIGURES.items()} for both in repeats]
        )
        about = {
            "target": target,
            by: part,
            "pictures": its["name"].nunique(),
            "repeats": int(figures["srcc"].notna().sum()),
        }
        there = figures[figures["srcc"].notna()]
        lines.append(
            about | there.mean(skipna=False).to_dict() | there.std(skipna=False).add_suffix("_sd").to_dict()
        )
    return pd.DataFrame(lines)


def _of_run(name: str, run: Path, by: Part) -> pd.DataFrame:
    results, rows = Results.read(run), read_predictions(run)
    frame = within_parts(rows, by)
    for place, (column, value) in enumerate(
        (("run", name), ("method", results.method), ("head", results.estimator))
    ):
        frame.insert(place, column, value)
    return frame


def _cell(mean: float, sd: float) -> str:
    return "NaN" if mean != mean else f"{mean:.3f}" + (f" ± {sd:.3f}" if sd == sd else "")
