"""For the report: every pair of runs that differ in one setting alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.reporting.comparable import (
    common_and_other_parts,
    common_name,
    comparable_groups,
    group_by_folders,
)
from tier4k.heads.reporting.comparison import SIGNIFICANT
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import join_parts, merged_name
from tier4k.heads.reporting.run_pairs import RunPair, compare_runs, corrected_pairs


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
    pairs: list[RunPair] = []
    reasons: dict[str, None] = {}
    for group in groups:
        for runs, targets in group_by_folders(group):
            compared = compare_runs(runs, targets)
            pairs += compared.pairs
            if compared.why_not:
                reasons[compared.why_not] = None
        tick()
    common, others = common_and_other_parts(factor, groups)
    return FactorComparison(
        factor=factor,
        pairs=tuple(corrected_pairs(pairs).values()),
        common=join_parts(common_name(groups[0]), common),
        settings=tuple(others),
        why_not=tuple(reasons),
    )
