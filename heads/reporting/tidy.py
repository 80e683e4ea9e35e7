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
    LEAKED,
    PAPER_METRICS,
    column_title,
    result_rows,
    varying_columns,
)
from tier4k.heads.reporting.errors import require_runs
from tier4k.heads.reporting.labels import references, selections
from tier4k.heads.reporting.leakage import leaked
from tier4k.heads.reporting.order import order_key
from tier4k.heads.reporting.run_settings import RunSettings, read_settings
from tier4k.heads.reporting.terminal.cells import interval_cell, metric_cell
from tier4k.heads.results.results import Results
from tier4k.heads.results.run import Runs, run_folders

NAN = float("nan")

# Importance of a metric, its interval and the baseline's value in the table on a terminal.
IMPORTANCE = {"srcc": (ESSENTIAL, 80, 90), "plcc": (85, 70, 65)}

FIRST_SETTINGS = {"method": 95, "head": 94, "changed_options": 94}

# Columns about a run that programs get.
SETTINGS = (
    "run",
    "name",
    *ABOUT,
    "data_digest",
    "seeds",
    "options",
    "changed_options",
    "leaks",
    *LEAKED,
    "repeats",
)

WRAPPED = ("head", "changed_options", "benchmark", "streams", "data", "start")  # texts of several words


def tidy(runs: Runs) -> pd.DataFrame:
    """One line for each run, target, selection, baseline or ceiling, and metric.

    Args:
        runs: Runs, their folders or digits, as for `read_run`; a folder that contains runs stands for all of
            them. A run that is given twice counts once.

    Returns:
        Lines by data set, target, name of the run without its digits, and options, in this order, whatever
        the order of `runs`. Columns
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
    found = named_once(require_runs(run_folders(runs)))
    settings = {name: read_settings(run) for name, run in found.items()}
    lines = []
    for name in sorted(
        found, key=lambda name: (*order_key(_folder_name(found[name]), settings[name].sort_key), name)
    ):
        lines += _lines(found[name], name, settings[name])
    return pd.DataFrame(lines).sort_values(["data", "target"], kind="stable", ignore_index=True)


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

    The best SRCC of runs with the same test rows is bold. The raw values of a line are all columns of the
    frame about the run, and mean, standard deviation and interval of every metric.

    Args:
        frame: A tidy table.
    """
    rows = result_rows(frame)
    of_results = rows[rows["metric"] == "srcc"].set_index(["run", "target"])
    baselines = _baseline_values(frame)
    lines = []
    for key, group in frame[frame["is_result"]].groupby(["run", "target"], sort=False):
        line = group[[*SETTINGS, "target"]].iloc[0].to_dict()
        for metric, *values in group[["metric", "mean", "sd", "low", "high"]].itertuples(index=False):
            names = (metric, f"{metric}_sd", f"{metric}_low", f"{metric}_high")
            line |= dict(zip(names, values, strict=True))
            mean, sd = baselines.get((*key, metric), (None, None))  # a scorer on all rows has none
            line |= {f"baseline_{metric}": mean, f"baseline_{metric}_sd": sd}
        lines.append({**line, "is_best": bool(of_results.loc[key, "is_best"])})
    columns = (
        text_column("run"),
        *_setting_columns(rows),
        text_column("target", importance=97),
        *_metric_columns(),
    )
    return Table(columns, tuple(lines), style=lambda line: "bold" if line["is_best"] else "")


def _setting_columns(rows: pd.DataFrame) -> Iterator[Column]:
    """Yield the columns of settings as a reader is shown them.

    They say which run is which, so that only SRCC is more important; the first are a warning about leaking
    splits, the method, the head and its options.
    """
    of_runs = rows.drop_duplicates("run").set_index("run")
    for name in varying_columns(rows):
        if name == "run":
            continue
        is_leaking = name == "benchmark" and rows["leaks"].any()
        importance = 96 if is_leaking else FIRST_SETTINGS.get(name, 92)
        show = _setting_of(of_runs[name].to_dict())
        yield Column(column_title(name), show, importance, wraps=name in WRAPPED)


def _setting_of(values: dict[str, Any]) -> Callable[[Row], str]:
    return lambda row: str(values[row["run"]])


def _metric_columns() -> Iterator[Column]:
    """Yield the columns of SRCC and PLCC, their intervals and the baseline's."""
    for metric, title in PAPER_METRICS.items():
        value, interval, _ = IMPORTANCE[metric]
        yield _metric_column(title, metric, value)
        yield Column(f"{title} 95 % interval", _interval_of(metric), interval, is_number=True)
    for metric, title in PAPER_METRICS.items():
        yield _metric_column(f"baseline {title}", f"baseline_{metric}", IMPORTANCE[metric][2])


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


def _folder_name(run: Path) -> str:
    return run.absolute().name


def _lines(
    run: Path,
    name: str,
    settings: RunSettings,
) -> list[dict[str, Any]]:
    results = Results.read(run)
    about = {
        "run": name,
        "name": _folder_name(run),
        **_about(results, settings),
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
