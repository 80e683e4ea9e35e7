"""The names of metrics, selections and baselines for readers, and which of them a run shows."""

import numpy as np

from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.evaluation.trial import (
    SELECTIONS,
    UNFITTED,
)
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.regressors.registry import has_epochs
from tier4k.heads.results.results import Results

SHOWN_METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse")

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


def table_metrics(results: Results) -> list[str]:
    """Return the table's metrics; RMSE after the logistic where no prediction has the unit of its target."""
    for summaries in results.summaries.values():
        if np.isfinite(summaries[results.headline]["rmse"].mean):
            return list(SHOWN_METRICS)
    return ["rmse_logistic" if metric == "rmse" else metric for metric in SHOWN_METRICS]
