"""What a terminal states below the table of results: intervals, missing values, leakage."""

from collections.abc import Iterator

import numpy as np
from rich.text import Text

from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.trial import (
    ELSEWHERE,
    UNFITTED,
    ZERO_SHOT,
)
from tier4k.heads.metrics.conformal import Interval
from tier4k.heads.metrics.levels import LEVEL_REASONS
from tier4k.heads.metrics.recipe import FEWEST_PROMPTS
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.reporting.labels import EPOCHS, label, references, selections, table_metrics
from tier4k.heads.reporting.leakage import count, leaked
from tier4k.heads.results.results import Results

ESTIMAND = (
    "the expected metric of a head fitted on another training set of this size, on new prompts of the same "
    "generators."
)

ESTIMAND_UNFITTED = "the expected metric on new prompts"

CALIBRATION = (
    "RMSE is that of predictions mapped linearly to the scores, the map of each prompt fitted on other "
    "prompts; SRCC, KRCC and PLCC are those of the unmapped predictions, because the maps differ and would "
    "change ranks."
)


def notes(results: Results) -> Iterator[Text]:
    """Explain missing scores, NaN values, intervals and deviations, and last how results were computed."""
    for target, missing in results.missing_scores.items():
        yield Text(f"{target}: {missing} of {results.rows} rows have no score and take no part", style="dim")
    if results.unscored:
        yield Text(
            f"{results.unscored} of {results.rows} rows have no score of {results.estimator} and are no test "
            "rows",
            style="dim",
        )
    if results.datasets:
        yield Text(_scales(results), style="dim")
    if results.independent_images:
        yield Text(
            "images are taken as independent of each other, as the rows have neither prompts nor groups",
            style="dim",
        )
    yield from _nan_notes(results)
    yield from _interval_notes(results)
    if results.headline != ELSEWHERE:  # the heads were fitted on other splits
        yield from _sources_of_variation(results)
    elif "rmse" in table_metrics(results):
        yield Text(CALIBRATION, style="dim")
    yield _how_computed(results)


def _scales(results: Results) -> str:
    """State how the scores of several data sets came to one scale, or that they did not."""
    names = ", ".join(results.datasets)
    if all(BASELINES.keys().isdisjoint(summaries) for summaries in results.summaries.values()):
        return (
            f"the data sets {names} have no training rows here, so their scores keep their scales, which the "
            "values mix; see tier table --by dataset"
        )
    return (
        f"the scores of the data sets {names} are mapped linearly, by training rows, to the scale of the "
        "first with training rows; see tier table --by dataset"
    )


def interval_lines(results: Results) -> Iterator[Text]:
    """State for each target the width of the prediction interval and its coverage of the test rows."""
    if results.headline in UNFITTED or results.chosen:  # no head is kept, so there is nothing to predict with
        return
    if results.new_prompts_reason:
        yield Text(f"no prediction interval, as {results.new_prompts_reason}", style="dim")
        return
    for target, interval in results.prediction_intervals.items():
        yield Text(f"{target}: {_interval_text(interval)}", style="dim")
    for target in results.summaries:
        if target not in results.prediction_intervals:
            yield Text(f"{target}: no prediction interval, as no rows were held out of training", style="dim")


def leakage(results: Results) -> Text:
    """State how many test prompts, duplicates and siblings of test images were seen in training."""
    if results.headline == ZERO_SHOT:
        return Text(
            "no leakage: the predictions are zero-shot, so no head was fitted to these scores", style="green"
        )
    if results.seen_siblings is None:
        return Text(f"leakage is unknown: {results.seen_unknown}", style="dim")
    repeats = len(results.test_rows)
    numbers = {name: count(number) for name, number in leaked(results).items()}
    siblings = count(sum(results.seen_siblings) / repeats)
    several = "heads" if results.headline == ELSEWHERE else "repeats"
    mean_of = f", mean of {repeats} {several}" if repeats > 1 else ""
    line = (
        f"seen in training{mean_of}: {numbers['leaked_prompts']} of "
        f"{numbers['test_prompts']} test prompts; of {numbers['test_images']} test images, "
        f"{numbers['leaked_images']} are in training, {siblings} share prompt and generator with a "
        "training image"
    )
    if not results.leaks:
        return Text(line, style="green")
    if results.headline == ELSEWHERE:
        return Text(f"{line}: the metrics may be too good", style="yellow")
    return Text(f"{line}: this split leaks, compare with the baselines only", style="yellow")


