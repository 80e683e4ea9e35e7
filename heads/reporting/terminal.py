"""A run's figures on a terminal."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import ELSEWHERE, SELECTIONS, UNFITTED, ZERO_SHOT
from tier4k.heads.metrics.significance import RESAMPLES, least_p_holm
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.reporting.comparison import Comparison
from tier4k.heads.results.results import SEEN, Results

SIGNIFICANT = 0.05

OF_WILLIAMS = (
    "p (Williams): the t-test of two correlations with the same scores, without Holm's correction; of several repeats, twice the median. "
    "It takes pictures of one prompt to be independent, which they are not: the bootstrap's p is the result."
)

SHOWN_METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse")

LABELS = {
    "srcc": "SRCC", "krcc": "KRCC", "plcc": "PLCC", "plcc_logistic": "PLCC (logistic)", "rmse": "RMSE", "rmse_logistic": "RMSE (logistic)",
    "last": "last epoch", "best_validation": "best validation", "best_test": "best test epoch (optimistic)",
    "zero_shot": "zero-shot", "elsewhere": "fitted elsewhere",
    "generator_mean": "floor: generator mean", "generator_and_prompt": "floor: generator + prompt", "sibling_mean": "floor: sibling mean",
}  # fmt: skip


def results_table(results: Results) -> Table:
    """Mean ± sd over the repeats and the 95 % interval of SRCC and PLCC, for each target, selection and floor."""
    names = (*selections(results), *shown_baselines(results))
    title = f"{described(results)}, split {results.split}{' (leaks)' if results.leaks else ''}"
    table = Table(title=title, title_justify="left")
    table.add_column("target")
    table.add_column("selection")
    # A score that was not fitted to these rows is in no unit of the target's, unless it was calibrated.
    has_unit = any(
        np.isfinite(summaries[results.headline]["rmse"].mean) for summaries in results.summaries.values()
    )
    metrics = [
        f"{metric}_logistic" if metric == "rmse" and not has_unit else metric for metric in SHOWN_METRICS
    ]
    for metric in metrics:
        table.add_column(LABELS[metric], justify="right")
    for target, summaries in results.summaries.items():
        for name in names:
            style = (
                "bold"
                if name == results.headline
                else "dim"
                if name in BASELINES or name == "best_test"
                else ""
            )
            cells = [_cell(summaries[name][metric], metric in ("srcc", "plcc")) for metric in metrics]
            table.add_row(target, label(results, name), *cells, style=style, end_section=name == names[-1])
    return table


def described(results: Results) -> str:
    """What a run is, and of which rows."""
    rows = f"{results.benchmark} of {results.data}"
    if results.headline == ZERO_SHOT:
        return f"{results.estimator}, zero-shot, on {rows}"
    fitted = (
        f"{results.estimator}, fitted elsewhere"
        if results.headline == ELSEWHERE
        else f"{results.estimator} head"
    )
    return f"TIER-{results.method.upper()}, {fitted}, on {rows}"


def score_listing(scores: pd.DataFrame, most: int) -> Table:
    """One line for each of the first pictures: every target's score with its interval and the spread over the heads."""
    targets = list(dict.fromkeys(scores["target"]))
    table = Table("picture")
    for target in targets:
        table.add_column(target, justify="right")
    for start in range(0, min(len(scores), most * len(targets)), len(targets)):
        its = scores.iloc[start : start + len(targets)]
        table.add_row(
            str(its["name"].iloc[0]),
            *(_scored(score, low, high, spread) for *_, score, low, high, spread in its.to_numpy()),
        )
    return table


def _scored(score: float, low: float, high: float, spread: float) -> str:
    interval = f" [{low:.2f}, {high:.2f}]" if low == low else ""
    return f"{score:.3f}{interval}" + (f" ± {spread:.2f}" if spread == spread else "")


def comparison_table(comparisons: Sequence[Comparison], names: Sequence[str]) -> Table:
    """One line for each target and pair of runs.

    Args:
        comparisons: From `compare`.
        names: A short name of each run.
    """
    metric = LABELS[comparisons[0].metric]
    classical = [one.williams for one in comparisons if one.williams]
    table = Table("target", "runs")
    for column in (
        f"{metric} of each",
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        *(["p (Williams)"] if classical else []),
    ):
        table.add_column(column, justify="right")
    for one in comparisons:
        figures = " and ".join(f"{value:.3f}" for value in one.figures)
        pair = f"{names[one.first]} - {names[one.second]}"
        interval = f"[{one.interval[0]:+.3f}, {one.interval[1]:+.3f}]"
        p = [one.p, one.p_holm, *([one.williams.p] if one.williams else [])]
        style = "bold" if one.p_holm < SIGNIFICANT else ""
        table.add_row(
            one.target, pair, figures, f"{one.difference:+.3f}", interval, *map(metric_cell, p), style=style
        )
    return table


def comparison_notes(comparisons: Sequence[Comparison], names: Sequence[str]) -> Iterator[Text]:
    """What a reader must know of the p-values; the arguments are those of `comparison_table`."""
    yield Text(
        "p: paired bootstrap over test prompts; bold: p (Holm) under 0.05. Chance between trainings is not in the intervals.",
        "dim",
    )
    if told := too_many(len(comparisons)):
        yield Text(told, "yellow")
    missing: dict[str, list[str]] = {}
    for one in comparisons:
        if one.williams and one.williams.why_not:
            missing.setdefault(one.williams.why_not, []).append(
                f"{one.target} {names[one.first]} - {names[one.second]}"
            )
    if any(one.williams for one in comparisons):
        yield Text(OF_WILLIAMS, "dim")
    for why, pairs in missing.items():
        yield Text(f"p (Williams) is NaN, {why}: {', '.join(pairs)}", "yellow")


