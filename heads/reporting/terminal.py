"""Tables and notes that show results, comparisons and scores on a terminal."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import (
    ELSEWHERE,
    SELECTIONS,
    UNFITTED,
    ZERO_SHOT,
)
from tier4k.heads.metrics.conformal import Interval
from tier4k.heads.metrics.levels import LEVEL_METRICS, LEVEL_REASONS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.metrics.recipe import FEWEST_PROMPTS
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.reporting.comparison import Comparison
from tier4k.heads.reporting.leakage import count, leak_sentence, leaked
from tier4k.heads.results.config import SEVERAL
from tier4k.heads.results.results import Results

SIGNIFICANT = 0.05

ESTIMAND = (
    "the metric that is expected when the head is fitted on a new training set of this size and tested on "
    "infinitely many new prompts of the same generators."
)

ESTIMAND_UNFITTED = "the metric that is expected on infinitely many new prompts"

CALIBRATION = (
    "RMSE is that of predictions mapped linearly to the scores, the map of each prompt fitted on other "
    "prompts; SRCC, KRCC and PLCC are those of the unmapped predictions, because the maps differ and would "
    "change ranks."
)

SHOWN_METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse")

WITH_INTERVAL = ("srcc", "plcc")

LABELS = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC",
    "plcc_logistic": "PLCC (logistic)",
    "rmse": "RMSE",
    "rmse_logistic": "RMSE (logistic)",
    "system_srcc": "generators: SRCC",
    "system_krcc": "generators: KRCC",
    "prompt_srcc": "within prompts: SRCC",
    "prompt_pairs": "within prompts: pairwise accuracy",
    "last": "last epoch",
    "best_validation": "best validation",
    "best_test": "best test epoch (optimistic)",
    "zero_shot": "zero-shot",
    "elsewhere": "fitted elsewhere",
    "generator_mean": "baseline: generator mean",
    "generator_and_prompt": "baseline: generator + prompt",
    "sibling_mean": "baseline: sibling mean",
    RATERS: "raters' ceiling",
}


# ---- one run


def results_table(results: Results) -> Table:
    """Make a table with one line for each target, selection and baseline: mean ± sd and 95 % intervals."""
    sentence = leak_sentence(results)
    leaks = f" ({sentence})" if sentence else ""
    table = Table(title=f"{described(results)}, split {results.split}{leaks}", title_justify="left")
    _fill(table, results, (*selections(results), *references(results)), _table_metrics(results))
    return table


def levels_table(results: Results) -> Table | None:
    """Make a table of the result and the baselines: ranking of generators, and of the images of one prompt.

    Metrics that are NaN in every line are left out; None if all are.
    """
    names = (results.headline, *shown_baselines(results))
    metrics = []
    for metric in LEVEL_METRICS:
        means = [summaries[name][metric].mean for summaries in results.summaries.values() for name in names]
        if np.isfinite(means).any():
            metrics.append(metric)
    if not metrics:
        return None
    table = Table(title="ranking of generators, and of images within prompts", title_justify="left")
    _fill(table, results, names, metrics)
    return table


def _fill(
    table: Table,
    results: Results,
    names: Sequence[str],
    metrics: Sequence[str],
) -> None:
    """Add columns for target, selection and metrics, and a line for each target and each name that it has."""
    table.add_column("target")
    table.add_column("selection")
    for metric in metrics:
        table.add_column(LABELS[metric], justify="right")
    for target, summaries in results.summaries.items():
        own_names = [name for name in names if name in summaries]
        for name in own_names:
            table.add_row(
                target,
                label(results, name),
                *_metric_cells(summaries[name], metrics),
                style=_style(results, name),
                end_section=name == own_names[-1],
            )


def described(results: Results) -> str:
    """Describe a run in a few words: its method, head and rows."""
    rows = f"{results.benchmark} rows of {results.data}"
    if results.headline == ZERO_SHOT:
        return f"{results.estimator}, zero-shot, on {rows}"
    if results.headline == ELSEWHERE:
        return f"TIER-{results.method.upper()}, {results.estimator}, fitted elsewhere, on {rows}"
    if results.chosen:
        method = "" if results.method == SEVERAL else f"TIER-{results.method.upper()}, "
        return f"{method}options chosen by a search, on {rows}"
    return f"TIER-{results.method.upper()}, {results.estimator} head, on {rows}"


def choices_table(results: Results) -> Table:
    """Make a table with what a search chose for each target and repeat, and its SRCC on both parts."""
    table = Table("target", "repeat", "chosen options")
    for title in ("selection SRCC", "test SRCC"):
        table.add_column(title, justify="right")
    for target, chosen in results.chosen.items():
        selection = results.selection_srcc[target]
        test = results.summaries[target][results.headline]["srcc"]
        lines = zip(chosen, selection, test.values, strict=True)
        for repeat, (options, selected, tested) in enumerate(lines):
            is_last = repeat == len(chosen) - 1
            cells = (metric_cell(selected), metric_cell(tested))
            table.add_row(target, str(repeat), options, *cells, end_section=is_last)
    return table


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
    elif "rmse" in _table_metrics(results):
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
        f"{numbers['leaked_images']} are in training, {siblings} have siblings there (images of the same "
        "prompt and generator)"
    )
    if not results.leaks:
        return Text(line, style="green")
    if results.headline == ELSEWHERE:
        return Text(f"{line}: the metrics may be too good", style="yellow")
    return Text(f"{line}: this split leaks, compare with the baselines only", style="yellow")


def selections(results: Results) -> tuple[str, ...]:
    """Return the selections of a run that differ from each other."""
    if not has_epochs(results.estimator):
        return (results.headline,)
    if results.headline == "best_validation":
        return SELECTIONS
    # Without a validation part there is no best validation epoch, and the result is the last one.
    return tuple(name for name in SELECTIONS if name != "best_validation")


def shown_baselines(results: Results) -> tuple[str, ...]:
    """Return the baselines that differ: without test prompts in training, all baselines equal the first."""
    shown = set(BASELINES) if any(results.seen_prompts or ()) else {next(iter(BASELINES))}
    for summaries in results.summaries.values():
        shown &= summaries.keys()
    return tuple(name for name in BASELINES if name in shown)


def references(results: Results) -> tuple[str, ...]:
    """Return what is shown beside the selections: the baselines, and the raters' ceiling.

    The ceiling is among them if it is known for one target; the summaries of other targets lack it.
    """
    has_ceiling = any(RATERS in summaries for summaries in results.summaries.values())
    return (*shown_baselines(results), RATERS) if has_ceiling else shown_baselines(results)


def label(results: Results, name: str) -> str:
    """Return the title of a selection or reference; "fit" for the one selection of a head without epochs."""
    is_always_named = name in BASELINES or name in (*UNFITTED, RATERS)
    if is_always_named or has_epochs(results.estimator):
        return LABELS[name]
    return "choice of each repeat" if results.chosen else "fit"


def _table_metrics(results: Results) -> list[str]:
    """Return the table's metrics; RMSE after the logistic where no prediction has the unit of its target."""
    for summaries in results.summaries.values():
        if np.isfinite(summaries[results.headline]["rmse"].mean):
            return list(SHOWN_METRICS)
    return ["rmse_logistic" if metric == "rmse" else metric for metric in SHOWN_METRICS]


