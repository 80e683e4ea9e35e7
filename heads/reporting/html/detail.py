"""A closer look at one run: points and curve of every repeat, what holds within each part of its test rows, and the largest errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.trial import UNFITTED
from tier4k.heads.metrics.logistic import logistic_mapping
from tier4k.heads.metrics.significance import holm
from tier4k.heads.reporting.breakdown import FIGURES, within_parts
from tier4k.heads.reporting.choices import Part
from tier4k.heads.reporting.comparison import CompareError, Comparison, compare
from tier4k.heads.reporting.html.runs import ReportRun, comparable
from tier4k.heads.reporting.run_names import ORDER, differing, told
from tier4k.heads.reporting.terminal import SIGNIFICANT

CURVE_POINTS = 60

LARGEST = 12

CURVE_LABELS = {
    "training_loss": "training loss",
    "validation_loss": "validation loss",
    "test_srcc": "SRCC of the test rows",
}


@dataclass(frozen=True)
class Curve:
    """Points of the fitted 4-parameter logistic, by rising prediction; empty where none fits."""

    prediction: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class PartLine:
    """What holds within one part of the test rows, such as a generator.

    Attributes:
        part: Its name.
        rows: Test rows of all repeats.
        pictures: Distinct pictures among them.
        figures: For each of `breakdown.FIGURES`, mean and standard deviation over the repeats, as `breakdown` has them.
        error: Mean of prediction minus truth: above zero, the part is scored too high.
        absolute_error: Mean size of the error.
    """

    part: str
    rows: int
    pictures: int
    figures: Mapping[str, tuple[float, float]]
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
class Pair:
    """Two runs that differ in one factor alone, and the difference of their SRCC on one target."""

    first: ReportRun
    second: ReportRun
    difference: Comparison


@dataclass(frozen=True)
class FactorComparison:
    """Everything that runs of the report say of one factor.

    Attributes:
        factor: A name of `FACTORS`.
        pairs: Paired differences; their p-values are corrected for all of them.
        common: What all runs have in common but the factor, in words.
        settings: Parts of a run's name in which one pair differs from another.
        why_not: Why runs that differ in this factor alone were not compared.
    """

    factor: str
    pairs: tuple[Pair, ...]
    common: str
    settings: tuple[str, ...]
    why_not: tuple[str, ...]

    def setting(self, pair: Pair) -> str:
        """What sets a pair apart from the others, in words."""
        return told(pair.first.name, self.settings)

    @property
    def significant(self) -> int:
        """How many differences pass Holm's correction."""
        return sum(pair.difference.p_holm < SIGNIFICANT for pair in self.pairs)

    @property
    def without_williams(self) -> Mapping[str, str]:
        """Why Williams' test does not exist, and of which pairs."""
        found: dict[str, list[str]] = {}
        for pair in self.pairs:
            if pair.difference.williams and (why := pair.difference.williams.why_not):
                found.setdefault(why, []).append(
                    f"{pair.difference.target} {pair.first.letter} − {pair.second.letter}"
                )
        return {why: ", ".join(pairs) for why, pairs in found.items()}

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest end of the intervals, zero among them."""
        ends = [
            end
            for pair in self.pairs
            for end in (*pair.difference.interval, pair.difference.difference)
            if np.isfinite(end)
        ]
        return min(0.0, *ends), max(0.0, *ends)


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
    mapped = [
        pd.Series(logistic_mapping(*_scores(repeat)), repeat.index) for _, repeat in rows.groupby("repeat")
    ]
    return rows.assign(prediction=pd.concat(mapped))


def parts_of(rows: pd.DataFrame) -> list[Part]:
    """What a run's predictions can be broken down by: generator, and benchmark where they lie in several."""
    several = len(rows["benchmark"].unique()) > 1
    return ["generator", "benchmark"] if several else ["generator"]


