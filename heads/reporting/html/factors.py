"""Runs of a report that differ in one factor alone, compared in pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tier4k.heads.metrics.significance import holm
from tier4k.heads.reporting.comparison import Comparison, compare
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.html.runs import ReportRun, comparable_groups
from tier4k.heads.reporting.run_names import ORDER, differing_parts, join_parts, merged_name
from tier4k.heads.reporting.terminal import SIGNIFICANT


@dataclass(frozen=True)
class RunPair:
    """Two runs that differ in one factor alone, and the difference of their SRCC on one target."""

    first: ReportRun
    second: ReportRun
    difference: Comparison


@dataclass(frozen=True)
class FactorComparison:
    """All comparisons of runs that differ in one factor alone.

    Attributes:
        factor: Key of the factor in `FACTORS`.
        pairs: Paired differences, with p-values corrected for the number of pairs.
        common: The settings that all runs have in common, for a reader.
        settings: Parts of a run's name in which one pair differs from another.
        why_not: Reasons why runs that differ in this factor alone were not compared.
    """

    factor: str
    pairs: tuple[RunPair, ...]
    common: str
    settings: tuple[str, ...]
    why_not: tuple[str, ...]

    def setting(self, pair: RunPair) -> str:
        """Return the settings that tell a pair apart from the other pairs."""
        return join_parts(merged_name([pair.first.name, pair.second.name]), self.settings)

    @property
    def significant(self) -> int:
        """Number of significant differences after Holm's correction."""
        p = np.array([pair.difference.p_holm for pair in self.pairs])
        return int((p < SIGNIFICANT).sum())

    @property
    def without_p(self) -> Mapping[str, str]:
        """Pairs without an interval and a p-value, by the reason."""
        pairs_of_reason: dict[str, list[str]] = {}
        for pair in self.pairs:
            reason = pair.difference.interval_reason
            if reason:
                described_pair = f"{pair.difference.target} {pair.first.letter} − {pair.second.letter}"
                pairs_of_reason.setdefault(reason, []).append(described_pair)
        return {reason: ", ".join(pairs) for reason, pairs in pairs_of_reason.items()}

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest end of all intervals and zero."""
        low = high = 0.0
        for pair in self.pairs:
            for end in (*pair.difference.interval, pair.difference.difference):
                if np.isfinite(end):
                    low = min(low, end)
                    high = max(high, end)
        return low, high


def factor_comparisons(
    runs: Sequence[ReportRun], tick: Callable[[], None] = lambda: None
) -> list[FactorComparison]:
    """Compare runs that differ in one factor alone, in pairs on their test rows, for every factor.

    Args:
        runs: The runs of the report.
        tick: Called after each group of `comparable_groups`.
    """
    by_factor: dict[str, list[list[ReportRun]]] = {}
    for factor, group in comparable_groups(runs):
        by_factor.setdefault(factor, []).append(group)
    comparisons = []
    for factor, groups in by_factor.items():
        comparison = _compare_factor(factor, groups, tick)
        comparisons.append(comparison)
    return comparisons


def _compare_factor(
    factor: str,
    groups: Sequence[Sequence[ReportRun]],
    tick: Callable[[], None],
) -> FactorComparison:
    pairs: dict[tuple[str, str, str], RunPair] = {}  # two groups may have a pair in common
    reasons: dict[str, None] = {}
    for group in groups:
        for runs, targets in _group_by_folders(group):
            try:
                for pair in _compare_runs(runs, targets):
                    pairs.setdefault((pair.first.letter, pair.second.letter, pair.difference.target), pair)
            except ReportError as error:
                reasons[" ".join(str(error).split())] = None
        tick()
    names = [merged_name([run.name for run in group]) for group in groups]
    settings: list[str] = []
    common: list[str] = []
    for part in ("data", *ORDER):
        if part == factor:
            continue
        differs = bool(differing_parts(names, [part]))
        (settings if differs else common).append(part)
    return FactorComparison(
        factor=factor,
        pairs=_corrected(list(pairs.values())),
        common=join_parts(names[0], common),
        settings=tuple(settings),
        why_not=tuple(reasons),
    )


def _compare_runs(runs: Sequence[ReportRun], targets: Sequence[str]) -> list[RunPair]:
    folders = [run.folder(targets[0]) for run in runs]
    pairs = []
    for difference in compare(folders):
        if difference.target not in targets:
            continue
        first = runs[difference.first]
        second = runs[difference.second]
        pairs.append(RunPair(first, second, difference))
    return pairs


def _corrected(pairs: Sequence[RunPair]) -> tuple[RunPair, ...]:
    corrected = holm(np.array([pair.difference.p for pair in pairs]))
    corrected_pairs = []
    for pair, p in zip(pairs, corrected, strict=True):
        difference = replace(pair.difference, p_holm=float(p))
        corrected_pairs.append(replace(pair, difference=difference))
    return tuple(corrected_pairs)


def _group_by_folders(group: Sequence[ReportRun]) -> list[tuple[list[ReportRun], list[str]]]:
    """Group runs with a common target by the folders that contain the results of the target."""
    targets: dict[str, list[ReportRun]] = {}
    for run in group:
        for target in run.results.summaries:
            targets.setdefault(target, []).append(run)
    found: dict[tuple[Path, ...], tuple[list[ReportRun], list[str]]] = {}
    for target, runs in targets.items():
        if len(runs) > 1:
            folders = tuple(run.folder(target) for run in runs)
            found.setdefault(folders, (runs, []))[1].append(target)
    return list(found.values())