def _metric_cells(summaries: Mapping[str, Summary], metrics: Sequence[str]) -> list[str]:
    cells = []
    for metric in metrics:
        with_interval = metric in WITH_INTERVAL
        cells.append(summary_cell(summaries[metric], with_interval))
    return cells


def _style(results: Results, name: str) -> str:
    if name == results.headline:
        return "bold"
    return "dim" if name in BASELINES or name in ("best_test", RATERS) else ""


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
                cells += [f"{target} {label(results, name)}" for name in names]
        concerns_result = any(set(selected) & set(names) for names in names_of_target.values())
        style = "yellow" if concerns_result and reason not in LEVEL_REASONS else "dim"
        yield Text(f"NaN, {reason}: {', '.join(cells)}", style=style)


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
        yield Text(f"[95 % interval]: {ESTIMAND_UNFITTED}{condition}", "dim")
    elif shown:
        yield Text(f"[95 % interval]: {ESTIMAND}", "dim")
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
    if results.headline not in UNFITTED:
        result = f"; the result is the {label(results, results.headline)}"
    return Text(f"{sample}{result}", style="dim")


def _interval_text(interval: Interval) -> str:
    width = np.mean(interval.half_width)
    level = f"{100 * interval.level:.0f} % prediction interval"
    if not np.isfinite(width):
        return f"no {level}, as {min(interval.prompts)} held-out prompts are too few for it"
    coverage = 100 * np.mean(interval.coverage)
    return f"± {width:.3g} is the {level} (test coverage {coverage:.1f} %)"


