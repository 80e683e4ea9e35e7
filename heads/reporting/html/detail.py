"""A closer look at one run: fitted curve, results within parts of the test rows, largest errors, training."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.reporting.choices import Part
from tier4k.heads.reporting.parts import PART_METRICS, within_parts
from tier4k.heads.reporting.report_run import ReportRun

LARGEST = 12

OTHER_PARTS: tuple[Part, ...] = ("benchmark", "dataset")

CURVE_LABELS = {
    "training_loss": "training loss",
    "validation_loss": "validation loss",
    "test_srcc": "SRCC of the test rows",
}


@dataclass(frozen=True)
class PartMetrics:
    """Results within one part of the test rows, such as a generator.

    Attributes:
        part: Name of the part.
        rows: Number of test rows of the part, over all repeats.
        images: Number of distinct images in these rows.
        metrics: For each of `PART_METRICS`, mean and standard deviation over the repeats, as in `breakdown`.
        error: Mean of prediction minus truth: above zero, the part is scored too high.
        absolute_error: Mean absolute error.
    """

    part: str
    rows: int
    images: int
    metrics: Mapping[str, tuple[float, float]]
    error: float
    absolute_error: float


@dataclass(frozen=True)
class LargeError:
    """An image with a large error: its truth, and the mean prediction over its `repeats` in the test."""

    name: str
    generator: str
    truth: float
    prediction: float
    repeats: int


def target_rows(run: ReportRun) -> Mapping[str, pd.DataFrame]:
    """Return a run's predictions by target, in the order of its results."""
    rows = {}
    for target in run.results.summaries:
        is_target = run.predictions["target"] == target
        rows[target] = run.predictions[is_target]
    return rows


def in_units(
    run: ReportRun,
    rows: pd.DataFrame,
    target: str,
) -> pd.DataFrame:
    """Return rows with predictions in the unit of the target.

    Predictions of a run that was not fitted to scores on this scale are mapped by the logistic of each
    repeat; they are NaN where the repeat has no monotonic fit.

    Args:
        run: The run.
        rows: Its predictions of one target.
        target: Name of the target.
    """
    if run.results.has_unit(target):
        return rows
    mapped = []
    for _, repeat in rows.groupby("repeat"):
        truth = repeat["truth"].to_numpy(float)
        prediction = repeat["prediction"].to_numpy(float)
        mapped.append(pd.Series(logistic_mapping(truth, prediction), repeat.index))
    return rows.assign(prediction=pd.concat(mapped))


def parts_of(rows: pd.DataFrame) -> list[Part]:
    """Return the columns to break predictions down by: generator, and those of which there are several."""
    parts: list[Part] = ["generator"]
    for name in OTHER_PARTS:
        if name in rows and len(rows[name].unique()) > 1:
            parts.append(name)
    return parts


def by_part(
    rows: pd.DataFrame,
    measured: pd.DataFrame,
    by: Part,
) -> list[PartMetrics]:
    """Break one target's predictions down, the part with the most rows first.

    Args:
        rows: Predictions of the target in all repeats.
        measured: The same rows with predictions in the unit of the target, for the errors.
        by: Column that contains the part of each row.
    """
    metrics = within_parts(rows, by).set_index(by)
    errors = measured["prediction"] - measured["truth"]
    parts = []
    for part, row_labels in rows.groupby(by).groups.items():
        line = PartMetrics(
            part=str(part),
            rows=len(row_labels),
            images=int(metrics.loc[part, "images"]),
            metrics=_means_and_deviations(metrics.loc[part]),
            error=float(errors[row_labels].mean()),
            absolute_error=float(errors[row_labels].abs().mean()),
        )
        parts.append(line)
    return sorted(parts, key=lambda line: (-line.rows, line.part))


def largest_errors(rows: pd.DataFrame, count: int = LARGEST) -> list[LargeError]:
    """Return the images of one target with the largest errors, the largest first.

    Args:
        rows: Predictions in the unit of the target.
        count: Number of images.
    """
    images = rows.dropna(subset=["truth", "prediction"]).groupby("name", sort=True)
    means = images.agg(
        generator=("generator", "first"),
        truth=("truth", "mean"),
        prediction=("prediction", "mean"),
        repeats=("repeat", "nunique"),
    )
    size = (means["prediction"] - means["truth"]).abs()
    ranked = size.sort_values(ascending=False, kind="stable")
    errors = []
    for line in means.loc[ranked.index[:count]].itertuples():
        error = LargeError(
            name=str(line.Index),
            generator=line.generator,
            truth=float(line.truth),
            prediction=float(line.prediction),
            repeats=int(line.repeats),
        )
        errors.append(error)
    return errors


def training_curves(run: ReportRun, target: str) -> dict[str, pd.DataFrame]:
    """Summarize losses and test SRCC of a target's trainings by epoch.

    Returns:
        Mean, low and high over the repeats that reached the epoch, for each column in `CURVE_LABELS` that
        has values.
    """
    by_epoch = run.curves[run.curves["target"] == target].groupby("epoch")
    curves = {}
    for name in CURVE_LABELS:
        frame = by_epoch[name].agg(mean="mean", low="min", high="max").dropna()
        if len(frame):
            curves[name] = frame
    return curves


def _means_and_deviations(line: pd.Series) -> dict[str, tuple[float, float]]:
    metrics = {}
    for name in PART_METRICS:
        mean = float(line[name])
        deviation = float(line[f"{name}_sd"])
        metrics[name] = (mean, deviation)
    return metrics
