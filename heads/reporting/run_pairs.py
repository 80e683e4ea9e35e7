"""Paired differences of runs in such a group, with p-values corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tier4k.heads.metrics.significance import holm
from tier4k.heads.reporting.comparison import Comparison, compare
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.report_run import ReportRun

PairKey = tuple[str, str, str]  # letters of the runs, target


@dataclass(frozen=True)
class RunPair:
    """Two runs that differ in one setting alone, and the difference of a metric on one target."""

    first: ReportRun
    second: ReportRun
    difference: Comparison

    @property
    def key(self) -> PairKey:
        """Equal for one pair that is part of two groups."""
        return self.first.letter, self.second.letter, self.difference.target


@dataclass(frozen=True)
class Compared:
    """The pairs of a group of runs, or the reason why the runs cannot be compared."""

    pairs: tuple[RunPair, ...] = ()
    why_not: str = ""


def compare_runs(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    metric: str = "srcc",
    reference: int | None = None,
) -> Compared:
    """Compare runs in targets of the same folders: every pair, or every run with a reference."""
    folders = [run.folder(targets[0]) for run in runs]
    pairs = []
    try:
        for difference in compare(folders, metric, reference=reference):
            if difference.target in targets:
                pairs.append(RunPair(runs[difference.first], runs[difference.second], difference))
    except ReportError as error:
        return Compared(why_not=" ".join(str(error).split()))
    return Compared(tuple(pairs))


def corrected_pairs(pairs: Sequence[RunPair]) -> dict[PairKey, RunPair]:
    """Return each distinct pair once, with p-values corrected for their number: groups may share a pair."""
    distinct: dict[PairKey, RunPair] = {}
    for pair in pairs:
        distinct.setdefault(pair.key, pair)
    p_values = holm(np.array([pair.difference.p for pair in distinct.values()]))
    for pair, p in zip(list(distinct.values()), p_values, strict=True):
        distinct[pair.key] = replace(pair, difference=replace(pair.difference, p_holm=float(p)))
    return distinct
