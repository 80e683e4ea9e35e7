"""Summarise trials: each metric over the repeats, with an interval of the recipe on new prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.new_prompts import new_prompts_reason, training_set_reason
from tier4k.heads.evaluation.trial import SELECTIONS, UNFITTED, Trial, by_target
from tier4k.heads.metrics.all_metrics import LIMITS, METRICS, POOLED_METRICS
from tier4k.heads.metrics.bootstrap import Spread, bootstrap_spreads, distinct_prompts
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.metrics.recipe import recipe_interval

NAN = float("nan")

NAMES = (*UNFITTED, *SELECTIONS, *BASELINES, RATERS)  # what a run can have summaries of

NO_SPREAD = Spread((NAN, NAN), NAN)

SELECTED_ON_TEST = "the epochs were selected on the test rows, so no predictions are kept"

NO_PREDICTOR = "the raters' ceiling has no predictions"

NOT_RESAMPLED = "only the metrics over all test rows have intervals"

ONE_PROMPT = "there is only one test prompt"


@dataclass(frozen=True)
class Summary:
    """One metric of one target and selection over all repeats.

    Attributes:
        values: The raw value of every repeat.
        mean, sd, median: Statistics over the R repeats; sd divides by R - 1 and is NaN for one repeat.
        interval: 95 % interval of the recipe on new prompts (see `tier4k.heads.metrics.recipe`); for
            predictors that were not fitted in the run, of these predictors on new prompts. None where
            `interval_reason` gives the reason.
        interval_reason: Why there is no such interval; "" if there is one.
        interval_fitted_heads: 95 % interval of the mean for these fitted heads: bootstrap over test prompts;
            None if no predictions are kept (best_test) or the metric is NaN.
        sd_splits: Standard deviation over distinct splits of the mean over the repeats that share one;
            NaN for one split.
        sd_seeds: Mean over the splits of the standard deviation over the repeats that share one, whose
            heads and validation parts have other seeds; NaN where no two repeats do.
    """

    values: tuple[float, ...]
    mean: float
    sd: float
    median: float
    interval: tuple[float, float] | None
    interval_reason: str
    interval_fitted_heads: tuple[float, float] | None
    sd_splits: float
    sd_seeds: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The interval, or (NaN, NaN) if there is none."""
        return self.interval or (NAN, NAN)


def summarize(
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
    unfitted_reason: str = "",
) -> dict[str, dict[str, dict[str, Summary]]]:
    """Return all metrics as {target: {selection, baseline or `RATERS`: {metric: Summary}}}.

    Args:
        features: Features and scores of the rows that the run uses.
        trials: One trial for each target and repeat; trials of one target are in the order of the repeats.
        splits: One split for each repeat.
        unfitted_reason: Why predictors that were not fitted in the run have no interval for new prompts; ""
            if they have.
    """
    parts = [split.outside_test.tobytes() + split.test.tobytes() for split in splits]
    fitted_reason = new_prompts_reason(features, splits) or training_set_reason(splits)
    reason_of = {name: unfitted_reason if name in UNFITTED else fitted_reason for name in NAMES}
    summaries = {}
    for target, target_trials in by_target(trials).items():
        summaries[target] = _summarize_target(features, target_trials, parts, reason_of)
    return summaries


def _summarize_target(
    features: FeatureSet,
    trials: Sequence[Trial],
    parts: Sequence[bytes],
    reason_of: Mapping[str, str],
) -> dict[str, dict[str, Summary]]:
    """Summarise the trials of one target.

    Args:
        features: Features and scores of the rows that the run uses.
        trials: One trial for each repeat.
        parts: Identity of the split of each repeat; equal for repeats that differ in their seed alone.
        reason_of: Why a selection or baseline has no interval for new prompts; "" if it has.
    """
    summaries: dict[str, dict[str, Summary]] = {}
    for name in NAMES:
        if name not in trials[0].metrics:
            continue
        tested = _tested(features, trials, name, reason_of[name])
        summaries[name] = {}
        for metric in METRICS:
            values = [trial.metrics[name][metric] for trial in trials]
            summaries[name][metric] = _summary(values, tested, metric, parts)
    return summaries


@dataclass(frozen=True)
class _Tested:
    """What the interval of a selection or baseline is computed from.

    Attributes:
        spreads: Spread of each metric over resamples of the test prompts.
        prompts: Number of distinct test prompts.
        fitted: Whether anything was fitted.
        reason: Why the recipe has no interval, whatever the metric; "" if it has.
    """

    spreads: dict[str, Spread]
    prompts: int
    fitted: bool
    reason: str


def _tested(
    features: FeatureSet,
    trials: Sequence[Trial],
    name: str,
    reason: str,
) -> _Tested:
    if name == RATERS:
        return _Tested({}, 0, fitted=False, reason=NO_PREDICTOR)
    if name not in trials[0].predictions:
        return _Tested({}, 0, fitted=True, reason=SELECTED_ON_TEST)
    repeats = []
    for trial in trials:
        repeats.append(trial.test_rows(features, name))
    prompts = distinct_prompts(repeats)
    fitted = name not in UNFITTED
    own_reason = ONE_PROMPT if prompts < 2 else reason
    return _Tested(bootstrap_spreads(repeats), prompts, fitted, own_reason)


def _summary(
    values: Sequence[float],
    tested: _Tested,
    metric: str,
    parts: Sequence[bytes],
) -> Summary:
    array = np.array(values)
    mean = float(array.mean())
    spread = tested.spreads.get(metric, NO_SPREAD)
    if np.isnan(array).all():
        spread = NO_SPREAD
    exists = bool(np.isfinite(spread.deviation))
    reason = tested.reason
    if not reason and metric not in POOLED_METRICS:
        reason = NOT_RESAMPLED
    if not reason and not (exists and np.isfinite(mean)):
        reason = f"{metric} is NaN"
    interval = None
    if not reason:
        interval = recipe_interval(mean, spread.deviation, tested.prompts, tested.fitted, LIMITS[metric])
    part_values = []
    for part in dict.fromkeys(parts):
        shares_part = [other == part for other in parts]
        part_values.append(array[shares_part])
    return Summary(
        values=tuple(map(float, values)),
        mean=mean,
        sd=_sd(array),
        median=float(np.median(array)),
        interval=interval,
        interval_reason=reason,
        interval_fitted_heads=spread.interval if exists else None,
        sd_splits=_sd(np.array([part.mean() for part in part_values])),
        sd_seeds=float(np.mean([_sd(part) for part in part_values])),
    )


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else NAN
