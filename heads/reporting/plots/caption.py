"""Sentences that the captions of figures have in common, and short names of the runs of a figure."""

from collections.abc import Sequence

from tier4k.heads.evaluation.trial import UNFITTED
from tier4k.heads.reporting.leakage import leak_sentence
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import ORDER, differing_parts, join_parts
from tier4k.heads.reporting.terminal.notes import ESTIMAND, ESTIMAND_UNFITTED


def differing_labels(runs: Sequence[ReportRun]) -> list[str]:
    """Return for each run the settings in which the runs of a figure differ."""
    names = [run.name for run in runs]
    parts = differing_parts(names, ("data", *ORDER))
    return [join_parts(run.name, parts) or run.short_label for run in runs]


def interval_sentences(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    metric: str,
) -> list[str]:
    """Return what the intervals of the runs are, and why some runs have none."""
    labels_of_reason: dict[str, dict[str, None]] = {}
    has_interval = False
    for run, label in zip(runs, differing_labels(runs), strict=True):
        for target in targets:
            if target not in run.results.summaries:
                continue
            reason = run.results.summaries[target][run.results.headline][metric].interval_reason
            has_interval = has_interval or not reason
            if reason:
                labels_of_reason.setdefault(reason, {})[label] = None
    sentences = []
    if has_interval:
        unfitted = all(run.results.headline in UNFITTED for run in runs)
        estimand = f"{ESTIMAND_UNFITTED}." if unfitted else ESTIMAND
        sentences.append(f"Lines are the 95 % interval of {estimand}")
    for reason, labels in labels_of_reason.items():
        sentences.append(f"No interval ({', '.join(labels)}): {reason}.")
    return sentences


def leak_sentences(runs: Sequence[ReportRun]) -> list[str]:
    """Return which runs were tested on rows whose prompts or images are in training."""
    sentences = []
    for run, label in zip(runs, differing_labels(runs), strict=True):
        if sentence := leak_sentence(run.results):
            sentences.append(f"This split leaks ({label}): {sentence}.")
    return sentences
