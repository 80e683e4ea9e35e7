"""Tables and notes that show results, comparisons and scores on a terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.text import Text

from tier4k.extract.screen.table import Column, Row, Table, count_column, text_column
from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import (
    ELSEWHERE,
    SELECTIONS,
    UNFITTED,
    ZERO_SHOT,
)
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.metrics.conformal import LEVEL, Interval
from tier4k.heads.metrics.levels import LEVEL_METRICS, LEVEL_REASONS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.metrics.recipe import FEWEST_PROMPTS
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.reporting.comparison import Comparison, comparison_frame
from tier4k.heads.reporting.leakage import count, leak_sentence, leaked
from tier4k.heads.results.config import SEVERAL
from tier4k.heads.results.names import digest_in
from tier4k.heads.results.results import Results

SIGNIFICANT = 0.05

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

SHOWN_METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse")

INTERVAL_IMPORTANCE = {"srcc": 90, "plcc": 70}

# Where a table is too wide, the metrics with the smallest numbers are left out first.
RESULT_IMPORTANCE = {
    "srcc": 95,
    "plcc": 85,
    "krcc": 68,
    "plcc_logistic": 64,
    "rmse": 60,
    "rmse_logistic": 60,
}

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

EPOCHS = {"last": "last epoch", "best_validation": "epoch with the best validation loss"}


# ---- one run


def results_table(results: Results) -> Table:
    """Make a table with one line for each target, selection and baseline: mean ± sd and 95 % intervals.

    The raw values of a line are those of all metrics, also of those that `levels_table` shows.
    """
    sentence = leak_sentence(results)
    leaks = f" ({sentence})" if sentence else ""
    columns = []
    for metric in _table_metrics(results):
        columns.append(_metric_column(metric, RESULT_IMPORTANCE[metric]))
        if metric in INTERVAL_IMPORTANCE:
            columns.append(_interval_column(metric, INTERVAL_IMPORTANCE[metric]))
    split = "" if results.headline == ELSEWHERE else f", split {results.split}"
    title = f"{described(results)}{split}{leaks}"
    return _metrics_table(title, results, (*selections(results), *references(results)), columns)


def levels_table(results: Results) -> Table | None:
    """Make a table of the result and the baselines: ranking of generators, and of the images of one prompt.

    Metrics that are NaN in every line are left out; None if all are.
    """
    names = (results.headline, *shown_baselines(results))
    columns = []
    for number, metric in enumerate(LEVEL_METRICS):
        means = [summaries[name][metric].mean for summaries in results.summaries.values() for name in names]
        if np.isfinite(means).any():
            columns.append(_metric_column(metric, 90 - number))
    if not columns:
        return None
    return _metrics_table("ranking of generators, and of images within prompts", results, names, columns)


def _metrics_table(
    title: str,
    results: Results,
    names: Sequence[str],
    columns: Sequence[Column],
) -> Table:
    """Return a table with columns of metrics, and a line for each target and each name that it has."""
    rows = []
    for target, summaries in results.summaries.items():
        for name in names:
            if name in summaries:
                about = {"target": target, "metrics_of": name, "is_result": name == results.headline}
                rows.append({**about, **_metric_values(summaries[name])})
    selection = Column("selection", lambda row: label(results, row["metrics_of"]), wraps=True)
    return Table(
        (text_column("target"), selection, *columns),
        tuple(rows),
        title,
        style=lambda row: _style(results, row["metrics_of"]),
        section="target",
    )


def _metric_values(summaries: Mapping[str, Summary]) -> dict[str, float | int]:
    """Return mean, standard deviation and interval of every metric by name, and the number of repeats."""
    values: dict[str, float | int] = {}
    for metric in METRICS:
        summary = summaries[metric]
        low, high = summary.bounds
        values |= {metric: summary.mean, f"{metric}_sd": summary.sd}
        values |= {f"{metric}_low": low, f"{metric}_high": high, "repeats": len(summary.values)}
    return values


def _metric_column(metric: str, importance: int) -> Column:
    return Column(
        LABELS[metric],
        lambda row: metric_cell(row[metric], row[f"{metric}_sd"]),
        importance,
        is_number=True,
    )


def _interval_column(metric: str, importance: int) -> Column:
    return Column(
        f"{LABELS[metric]} 95 % interval",
        lambda row: interval_cell(row[f"{metric}_low"], row[f"{metric}_high"]),
        importance,
        is_number=True,
    )


def described(results: Results) -> str:
    """Describe a run in a few words: its method, head and rows."""
    rows = f"{results.benchmark} rows of {results.data}"
    if results.headline == ZERO_SHOT:
        return f"{results.estimator}, zero-shot, on {rows}"
    if results.headline == ELSEWHERE:
        head, _, run = results.estimator.rpartition(" of ")
        return f"run {digest_in(run) or run} (TIER-{results.method.upper()}, {head}), tested on {rows}"
    if results.chosen:
        method = "" if results.method == SEVERAL else f"TIER-{results.method.upper()}, "
        return f"{method}options chosen by a search, on {rows}"
    return f"TIER-{results.method.upper()}, {results.estimator} head, on {rows}"


def choices_table(results: Results) -> Table:
    """Make a table with what a search chose for each target and repeat, and its SRCC on both parts."""
    rows = []
    for target, chosen in results.chosen.items():
        selection = results.selection_srcc[target]
        test = results.summaries[target][results.headline]["srcc"]
        lines = zip(chosen, selection, test.values, strict=True)
        for repeat, (options, selected, tested) in enumerate(lines):
            srcc = {"selection_srcc": selected, "test_srcc": tested}
            rows.append({"target": target, "repeat": repeat, "options": options, **srcc})
    columns = (
        text_column("target"),
        count_column("repeat"),
        text_column("options", "chosen options", wraps=True),
        Column("selection SRCC", lambda row: metric_cell(row["selection_srcc"]), 80, is_number=True),
        Column("test SRCC", lambda row: metric_cell(row["test_srcc"]), 90, is_number=True),
    )
    return Table(columns, tuple(rows), section="target")


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
        f"{numbers['leaked_images']} are in training, {siblings} share prompt and generator with a "
        "training image"
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


# ---- comparisons of runs


def comparison_table(
    comparisons: Sequence[Comparison],
    names: Sequence[str],
    runs: Sequence[Path],
) -> Table:
    """Make a table with one line for each target and pair of runs.

    Args:
        comparisons: What `compare` returned.
        names: A short name of each run.
        runs: Folders of the runs.
    """
    rows = []
    for comparison, line in zip(
        comparisons, comparison_frame(comparisons, runs).to_dict("records"), strict=True
    ):
        rows.append({"runs": _pair(comparison, names), **line})
    metric = LABELS[comparisons[0].metric]
    columns = [
        text_column("target"),
        text_column("runs"),
        Column(f"{metric} of each", _means_cell, 80, is_number=True),
        Column("difference", lambda row: f"{row['difference']:+.3f}", is_number=True),
        Column("95 % interval", lambda row: _signed_interval(row["low"], row["high"]), 90, is_number=True),
        Column("p", lambda row: metric_cell(row["p"]), 70, is_number=True),
        Column("p (Holm)", lambda row: metric_cell(row["p_holm"]), is_number=True),
    ]
    if _any_without_interval(comparisons):
        columns.append(Column("fitted heads", _fitted_heads_cell, 60, is_number=True))
    return Table(tuple(columns), tuple(rows), style=_significance_style)


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


def _means_cell(row: Row) -> str:
    return f"{row['mean_first']:.3f} and {row['mean_second']:.3f}"


def _fitted_heads_cell(row: Row) -> str:
    return _signed_interval(row["low_fitted_heads"], row["high_fitted_heads"])


def _significance_style(row: Row) -> str:
    return "bold" if row["p_holm"] < SIGNIFICANT else ""


def _signed_interval(low: float, high: float) -> str:
    return "none" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"


# ---- scores of images


def score_listing(scores: pd.DataFrame, most: int) -> Table:
    """List the first images, one a line, with score, interval and spread over the heads of every target.

    A score is never left out of a table.

    Args:
        scores: The table that `tier4k.heads.inference.scores.ScoreSummary.table` returns.
        most: Largest number of images to list.
    """
    targets = list(dict.fromkeys(scores["target"]))
    columns = [text_column("image")]
    for target in targets:
        columns += [
            Column(target, _score_of(target), is_number=True),
            Column(f"{target} interval", _interval_of(target), 80, is_number=True),
            Column(f"{target} spread", _spread_of(target), 60, is_number=True),
        ]
    rows = []
    for start in range(0, min(len(scores), most * len(targets)), len(targets)):
        lines = scores.iloc[start : start + len(targets)]
        rows.append({"image": lines["name"].iloc[0], **dict(zip(targets, lines.itertuples(), strict=True))})
    return Table(tuple(columns), tuple(rows))


def score_legend(scores: pd.DataFrame) -> str:
    """Explain the columns of `score_listing` beside the scores; "" where there are none.

    Args:
        scores: As for `score_listing`.
    """
    parts = []
    if scores["low"].notna().any():
        parts.append(f"interval: {100 * LEVEL:.0f} % prediction interval")
    if scores["spread"].notna().any():
        parts.append("spread: standard deviation of the heads' scores")
    return "; ".join(parts)


def _score_of(target: str) -> Callable[[Row], str]:
    return lambda row: f"{row[target].score:.3f}"


def _interval_of(target: str) -> Callable[[Row], str]:
    return lambda row: interval_cell(row[target].low, row[target].high, digits=2)


def _spread_of(target: str) -> Callable[[Row], str]:
    return lambda row: "" if np.isnan(row[target].spread) else f"{row[target].spread:.2f}"


# ---- cells


def metric_cell(mean: float, sd: float = float("nan")) -> str:
    """Format a value with its standard deviation, which is left out where it is NaN."""
    if np.isnan(mean):
        return "NaN"
    return f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def interval_cell(
    low: float,
    high: float,
    digits: int = 3,
) -> str:
    """Format an interval with some digits after the point; "" where there is none."""
    return "" if np.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"