# ---- comparisons of runs


def comparison_table(comparisons: Sequence[Comparison], names: Sequence[str]) -> Table:
    """Make a table with one line for each target and pair of runs.

    Args:
        comparisons: What `compare` returned.
        names: A short name of each run.
    """
    metric = LABELS[comparisons[0].metric]
    table = Table("target", "runs")
    columns = [f"{metric} of each", "difference", "95 % interval", "p", "p (Holm)"]
    without = _any_without_interval(comparisons)
    if without:
        columns.append("fitted heads")
    for column in columns:
        table.add_column(column, justify="right")
    for comparison in comparisons:
        table.add_row(
            comparison.target,
            _pair(comparison, names),
            *_comparison_cells(comparison),
            *([_signed_interval(comparison.interval_fitted_heads)] if without else []),
            style="bold" if comparison.p_holm < SIGNIFICANT else "",
        )
    return table


def comparison_notes(comparisons: Sequence[Comparison], names: Sequence[str]) -> Iterator[Text]:
    """Explain the intervals and p-values of a comparison table.

    Args:
        comparisons: What `compare` returned.
        names: A short name of each run.
    """
    fitted = any(comparison.fitted for comparison in comparisons)
    estimand = ESTIMAND if fitted else f"{ESTIMAND_UNFITTED}."
    yield Text(f"p and interval are for the difference in {estimand} Bold: p (Holm) under 0.05.", "dim")
    pairs_of_reason: dict[str, list[str]] = {}
    for comparison in comparisons:
        if comparison.interval_reason:
            pair = f"{comparison.target} {_pair(comparison, names)}"
            pairs_of_reason.setdefault(comparison.interval_reason, []).append(pair)
    for reason, pairs in pairs_of_reason.items():
        yield Text(f"no interval and no p, as {reason}: {', '.join(pairs)}", "yellow")
    if _any_without_interval(comparisons):
        yield Text("fitted heads: 95 % interval for these heads alone, by bootstrap over test prompts", "dim")


def _any_without_interval(comparisons: Sequence[Comparison]) -> bool:
    return any(comparison.interval_reason for comparison in comparisons)


def _pair(comparison: Comparison, names: Sequence[str]) -> str:
    return f"{names[comparison.first]} - {names[comparison.second]}"


def _comparison_cells(comparison: Comparison) -> list[str]:
    first, second = comparison.means
    return [
        f"{first:.3f} and {second:.3f}",
        f"{comparison.difference:+.3f}",
        _signed_interval(comparison.interval),
        metric_cell(comparison.p),
        metric_cell(comparison.p_holm),
    ]


def _signed_interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return "none" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"


# ---- scores of images


def score_listing(scores: pd.DataFrame, most: int) -> Table:
    """List the first images, one a line, with score, interval and spread over the heads of every target.

    Args:
        scores: The table that `tier4k.heads.inference.scores.ScoreSummary.table` returns.
        most: Largest number of images to list.
    """
    targets = list(dict.fromkeys(scores["target"]))
    table = Table("image")
    for target in targets:
        table.add_column(target, justify="right")
    for start in range(0, min(len(scores), most * len(targets)), len(targets)):
        lines = scores.iloc[start : start + len(targets)]
        cells = []
        for line in lines.itertuples():
            cell = _score_cell(line.score, line.low, line.high, line.spread)
            cells.append(cell)
        table.add_row(str(lines["name"].iloc[0]), *cells)
    return table


def _score_cell(
    score: float,
    low: float,
    high: float,
    spread: float,
) -> str:
    interval = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    deviation = "" if np.isnan(spread) else f" ± {spread:.2f}"
    return f"{score:.3f}{interval}{deviation}"


# ---- cells


def summary_cell(summary: Summary, with_interval: bool) -> str:
    """Format mean and standard deviation of a metric over the repeats, and its interval on demand."""
    if not with_interval:
        return metric_cell(summary.mean, summary.sd)
    return metric_cell(summary.mean, summary.sd, *summary.bounds)


def metric_cell(
    mean: float,
    sd: float = float("nan"),
    low: float = float("nan"),
    high: float = float("nan"),
) -> str:
    """Format a value with its standard deviation and interval, each left out where it is NaN."""
    if np.isnan(mean):
        return "NaN"
    spread = "" if np.isnan(sd) else f" ± {sd:.3f}"
    interval = "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return f"{mean:.3f}{spread}{interval}"
