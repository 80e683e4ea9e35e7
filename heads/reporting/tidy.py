"""Metrics of many runs as one tidy table, one value a line, and its short form on a terminal."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tier4k.extract.screen.table import ESSENTIAL, Column, Row, Table, text_column
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.regressors.names import is_head
from tier4k.heads.reporting.columns import (
    ABOUT,
    PAPER_METRICS,
    column_title,
    result_rows,
    varying_columns,
)
from tier4k.heads.reporting.errors import require_runs
from tier4k.heads.reporting.leakage import leaked
from tier4k.heads.reporting.run_settings import RunSettings, read_settings
from tier4k.heads.reporting.terminal import interval_cell, metric_cell, references, selections
from tier4k.heads.results.results import Results
from tier4k.heads.results.run import Run, run_folders

NAN = float("nan")

ORDER = ("data", "target", "name", "run")  # of the lines of a tidy table

# Columns about a run that programs get.
SETTINGS = ("run", "name", *ABOUT, "changed_options", "repeats", "seeds")

WRAPPED = ("changed_options", "benchmark", "streams", "data", "start")  # texts of several words


def tidy(runs: Sequence[str | Path | Run]) -> pd.DataFrame:
    """One line for each run, target, selection, baseline or ceiling, and metric.

    Args:
        runs: Runs, their folders or digits, as for `read_run`; a folder that contains runs stands for all of
            them. A run that is given twice counts once.

    Returns:
        Lines by data set, target and name of the run, in this order, whatever the order of `runs`. Columns
        `run` (its ten digits; its path where two folders have one run), `name` (of its folder), those of
        `columns.ABOUT`, `data_digest`, `seeds`, `options` (the head's, JSON), `changed_options` (those that
        differ from the head's defaults, as `--set` takes them), `leaks` (`Results.leaks`), those of
        `leakage.leaked`, `target`, `metrics_of` (a selection, a baseline, or `raters`: the raters' ceiling),
        `is_result` (the selection that is the run's result), `metric`, `mean`, `sd`, `sd_splits`, `sd_seeds`,
        `median`, `low`, `high` (95 % interval of the recipe on new prompts), `interval_reason` (why there is
        none), `low_fitted_heads`, `high_fitted_heads` (95 % interval for these fitted heads) and `repeats`.

    Raises:
        ReportError: No run was given.
        ResultError: A run cannot be read.
    """
    lines = []
    for name, run in named_once(require_runs(run_folders(runs))).items():
        lines += _lines(run, name)
    return pd.DataFrame(lines).sort_values(list(ORDER), kind="stable", ignore_index=True)


def named_once(runs: Sequence[Path]) -> dict[str, Path]:
    """Each run once, by its ten digits, or by its path where two folders have one run."""
    folders = {run.resolve(): run for run in runs}
    digests = [Results.read(run).digest or run.absolute().name for run in folders.values()]
    found = {}
    for run, digest in zip(folders.values(), digests, strict=True):
        is_unique = digests.count(digest) == 1
        found[digest if is_unique else str(run)] = run
    return found


def run_labels(runs: Sequence[Path], known: Sequence[str]) -> dict[Path, str]:
    """Settings in which each run differs from the others.

    Args:
        runs: Folders of runs.
        known: Columns of the tidy table that the reader is shown anyway.

    Returns:
        The settings as the tables show them, by the resolved folder of the run.

    Raises:
        ResultError: A run cannot be read.
    """
    rows = result_rows(tidy(runs))
    columns = []
    for column in varying_columns(rows):
        varies = len(rows[column].unique()) > 1
        if varies and column not in known:
            columns.append(column)
    of_runs = rows.drop_duplicates("run").set_index("run", drop=False)
    labels = {}
    for name, run in named_once(runs).items():
        settings = of_runs.loc[name]
        texts = [_setting(column, settings[column], settings["head"]) for column in columns]
        labels[run.resolve()] = ", ".join(filter(None, texts))
    return labels


def sweep_table(frame: pd.DataFrame) -> Table:
    """SRCC and PLCC of every run's result on every target beside its baseline's, in the order of the frame.

    The best SRCC of runs with the same test rows is bold. The raw values of a line are all columns about the
    run, and mean, standard deviation and interval of both metrics.

    Args:
        frame: A tidy table.
    """
    rows = result_rows(frame)
    baselines = _baseline_values(frame)
    lines = []
    for (run, target), group in rows.groupby(["run", "target"], sort=False):
        line = group[[*SETTINGS, "target"]].iloc[0].to_dict()
        metrics = group.set_index("metric")
        for metric in PAPER_METRICS:
            mean, sd, low, high = metrics.loc[metric, ["mean", "sd", "low", "high"]]
            line |= {metric: mean, f"{metric}_sd": sd, f"{metric}_low": low, f"{metric}_high": high}
            mean, sd = baselines.get((run, target, metric), (None, None))  # a scorer on all rows has none
            line |= {f"baseline_{metric}": mean, f"baseline_{metric}_sd": sd}
        lines.append({**line, "is_best": bool(metrics.loc["srcc", "is_best"])})
    settings = [name for name in varying_columns(rows) if name != "run"]
    columns = (
        text_column("run"),
        *_setting_columns(rows, settings),
        text_column("target"),
        *_metric_columns(),
    )
    return Table(columns, tuple(lines), style=lambda line: "bold" if line["is_best"] else "")


def _setting_columns(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[Column]:
    """Yield the columns of settings.

    The settings in which runs differ say which run is which, so that only a warning about leaking splits and
    SRCC are more important.
    """
    for name in names:
        is_leaking = name == "benchmark" and rows["leaks"].any()
        differs = len(rows[name].unique()) > 1
        importance = 94 if is_leaking else 92 if differs else 66
        yield text_column(name, column_title(name), importance, wraps=name in WRAPPED)


def _metric_columns() -> Iterator[Column]:
    """Yield the columns of SRCC and PLCC, their intervals and the baseline's."""
    for number, (metric, title) in enumerate(PAPER_METRICS.items()):
        importance = ESSENTIAL if number == 0 else 90
        yield _metric_column(title, metric, importance)
        yield Column(f"{title} 95 % interval", _interval_of(metric), 80 - 10 * number, is_number=True)
    for number, (metric, title) in enumerate(PAPER_METRICS.items()):
        yield _metric_column(f"baseline {title}", f"baseline_{metric}", 75 - 10 * number)


def _metric_column(
    title: str,
    name: str,
    importance: int,
) -> Column:
    def show(row: Row) -> str:
        """Show mean and deviation, or nothing where a run has no baseline."""
        return "" if row[name] is None else metric_cell(row[name], row[f"{name}_sd"])

    return Column(title, show, importance, is_number=True)


def _interval_of(metric: str) -> Callable[[Row], str]:
    return lambda row: interval_cell(row[f"{metric}_low"], row[f"{metric}_high"])


def _baseline_values(frame: pd.DataFrame) -> dict[tuple[str, str, str], tuple[float, float]]:
    """By run, target and metric: mean and deviation of the run's last baseline, which uses most metadata."""
    values = {}
    for line in frame[frame["metrics_of"].isin(BASELINES)].itertuples():
        values[line.run, line.target, line.metric] = (line.mean, line.sd)
    return values


def _setting(
    column: str,
    value: object,
    head: str,
) -> str:
    """Return a setting in words; "" for the options of a run without a head of its own, such as a search."""
    if column == "changed_options":
        return str(value) or ("default options" if is_head(head) else "")
    return f"{column_title(column)} {value}"


def _lines(run: Path, name: str) -> list[dict[str, Any]]:
    results = Results.read(run)
    about = {
        "run": name,
        "name": run.absolute().name,
        **_about(results, read_settings(run)),
        "leaks": results.leaks,
        **leaked(results),
    }
    shown = {*selections(results), *references(results)}
    lines = []
    for target, summaries in results.summaries.items():
        for selection, metrics in summaries.items():
            if selection not in shown:
                continue
            for metric in METRICS:
                key = {
                    "target": target,
                    "metrics_of": selection,
                    "is_result": selection == results.headline,
                    "metric": metric,
                }
                lines.append(about | key | _values(metrics[metric]))
    return lines


def _about(results: Results, settings: RunSettings) -> dict[str, Any]:
    """The columns of `columns.ABOUT`, and the options of the head."""
    return {
        "data": results.data,
        "data_digest": settings.data_digest,
        "method": results.method,
        "streams": settings.used_streams,
        "benchmark": results.benchmark,
        "split": results.split,
        "image_encoder": settings.image_encoder,
        "preprocessing": settings.preprocessing,
        "feature": "+".join(filter(None, [settings.feature, *settings.scorers])),
        "stages": ",".join(settings.stages),
        "precision": settings.precision,
        "crops": settings.crops,
        "text_encoder": settings.text_encoder,
        "head": results.estimator,
        "recipe": settings.recipe,
        "start": settings.start,
        "seed": settings.seed,
        "models": settings.models,
        "seeds": settings.seeds,
        "options": json.dumps(settings.head_options),
        "changed_options": " ".join(settings.changed_options()),
    }


def _values(summary: Summary) -> dict[str, float | int | str]:
    low, high = summary.bounds
    low_fitted_heads, high_fitted_heads = summary.interval_fitted_heads or (NAN, NAN)
    return {
        "mean": summary.mean,
        "sd": summary.sd,
        "sd_splits": summary.sd_splits,
        "sd_seeds": summary.sd_seeds,
        "median": summary.median,
        "low": low,
        "high": high,
        "interval_reason": summary.interval_reason,
        "low_fitted_heads": low_fitted_heads,
        "high_fitted_heads": high_fitted_heads,
        "repeats": len(summary.values),
    }
