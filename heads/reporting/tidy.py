"""Figures of many runs as one table: for other programs (tidy: one figure a line), for a paper (LaTeX) and for a terminal."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from tier4k.cache.errors import TierError
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.evaluate import METRICS
from tier4k.heads.regressors.registry import changed_options
from tier4k.heads.reporting.terminal import metric_cell, selections, shown_baselines
from tier4k.heads.results.files import read_config
from tier4k.heads.results.results import Results

PAPER_METRICS = {"srcc": "SRCC", "plcc": "PLCC"}

ABOUT = (
    "data", "method", "benchmark", "split", "image_encoder", "preparation", "feature", "stages", "precision", "views", "text_encoder",
    "head", "recipe", "start", "seed",
)  # fmt: skip

CONTEXT = (
    "data",
    "benchmark",
    "split",
    "seed",
    "repeats",
)  # runs that are alike in these have the same floors

ALWAYS = ("method", "benchmark", "head")  # shown where all runs are alike in them too

OWN = ("image", "text", "score")  # of a run's signatures; the others are scorers whose scores its heads see


class TableError(TierError):
    """A table that cannot be written."""


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
    return pd.DataFrame([line for name, run in named_once(runs).items() for line in _lines(run, name)])


def named_once(runs: Sequence[Path]) -> dict[str, Path]:
    """Each run once, by the name of its folder, or by its path where two folders have one name."""
    folders = list({run.resolve(): run for run in runs}.values())
    names = [run.absolute().name for run in folders]
    return {
        str(run) if names.count(name) > 1 else name: run for run, name in zip(folders, names, strict=True)
    }


def run_labels(runs: Sequence[Path], known: Sequence[str]) -> dict[Path, str]:
    """For the resolved folder of each run, in words, that in which it differs from the others, as the tables show it.

    Args:
        runs: Folders of runs.
        known: Columns of the tidy table that the reader is shown anyway.

    Raises:
        ResultError: A run cannot be read.
    """
    shown = _results(tidy(runs))
    varying = [name for name in _varying(shown) if name not in known and len(shown[name].unique()) > 1]
    firsts = shown.drop_duplicates("run")[varying].to_dict("records")
    said = [", ".join(_said(str(name), value) for name, value in first.items()) for first in firsts]
    return {run.resolve(): text for run, text in zip(named_once(runs).values(), said, strict=True)}


def _said(name: str, value: object) -> str:
    if name == "changed_options":
        return str(value) or "default options"
    return f"{_titled(name)} {value}"


def sweep_table(frame: pd.DataFrame) -> Table:
    """On a terminal, SRCC and PLCC of every run's result and target beside the floor's; the best SRCC of each benchmark is bold.

    Args:
        frame: A tidy table.
    """
    shown = _results(frame)
    varying = [*_varying(shown), "target"]
    table = Table()
    for name in varying:
        table.add_column(
            _titled(name), overflow="fold"
        )  # an option or a run's name that is cut off tells nothing apart
    for column in (*PAPER_METRICS.values(), *(f"floor {metric}" for metric in PAPER_METRICS.values())):
        table.add_column(column, justify="right")
    of_floors = frame[frame["figures_of"].isin(BASELINES)]  # the last that is told of says the most
    floors = {
        (one.run, one.target, one.metric): metric_cell(one.mean, one.sd) for one in of_floors.itertuples()
    }
    for (run, target), its in shown.groupby(["run", "target"], sort=False):
        figures = its.set_index("metric")
        cells = [metric_cell(*figures.loc[metric, ["mean", "sd", "low", "high"]]) for metric in PAPER_METRICS]
        cells += [
            floors.get((run, target, metric), "") for metric in PAPER_METRICS
        ]  # scorers on all rows have none
        table.add_row(
            *map(str, its[varying].iloc[0]), *cells, style="bold" if figures.loc["srcc", "is_best"] else ""
        )
    return table


def _results(frame: pd.DataFrame) -> pd.DataFrame:
    """What readers are shown: SRCC and PLCC of results, `is_best` where no run of the same rows is better, in words where CSV has marks."""
    shown = frame[frame["is_result"] & frame["metric"].isin(PAPER_METRICS)]
    best = shown.groupby(["data", "benchmark", "split", "target", "metric"])["mean"].transform("max")
    return _marked(shown.assign(is_best=shown["mean"] == best, stages=shown["stages"].replace("", "all")))


def _floors(frame: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC of the floors, once for runs of the same rows and splits."""
    floors = frame[frame["figures_of"].isin(BASELINES) & frame["metric"].isin(PAPER_METRICS)]
    return _marked(floors.assign(is_best=False).drop_duplicates([*CONTEXT, "target", "figures_of", "metric"]))


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(benchmark=frame["benchmark"] + frame["leaks"].map({True: " (leaks)", False: ""}))


def _varying(shown: pd.DataFrame) -> list[str]:
    """The columns that tell runs apart."""
    names = [
        name
        for name in (*ABOUT, "changed_options", "repeats")
        if name in ALWAYS or len(shown[name].unique()) > 1
    ]
    # No run is lost, whatever else they differ in.
    return [*names, "run"] if shown.duplicated([*names, "target", "metric"]).any() else names


def _lines(run: Path, name: str) -> list[dict[str, Any]]:
    results, config = Results.read(run), read_config(run)
    # One network of a zero-shot scorer reads pictures and texts.
    image, text = (
        config["signatures"].get(stream) or config["signatures"]["score"] for stream in ("image", "text")
    )
    about = {
        "run": name,
        "data": results.data,
        "method": results.method,
        "benchmark": results.benchmark,
        "split": results.split,
        "image_encoder": image["encoder"],
        "preparation": image["preparation"].split(":")[0],
        "feature": "+".join(
            [image["feature"].split(":")[0], *(name for name in config["signatures"] if name not in OWN)]
        ),
        "stages": ",".join(config["stages"]),
        "precision": image["precision"],
        "views": image["views"],
        "text_encoder": text["encoder"],
        "head": results.estimator,
        "recipe": config["recipe"],
        "start": config["start"],
        "seed": config["seed"],
        "options": json.dumps(config["head"]),
        "changed_options": " ".join(
            changed_options(results.estimator, config["recipe"], image["architecture"], config["head"])
        ),
        "leaks": results.leaks,
    }
    return [
        about
        | {"target": target, "figures_of": of, "is_result": of == results.headline, "metric": metric}
        | _figures(metrics[metric])
        for target, summaries in results.summaries.items()
        for of, metrics in summaries.items()
        if of in (*selections(results), *shown_baselines(results))
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


def _titled(column: str) -> str:
    return {"changed_options": "options"}.get(column, column).replace("_", " ")
