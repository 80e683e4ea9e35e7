"""Figures of many runs as one table: for other programs (tidy: one figure a line), for a paper (LaTeX) and for a terminal."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from cache.atomic import publish, publish_text, require_suffix
from cache.errors import TierError
from cache.store import writing
from heads.experiment import Summary
from heads.floors import FLOORS
from heads.metrics import METRICS
from heads.registry import changed_options
from heads.results import Results, read_config
from heads.table import figure_cell, selections, shown_floors

SUFFIXES = (".csv", ".parquet", ".xlsx", ".tex")
PAPER_METRICS = {"srcc": "SRCC", "plcc": "PLCC"}
ABOUT = (
    "data", "method", "benchmark", "split", "image_encoder", "preparation", "feature", "stages", "precision", "views", "text_encoder",
    "head", "recipe", "start", "seed",
)  # fmt: skip
ALWAYS = ("method", "benchmark", "head")  # shown where all runs are alike in them too
OWN = ("image", "text", "score")  # of a run's signatures; the others are scorers whose scores its heads see


class TableError(TierError):
    """A table that cannot be written."""


def require_table_suffix(path: Path) -> None:
    """Refuse a file whose format is not known, before any work.

    Raises:
        TableError: The name does not end in one of `SUFFIXES`.
    """
    require_suffix(path, SUFFIXES, TableError)


def tidy(runs: Sequence[Path]) -> pd.DataFrame:
    """One line for each run, target, selection or floor, and metric.

    Args:
        runs: Folders of runs; each is told of once.

    Returns:
        Columns `run` (the name of its folder; its path where two have one name), those of `ABOUT`, `options` (the head's, JSON),
        `changed_options` (those that differ from the head's defaults, as `--set` takes them), `leaks` (`Results.leaks`), `target`,
        `figures_of` (a selection or a floor), `is_result` (the selection that the run is judged by), `metric`, `mean`, `sd`,
        `sd_splits`, `sd_seeds`, `median`, `low`, `high` (95 % interval) and `repeats`.

    Raises:
        ResultError: A run cannot be read.
    """
    folders = list({run.resolve(): run for run in runs}.values())
    names = [run.absolute().name for run in folders]
    named = [str(run) if names.count(name) > 1 else name for run, name in zip(folders, names, strict=True)]
    return pd.DataFrame([line for run, name in zip(folders, named, strict=True) for line in _lines(run, name)])


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy table: as it is (.csv, .parquet, .xlsx), or as the LaTeX table of a paper (.tex).

    Raises:
        TableError: Another suffix.
        StoreError: The file cannot be written.
    """
    require_table_suffix(path)
    writers = {".csv": frame.to_csv, ".parquet": frame.to_parquet, ".xlsx": frame.to_excel}
    with writing(path):
        if path.suffix == ".tex":
            publish_text(path, latex(frame))
        else:
            publish(path, lambda temporary: writers[path.suffix](temporary, index=False))


def latex(frame: pd.DataFrame) -> str:
    """SRCC and PLCC of every run's result, one line for each configuration, the best of each column and benchmark in bold.

    A line holds the targets side by side, each figure with its 95 % interval; it needs the package booktabs.
    """
    shown = _results(frame)
    columns = [(target, metric) for target in shown["target"].unique() for metric in PAPER_METRICS]
    varying = _varying(shown)
    cells = shown.assign(cell=[_cell(row) for _, row in shown.iterrows()])
    lines = []
    for about, group in cells.groupby(varying, sort=False):
        figures = group.set_index(["target", "metric"])["cell"]
        lines.append(" & ".join([*map(_escaped, about), *(figures.get(column, "--") for column in columns)]) + r" \\")
    targets = [rf"\multicolumn{{{len(PAPER_METRICS)}}}{{c}}{{{_escaped(target)}}}" for target in shown["target"].unique()]
    head = [" & ".join([*[""] * len(varying), *targets]) + r" \\"]
    head.append(" & ".join([*map(_titled, varying), *(PAPER_METRICS[metric] for _, metric in columns)]) + r" \\")
    align = "l" * len(varying) + "c" * len(columns)
    return "\n".join([rf"\begin{{tabular}}{{{align}}}", r"\toprule", *head, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def sweep_table(frame: pd.DataFrame) -> Table:
    """On a terminal, SRCC and PLCC of every run's result and target beside the floor's; the best SRCC of each benchmark is bold.

    Args:
        frame: A tidy table.
    """
    shown = _results(frame)
    varying = [*_varying(shown), "target"]
    table = Table()
    for name in varying:
        table.add_column(_titled(name), overflow="fold")  # an option or a run's name that is cut off tells nothing apart
    for column in (*PAPER_METRICS.values(), *(f"floor {metric}" for metric in PAPER_METRICS.values())):
        table.add_column(column, justify="right")
    of_floors = frame[frame["figures_of"].isin(FLOORS)]  # the last that is told of says the most
    floors = {(one.run, one.target, one.metric): figure_cell(one.mean, one.sd) for one in of_floors.itertuples()}
    for (run, target), its in shown.groupby(["run", "target"], sort=False):
        figures = its.set_index("metric")
        cells = [figure_cell(*figures.loc[metric, ["mean", "sd", "low", "high"]]) for metric in PAPER_METRICS]
        cells += [floors.get((run, target, metric), "") for metric in PAPER_METRICS]  # scorers on all rows have none
        table.add_row(*map(str, its[varying].iloc[0]), *cells, style="bold" if figures.loc["srcc", "is_best"] else "")
    return table


def _results(frame: pd.DataFrame) -> pd.DataFrame:
    """What readers are shown: SRCC and PLCC of results, `is_best` where no run of the same rows is better, in words where CSV has marks."""
    shown = frame[frame["is_result"] & frame["metric"].isin(PAPER_METRICS)]
    best = shown.groupby(["data", "benchmark", "split", "target", "metric"])["mean"].transform("max")
    leaks = shown["leaks"].map({True: " (leaks)", False: ""})
    return shown.assign(is_best=shown["mean"] == best, benchmark=shown["benchmark"] + leaks, stages=shown["stages"].replace("", "all"))


def _varying(shown: pd.DataFrame) -> list[str]:
    """The columns that tell runs apart."""
    names = [name for name in (*ABOUT, "changed_options", "repeats") if name in ALWAYS or len(shown[name].unique()) > 1]
    # No run is lost, whatever else they differ in.
    return [*names, "run"] if shown.duplicated([*names, "target", "metric"]).any() else names


def _lines(run: Path, name: str) -> list[dict[str, Any]]:
    results, config = Results.read(run), read_config(run)
    # One network of a zero-shot scorer reads pictures and texts.
    image, text = (config["signatures"].get(stream) or config["signatures"]["score"] for stream in ("image", "text"))
    about = {
        "run": name,
        "data": results.data,
        "method": results.method,
        "benchmark": results.benchmark,
        "split": results.split,
        "image_encoder": image["encoder"],
        "preparation": image["preparation"].split(":")[0],
        "feature": "+".join([image["feature"].split(":")[0], *(name for name in config["signatures"] if name not in OWN)]),
        "stages": ",".join(config["stages"]),
        "precision": image["precision"],
        "views": image["views"],
        "text_encoder": text["encoder"],
        "head": results.estimator,
        "recipe": config["recipe"],
        "start": config.get("start", ""),
        "seed": config["seed"],
        "options": json.dumps(config["head"]),
        "changed_options": " ".join(changed_options(results.estimator, config["recipe"], image["architecture"], config["head"])),
        "leaks": results.leaks,
    }
    return [
        about | {"target": target, "figures_of": of, "is_result": of == results.headline, "metric": metric} | _figures(metrics[metric])
        for target, summaries in results.summaries.items()
        for of, metrics in summaries.items()
        if of in (*selections(results), *shown_floors(results))
        for metric in METRICS
    ]


def _figures(summary: Summary) -> dict[str, float | int]:
    low, high = summary.interval
    figures = {
        "mean": summary.mean,
        "sd": summary.sd,
        "sd_splits": summary.sd_splits,
        "sd_seeds": summary.sd_seeds,
        "median": summary.median,
        "low": low,
        "high": high,
    }
    return figures | {"repeats": len(summary.values)}


def _cell(row: pd.Series) -> str:
    figure = _short(row["mean"])
    figure = rf"\textbf{{{figure}}}" if row["is_best"] else figure
    return figure if row["low"] != row["low"] else rf"{figure} {{\scriptsize [{_short(row['low'])}, {_short(row['high'])}]}}"


def _short(value: float) -> str:
    return "--" if value != value else re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def _escaped(text: object) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", str(text).replace("\\", r"\textbackslash "))


def _titled(column: str) -> str:
    return {"changed_options": "options"}.get(column, column).replace("_", " ")
