"""A closer look at one run: points and curve of every repeat, what holds within each generator, and the largest errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from heads.compare import CompareError, Comparison, compare
from heads.experiment import UNFITTED
from heads.metrics import logistic_mapping, srcc
from heads.report_data import ReportRun, comparable

CURVE_POINTS = 60
LARGEST = 12
CURVE_LABELS = {"training_loss": "training loss", "validation_loss": "validation loss", "test_srcc": "SRCC of the test rows"}


@dataclass(frozen=True)
class Curve:
    """Points of the fitted 4-parameter logistic, by rising prediction; empty where none fits."""

    prediction: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class GeneratorLine:
    """What holds within the pictures of one generator.

    Attributes:
        generator: Its name.
        rows: Test rows of all repeats.
        pictures: Distinct pictures among them.
        srcc, sd: Mean and standard deviation over the repeats of SRCC within the generator, where a repeat has one.
        error: Mean of prediction minus truth: above zero, the generator is scored too high.
        absolute_error: Mean size of the error.
    """

    generator: str
    rows: int
    pictures: int
    srcc: float
    sd: float
    error: float
    absolute_error: float


@dataclass(frozen=True)
class LargeError:
    """A picture that the run misjudges: truth, and the prediction in the mean of the repeats that tested it."""

    name: str
    generator: str
    truth: float
    prediction: float
    repeats: int


@dataclass(frozen=True)
class FactorComparison:
    """Runs that differ in one factor alone.

    Attributes:
        factor: A name of `FACTORS`.
        runs: The runs.
        differences: Paired differences; their numbers count `runs`.
        why_not: Why there are no differences, "" where there are.
    """

    factor: str
    runs: tuple[ReportRun, ...]
    differences: tuple[Comparison, ...]
    why_not: str


def curve(truth: np.ndarray, prediction: np.ndarray) -> Curve:
    """The logistic that the figures after it were computed with, at about `CURVE_POINTS` of the predictions."""
    mapped = logistic_mapping(truth, prediction)
    if not np.isfinite(mapped).all():
        return Curve(np.empty(0), np.empty(0))
    order = np.argsort(prediction)
    wanted = np.linspace(prediction[order[0]], prediction[order[-1]], CURVE_POINTS)
    chosen = order[np.unique(np.minimum(np.searchsorted(prediction[order], wanted), len(order) - 1))]
    return Curve(prediction[chosen], mapped[chosen])


def in_units(run: ReportRun, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with predictions in the target's units: of what was not fitted, after the logistic of each repeat, NaN where none fits."""
    if run.results.headline not in UNFITTED:
        return rows
    mapped = [pd.Series(logistic_mapping(*_scores(repeat)), repeat.index) for _, repeat in rows.groupby("repeat")]
    return rows.assign(prediction=pd.concat(mapped))


def by_generator(rows: pd.DataFrame, measured: pd.DataFrame) -> list[GeneratorLine]:
    """The breakdown of one target's predictions, the generator with the most rows first.

    Args:
        rows: The predictions.
        measured: The same in the target's units, for the errors.
    """
    lines, errors = [], measured["prediction"] - measured["truth"]
    for generator, part in rows.groupby("generator"):
        ranked = [srcc(*_scores(repeat)) for _, repeat in part.groupby("repeat")]
        exists = np.array([value for value in ranked if np.isfinite(value)])
        error = errors[part.index]
        lines.append(
            GeneratorLine(
                generator=str(generator),
                rows=len(part),
                pictures=part["name"].nunique(),
                srcc=float(exists.mean()) if len(exists) else float("nan"),
                sd=float(exists.std(ddof=1)) if len(exists) > 1 else float("nan"),
                error=float(error.mean()),
                absolute_error=float(error.abs().mean()),
            )
        )
    return sorted(lines, key=lambda line: (-line.rows, line.generator))


def largest_errors(rows: pd.DataFrame, count: int = LARGEST) -> list[LargeError]:
    """The pictures of one target that are furthest off."""
    pictures = rows.dropna(subset=["truth", "prediction"]).groupby("name", sort=True)
    means = pictures.agg(
        generator=("generator", "first"), truth=("truth", "mean"), prediction=("prediction", "mean"), repeats=("repeat", "nunique")
    )
    size = (means["prediction"] - means["truth"]).abs()
    worst = means.loc[size.sort_values(ascending=False, kind="stable").index[:count]]
    return [
        LargeError(str(line.Index), line.generator, float(line.truth), float(line.prediction), int(line.repeats))
        for line in worst.itertuples()
    ]


def training_curves(run: ReportRun, target: str) -> dict[str, pd.DataFrame]:
    """Of every loss and the test SRCC that a target's trainings tell of: mean, low and high over the repeats, by epoch.

    Repeats end when they stop early: an epoch tells of those that reached it.
    """
    by_epoch = run.curves[run.curves["target"] == target].groupby("epoch")
    found = {name: by_epoch[name].agg(mean="mean", low="min", high="max").dropna() for name in CURVE_LABELS}
    return {name: frame for name, frame in found.items() if len(frame)}


def factor_comparisons(runs: Sequence[ReportRun]) -> list[FactorComparison]:
    """Every group of runs that differ in one factor alone, compared in pairs on their test rows."""
    out = []
    for factor, group in comparable(runs):
        try:
            out.append(FactorComparison(factor, tuple(group), tuple(compare([run.folder for run in group])), ""))
        except CompareError as error:
            out.append(FactorComparison(factor, tuple(group), (), str(error)))
    return out


def target_rows(run: ReportRun) -> Mapping[str, pd.DataFrame]:
    """A run's predictions by target, in the order of its results."""
    return {target: run.predictions[run.predictions["target"] == target] for target in run.results.summaries}


def _scores(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows["truth"].to_numpy(float), rows["prediction"].to_numpy(float)