def by_part(rows: pd.DataFrame, measured: pd.DataFrame, by: Part) -> list[PartLine]:
    """The breakdown of one target's predictions, the part with the most rows first.

    Args:
        rows: The predictions.
        measured: The same in the target's units, for the errors.
        by: What parts them.
    """
    found = within_parts(rows, by).set_index(by)
    errors, parts = measured["prediction"] - measured["truth"], rows.groupby(by).groups
    lines = [
        PartLine(
            part=str(part),
            rows=len(numbers),
            pictures=int(found.loc[part, "pictures"]),
            figures={
                name: (float(found.loc[part, name]), float(found.loc[part, f"{name}_sd"])) for name in FIGURES
            },
            error=float(errors[numbers].mean()),
            absolute_error=float(errors[numbers].abs().mean()),
        )
        for part, numbers in parts.items()
    ]
    return sorted(lines, key=lambda line: (-line.rows, line.part))


def largest_errors(rows: pd.DataFrame, count: int = LARGEST) -> list[LargeError]:
    """The pictures of one target that are furthest off."""
    pictures = rows.dropna(subset=["truth", "prediction"]).groupby("name", sort=True)
    means = pictures.agg(
        generator=("generator", "first"),
        truth=("truth", "mean"),
        prediction=("prediction", "mean"),
        repeats=("repeat", "nunique"),
    )
    size = (means["prediction"] - means["truth"]).abs()
    worst = means.loc[size.sort_values(ascending=False, kind="stable").index[:count]]
    return [
        LargeError(
            str(line.Index), line.generator, float(line.truth), float(line.prediction), int(line.repeats)
        )
        for line in worst.itertuples()
    ]


def training_curves(run: ReportRun, target: str) -> dict[str, pd.DataFrame]:
    """Of every loss and the test SRCC that a target's trainings tell of: mean, low and high over the repeats, by epoch.

    Repeats end when they stop early: an epoch tells of those that reached it.
    """
    by_epoch = run.curves[run.curves["target"] == target].groupby("epoch")
    found = {name: by_epoch[name].agg(mean="mean", low="min", high="max").dropna() for name in CURVE_LABELS}
    return {name: frame for name, frame in found.items() if len(frame)}


def factor_comparisons(
    runs: Sequence[ReportRun], tick: Callable[[], None] = lambda: None
) -> list[FactorComparison]:
    """For every factor in which alone some runs differ, these runs compared in pairs on their test rows.

    Args:
        runs: The runs.
        tick: Called after each group of `comparable`.
    """
    groups: dict[str, list[list[ReportRun]]] = {}
    for factor, group in comparable(runs):
        groups.setdefault(factor, []).append(group)
    return [_of_factor(factor, some, tick) for factor, some in groups.items()]


def _of_factor(
    factor: str, groups: Sequence[Sequence[ReportRun]], tick: Callable[[], None]
) -> FactorComparison:
    pairs, why_not = [], []
    for group in groups:
        for members, targets in _of_same_folders(group):
            try:
                found = compare([run.folder(targets[0]) for run in members])
            except CompareError as error:
                why_not.append(" ".join(str(error).split()))
            else:
                pairs += [
                    Pair(members[one.first], members[one.second], one)
                    for one in found
                    if one.target in targets
                ]
        tick()
    corrected = holm(np.array([pair.difference.p for pair in pairs]))
    pairs = [
        replace(pair, difference=replace(pair.difference, p_holm=float(p)))
        for pair, p in zip(pairs, corrected, strict=True)
    ]
    parts = [part for part in ("data", *ORDER) if part != factor]
    names = [group[0].name for group in groups]
    settings = differing(names, parts)
    common = told(names[0], [part for part in parts if part not in settings])
    return FactorComparison(factor, tuple(pairs), common, tuple(settings), tuple(dict.fromkeys(why_not)))


def _of_same_folders(group: Sequence[ReportRun]) -> list[tuple[list[ReportRun], list[str]]]:
    """Runs with a target in common, and the targets whose results lie in the same folders."""
    found: dict[tuple[Path, ...], tuple[list[ReportRun], list[str]]] = {}
    for target in dict.fromkeys(target for run in group for target in run.results.summaries):
        members = [run for run in group if target in run.results.summaries]
        if len(members) > 1:
            found.setdefault(tuple(run.folder(target) for run in members), (members, []))[1].append(target)
    return list(found.values())


def target_rows(run: ReportRun) -> Mapping[str, pd.DataFrame]:
    """A run's predictions by target, in the order of its results."""
    return {target: run.predictions[run.predictions["target"] == target] for target in run.results.summaries}


def _scores(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows["truth"].to_numpy(float), rows["prediction"].to_numpy(float)
