"""Figures of many runs as one table: for other programs (tidy: one figure a line), for a paper (LaTeX) and for a terminal."""

import json
import re
from collections.abc import Iterator, Sequence
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
from heads.table import LABELS, figure_cell, selections, shown_floors

SUFFIXES = (".csv", ".parquet", ".xlsx", ".tex")
PAPER_METRICS = {"srcc": "SRCC", "plcc": "PLCC"}
ABOUT = (
    "data", "method", "benchmark", "split", "image_encoder", "preparation", "feature", "stages", "precision", "views", "text_encoder",
    "head", "recipe", "start", "seed",
)  # fmt: skip
CONTEXT = ("data", "benchmark", "split", "seed", "repeats")  # runs that are alike in these have the same floors
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
    return pd.DataFrame([line for name, run in named_once(runs).items() for line in _lines(run, name)])


def named_once(runs: Sequence[Path]) -> dict[str, Path]:
    """Each run once, by the name of its folder, or by its path where two folders have one name."""
    folders = list({run.resolve(): run for run in runs}.values())
    names = [run.absolute().name for run in folders]
    return {str(run) if names.count(name) > 1 else name: run for run, name in zip(folders, names, strict=True)}


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

    A line holds the targets side by side, each figure with its 95 % interval; it needs the package booktabs. Below the runs stand the
    metadata floors of their rows.
    """
    shown = _results(frame)
    columns = [(target, metric) for target in shown["target"].unique() for metric in PAPER_METRICS]
    varying = _varying(shown)
    lines = [" & ".join([*map(_escaped, about), *cells]) + r" \\" for about, cells in _side_by_side(shown, varying, columns)]
    floors = _floors(frame)
    of_rows = [name for name in CONTEXT if name == "benchmark" or len(floors[name].unique()) > 1]
    below = [
        rf"\multicolumn{{{len(varying)}}}{{l}}{{{_escaped(', '.join([LABELS[floor], *map(str, about)]))}}} & {' & '.join(cells)} \\"
        for (*about, floor), cells in _side_by_side(floors, [*of_rows, "figures_of"], columns)
    ]
    targets = [rf"\multicolumn{{{len(PAPER_METRICS)}}}{{c}}{{{_escaped(target)}}}" for target in shown["target"].unique()]
    head = [" & ".join([*[""] * len(varying), *targets]) + r" \\"]
    head.append(" & ".join([*map(_titled, varying), *(PAPER_METRICS[metric] for _, metric in columns)]) + r" \\")
    align = "l" * len(varying) + "c" * len(columns)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            *head,
            r"\midrule",
            *lines,
            *([r"\midrule", *below] if below else []),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def told_apart(runs: Sequence[Path], known: Sequence[str]) -> dict[Path, str]:
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
    return _marked(shown.assign(is_best=shown["mean"] == best, stages=shown["stages"].replace("", "all")))


def _floors(frame: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC of the floors, once for runs of the same rows and splits."""
    floors = frame[frame["figures_of"].isin(FLOORS) & frame["metric"].isin(PAPER_METRICS)]
    return _marked(floors.assign(is_best=False).drop_duplicates([*CONTEXT, "target", "figures_of", "metric"]))


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(benchmark=frame["benchmark"] + frame["leaks"].map({True: " (leaks)", False: ""}))


def _side_by_side(
    shown: pd.DataFrame, about: Sequence[str], columns: Sequence[tuple[str, str]]
) -> Iterator[tuple[tuple[Any, ...], list[str]]]:
    """Lines of a LaTeX table: what each is about, and its cells for each target and metric."""
    cells = shown.assign(cell=[_cell(row) for _, row in shown.iterrows()])
    for values, group in cells.groupby(list(about), sort=False):
        figures = group.set_index(["target", "metric"])["cell"]
        yield values, [figures.get(column, "--") for column in columns]


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
        "start": config["start"],
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