def _nan_notes(results: Results) -> Iterator[Text]:
    """Yield a line for each reason; a target is named alone if all of its selections have the reason."""
    selected = selections(results)
    names_of_reason: dict[str, dict[str, list[str]]] = {}
    for target, reasons in results.reasons.items():
        for name in (*selected, *references(results)):
            for reason in filter(None, reasons.get(name, "").split("; ")):
                names_of_reason.setdefault(reason, {}).setdefault(target, []).append(name)
    for reason, names_of_target in names_of_reason.items():
        cells = []
        for target, names in names_of_target.items():
            if set(selected) <= set(names):
                cells.append(target)
            else:
                cells += [f'"{label(results, name)}" of {target}' for name in names]
        concerns_result = any(set(selected) & set(names) for names in names_of_target.values())
        style = "yellow" if concerns_result and reason not in LEVEL_REASONS else "dim"
        missing = LEVEL_REASONS.get(reason, "NaN")
        yield Text(f"{missing} for {', '.join(cells)}: {reason}", style=style)


def _interval_notes(results: Results) -> Iterator[Text]:
    """State what the interval covers, why it is missing, or that it is rough."""
    reasons: dict[str, list[str]] = {}
    shown = []
    for target, summaries in results.summaries.items():
        summary = summaries[results.headline]["srcc"]
        if not summary.interval_reason:
            shown.append(target)
        if summary.interval_reason and np.isfinite(summary.mean):
            reasons.setdefault(summary.interval_reason, []).append(target)
    for reason, targets in reasons.items():
        yield Text(f"no 95 % interval for new prompts ({', '.join(targets)}), as {reason}", "dim")
    if shown and results.headline in UNFITTED:
        condition = ", if none of these prompts was in training" if results.seen_unknown else ""
        yield Text(f"the 95 % interval is for {ESTIMAND_UNFITTED}{condition}", "dim")
    elif shown:
        yield Text(f"the 95 % interval is for {ESTIMAND}", "dim")
    for target in shown:
        fewest = results.fewest_prompts[target]
        if fewest < FEWEST_PROMPTS:
            yield Text(f"{target}: the interval is rough: a repeat has only {fewest} test prompts", "yellow")


def _sources_of_variation(results: Results) -> Iterator[Text]:
    for target, summaries in results.summaries.items():
        summary = summaries[results.headline]["srcc"]
        if not np.isfinite(summary.sd_seeds):
            continue
        # All repeats of the published split share one test part, and so have no deviation over splits.
        has_splits = np.isfinite(summary.sd_splits)
        splits = f"{summary.sd_splits:.3f} over splits, " if has_splits else ""
        yield Text(f"{target} SRCC: sd {splits}{summary.sd_seeds:.3f} over seeds of one split", style="dim")


def _how_computed(results: Results) -> Text:
    repeats = len(results.test_rows)
    singular, plural = ("head", "heads") if results.headline == ELSEWHERE else ("repeat", "repeats")
    sample = f"mean ± sd of {repeats} {plural}" if repeats > 1 else f"one {singular}"
    result = ""
    if results.chosen:
        result = "; each repeat has the options that it chose"
    elif results.headline in EPOCHS and has_epochs(results.estimator):
        result = f"; the result is that of the {EPOCHS[results.headline]}"
    return Text(f"{sample}{result}", style="dim")


def _interval_text(interval: Interval) -> str:
    width = np.mean(interval.half_width)
    level = f"{100 * interval.level:.0f} % prediction interval"
    if not np.isfinite(width):
        return f"no {level}, as {min(interval.prompts)} held-out prompts are too few for it"
    if width == 0:
        return f"no {level}: all scores are equal"
    coverage = 100 * np.mean(interval.coverage)
    return f"± {width:.3g} is the {level} (test coverage {coverage:.1f} %)"
