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
from tier4k.heads.metrics.significance import RESAMPLES, smallest_holm_p
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.reporting.comparison import Comparison
from tier4k.heads.reporting.leakage import count, leak_sentence, leaked
from tier4k.heads.results.results import Results

SIGNIFICANT = 0.05

ABOUT_WILLIAMS = (
    "p (Williams): t-test of two correlations with the same scores, without Holm's correction; "
    "for several repeats, twice the median p. "
    "The test assumes that images of one prompt are independent, which they are not: "
    "rely on the p of the bootstrap."
)

CALIBRATION = (
    "RMSE is that of predictions mapped linearly to the scores, the map of each prompt fitted on other "
    "prompts; SRCC, KRCC and PLCC are those of the unmapped predictions, as the maps differ and would change "
    "ranks."
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
    "last": "last epoch",
    "best_validation": "best validation",
    "best_test": "best test epoch (optimistic)",
    "zero_shot": "zero-shot",
    "elsewhere": "fitted elsewhere",
    "generator_mean": "baseline: generator mean",
    "generator_and_prompt": "baseline: generator + prompt",
    "sibling_mean": "baseline: sibling mean",
}


# ---- one run


def results_table(results: Results) -> Table:
    """Make a table with one line for each target, selection and baseline: mean ± sd and 95 % intervals."""
    sentence = leak_sentence(results)
    leaks = f" ({sentence})" if sentence else ""
    table = Table(title=f"{described(results)}, split {results.split}{leaks}", title_justify="left")
    table.add_column("target")
    table.add_column("selection")
    metrics = _table_metrics(results)
    for metric in metrics:
        table.add_column(LABELS[metric], justify="right")
    names = (*selections(results), *shown_baselines(results))
    for target, summaries in results.summaries.items():
        for name in names:
            table.add_row(
                target,
                label(results, name),
                *_metric_cells(summaries[name], metrics),
                style=_style(results, name),
                end_section=name == names[-1],
            )
    return table


def described(results: Results) -> str:
    """Describe a run in a few words: its method, head and rows."""
    rows = f"{results.benchmark} rows of {results.data}"
    if results.headline == ZERO_SHOT:
        return f"{results.estimator}, zero-shot, on {rows}"
    if results.headline == ELSEWHERE:
        return f"TIER-{results.method.upper()}, {results.estimator}, fitted elsewhere, on {rows}"
    return f"TIER-{results.method.upper()}, {results.estimator} head, on {rows}"


def notes(results: Results) -> Iterator[Text]:
    """Explain a run's NaN values and standard deviations, and last how its results were computed."""
    yield from _nan_notes(results)
    if results.headline != ELSEWHERE:  # the heads were fitted on other splits
        yield from _sources_of_variation(results)
    elif "rmse" in _table_metrics(results):
        yield Text(CALIBRATION, style="dim")
    yield _how_computed(results)


def interval_lines(results: Results) -> Iterator[Text]:
    """State for each target the width of the prediction interval and its coverage of the test rows."""
    if results.headline in UNFITTED:
        return
    for target, interval in results.intervals.items():
        yield Text(f"{target}: {_interval_text(interval)}", style="dim")
    for target in results.summaries:
        if target not in results.intervals:
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
    mean_of = "heads" if results.headline == ELSEWHERE else "repeats"
    line = (
        f"seen in training, mean of {repeats} {mean_of}: {numbers['leaked_prompts']} of "
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


def label(results: Results, name: str) -> str:
    """Return the title of a selection or baseline; "fit" for the one selection of a head without epochs."""
    is_always_named = name in BASELINES or name in UNFITTED
    if is_always_named or has_epochs(results.estimator):
        return LABELS[name]
    return "fit"


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
    return "dim" if name in BASELINES or name == "best_test" else ""


def _nan_notes(results: Results) -> Iterator[Text]:
    shown = (*selections(results), *shown_baselines(results))
    cells_of_reason: dict[tuple[str, bool], list[str]] = {}
    for target, reasons in results.reasons.items():
        for name, reason in reasons.items():
            if name in shown:
                cells = cells_of_reason.setdefault((reason, name in BASELINES), [])
                cells.append(f"{target} {label(results, name)}")
    for (reason, is_baseline), cells in cells_of_reason.items():
        yield Text(f"NaN, {reason}: {', '.join(cells)}", style="dim" if is_baseline else "yellow")


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
    return Text(f"{sample} [95 % interval: bootstrap over test prompts]{result}", style="dim")


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
    if comparisons[0].williams:  # all comparisons are of one metric
        columns.append("p (Williams)")
    for column in columns:
        table.add_column(column, justify="right")
    for comparison in comparisons:
        table.add_row(
            comparison.target,
            _pair(comparison, names),
            *_comparison_cells(comparison),
            style="bold" if comparison.p_holm < SIGNIFICANT else "",
        )
    return table


def comparison_notes(comparisons: Sequence[Comparison], names: Sequence[str]) -> Iterator[Text]:
    """Explain the p-values of a comparison table.

    Args:
        comparisons: What `compare` returned.
        names: A short name of each run.
    """
    yield Text(
        "p: paired bootstrap over test prompts; bold: p (Holm) under 0.05. "
        "The intervals do not include the variation between trainings.",
        "dim",
    )
    warning = many_comparisons_note(len(comparisons))
    if warning:
        yield Text(warning, "yellow")
    if comparisons[0].williams:
        yield Text(ABOUT_WILLIAMS, "dim")
    pairs_of_reason: dict[str, list[str]] = {}
    for comparison in comparisons:
        test = comparison.williams
        if test and test.why_not:
            pair = f"{comparison.target} {_pair(comparison, names)}"
            pairs_of_reason.setdefault(test.why_not, []).append(pair)
    for reason, pairs in pairs_of_reason.items():
        yield Text(f"p (Williams) is NaN, {reason}: {', '.join(pairs)}", "yellow")


def many_comparisons_note(comparisons: int) -> str:
    """Warn that none of so many comparisons can be significant; "" for a smaller number."""
    least = smallest_holm_p(comparisons)
    if least < SIGNIFICANT:
        return ""
    return (
        f"{comparisons} comparisons are too many for {RESAMPLES:,} resamples, "
        f"as p (Holm) cannot be less than {least:.3f}: compare fewer runs"
    )


def _pair(comparison: Comparison, names: Sequence[str]) -> str:
    return f"{names[comparison.first]} - {names[comparison.second]}"


def _comparison_cells(comparison: Comparison) -> list[str]:
    low, high = comparison.interval
    first, second = comparison.means
    cells = [
        f"{first:.3f} and {second:.3f}",
        f"{comparison.difference:+.3f}",
        f"[{low:+.3f}, {high:+.3f}]",
        metric_cell(comparison.p),
        metric_cell(comparison.p_holm),
    ]
    if comparison.williams:
        cells.append(metric_cell(comparison.williams.p))
    return cells


# ---- scores of images


def score_listing(scores: pd.DataFrame, most: int) -> Table:
    """List the first images, one a line, with score, interval and spread over the heads of every target.

    Args:
        scores: The table that `tier4k.heads.results.model.score_table` returns.
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
    return metric_cell(summary.mean, summary.sd, *summary.interval)


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