def too_many(comparisons: int) -> str:
    """What to say of a table of comparisons of which none could be called significant; "" of another."""
    least = least_p_holm(comparisons)
    if least < SIGNIFICANT:
        return ""
    return f"{comparisons} comparisons are too many for {RESAMPLES:,} resamples: p (Holm) is {least:.3f} at least, compare fewer runs"


def notes(results: Results) -> Iterator[Text]:
    """What a reader must know of the figures."""
    missing: dict[tuple[str, bool], list[str]] = {}
    for target, reasons in results.reasons.items():
        for name, reason in reasons.items():
            if name not in (*selections(results), *shown_baselines(results)):
                continue
            missing.setdefault((reason, name in BASELINES), []).append(f"{target} {label(results, name)}")
    for (reason, of_floors), cells in missing.items():
        yield Text(f"NaN, {reason}: {', '.join(cells)}", style="dim" if of_floors else "yellow")
    repeats, elsewhere = len(results.test_rows), results.headline == ELSEWHERE
    for target, summaries in results.summaries.items():
        found = summaries[results.headline]["srcc"]
        if np.isfinite(found.sd_seeds) and not elsewhere:  # heads of another run had splits of their own
            # Where all repeats have one test part, as with the published split, there is nothing to tell of splits.
            splits = f"{found.sd_splits:.3f} over splits, " if np.isfinite(found.sd_splits) else ""
            yield Text(f"{target} SRCC: sd {splits}{found.sd_seeds:.3f} over seeds of one split", style="dim")
    one, many = ("head", "heads") if elsewhere else ("repeat", "repeats")
    over = f"mean ± sd of {repeats} {many}" if repeats > 1 else f"one {one}"
    judged = "" if results.headline in UNFITTED else f"; the result is the {label(results, results.headline)}"
    yield Text(f"{over} [95 % interval: bootstrap over test prompts]{judged}", style="dim")


def interval_lines(results: Results) -> Iterator[Text]:
    """For each target, how wide the conformal interval of a prediction is, and how many test rows it covers."""
    if results.headline in UNFITTED:
        return
    for target, interval in results.intervals.items():
        width, covered = np.mean(interval.half_width), np.mean(interval.coverage)
        promise = f"{target}: a score lies within ± {width:.3g} of its prediction, promised for {interval.level:.0%}"
        if np.isinf(width):
            promise = f"{target}: {min(interval.prompts)} prompts are too few for an interval that holds {interval.level:.0%}"
        yield Text(
            f"{promise}, {covered:.1%} of the test rows do" if np.isfinite(width) else promise, style="dim"
        )
    if without := [target for target in results.summaries if target not in results.intervals]:
        yield Text(
            f"no interval for {', '.join(without)}: this training keeps no validation rows", style="dim"
        )


def leakage(results: Results) -> Text:
    """How many test prompts, pictures and siblings were seen in training."""
    if results.headline == ZERO_SHOT:
        return Text("nothing was fitted to these scores", style="green")
    if results.headline == ELSEWHERE:
        return Text(
            "the heads were fitted in another run: what they saw of these rows there is not counted here",
            style="dim",
        )
    repeats = len(results.test_rows)
    prompts, pictures, siblings = (sum(getattr(results, name)) / repeats for name in SEEN)
    rows = f"{sum(results.test_rows) / repeats:.4g}"
    line = (
        f"seen in training, mean of {repeats} repeats: {prompts:.4g} of {sum(results.test_prompts) / repeats:.4g} test prompts, the very "
        f"picture of {pictures:.4g} of {rows} test rows, siblings (same prompt and generator) of {siblings:.4g}"
    )
    return (
        Text(f"{line}: this split leaks, compare with the floors", style="yellow")
        if results.leaks
        else Text(line, style="green")
    )


def shown_baselines(results: Results) -> tuple[str, ...]:
    """Floors that say something: where no test prompt is in training, all are the generator's mean."""
    names = tuple(BASELINES) if any(results.seen_prompts) else tuple(BASELINES)[:1]
    return tuple(name for name in names if all(name in summaries for summaries in results.summaries.values()))


def label(results: Results, name: str) -> str:
    """What a reader calls a selection or a floor."""
    return LABELS[name] if name in (*BASELINES, *UNFITTED) or has_epochs(results.estimator) else "fit"


def selections(results: Results) -> tuple[str, ...]:
    """The selections that say something of a run."""
    # Without a validation part there is no best validation epoch, and the result is the last one; without epochs there is one fit.
    if not has_epochs(results.estimator):
        return (results.headline,)
    return tuple(name for name in SELECTIONS if name != "best_validation" or results.headline == name)


def metric_cell(
    mean: float, sd: float = float("nan"), low: float = float("nan"), high: float = float("nan")
) -> str:
    """A figure with its spread and interval, as far as these exist."""
    if mean != mean:
        return "NaN"
    spread = f" ± {sd:.3f}" if sd == sd else ""
    interval = f" [{low:.3f}, {high:.3f}]" if low == low else ""
    return f"{mean:.3f}{spread}{interval}"


def _cell(summary: Summary, with_interval: bool) -> str:
    return metric_cell(summary.mean, summary.sd, *(summary.interval if with_interval else ()))
