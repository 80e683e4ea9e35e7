"""Ablations: the runs that differ in one setting alone, each compared with one reference run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.reporting.comparable import (
    SETTINGS,
    UNPAIRED,
    common_and_other_parts,
    common_name,
    comparable_groups,
    value_of,
    values_of,
    with_targets,
)
from tier4k.heads.reporting.comparison import SIGNIFICANT, Comparison
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import USUAL, join_parts
from tier4k.heads.reporting.run_pairs import Compared, PairKey, RunPair, compare_runs, corrected_pairs


@dataclass(frozen=True)
class Member:
    """One run of a group of an ablation, on one target.

    Attributes:
        run: The run.
        value: Its value of the setting.
        summary: The metric of its result.
        difference: The run minus the reference; None for the reference, and where there is no pair.
    """

    run: ReportRun
    value: str
    summary: Summary
    difference: Comparison | None

    @property
    def is_significant(self) -> bool:
        """Whether the run differs from the reference after Holm's correction."""
        return self.difference is not None and self.difference.p_holm < SIGNIFICANT


@dataclass(frozen=True)
class AblationGroup:
    """Runs that differ in one setting alone, on one target.

    Attributes:
        target: Name of the target.
        label: The settings that tell the group apart from the other groups; "" where there is one group.
        members: The runs, those with the preferred reference first, others in the order of the runs.
        reference: Value of the setting that the others are compared with.
        why_not: Why a member has no paired difference; "" if all have one.
    """

    target: str
    label: str
    members: tuple[Member, ...]
    reference: str
    why_not: str


@dataclass(frozen=True)
class Ablation:
    """All groups of runs that differ in one setting alone.

    Attributes:
        setting: Key of the setting in `SETTINGS`.
        metric: Name of the metric.
        common: The settings that all runs have in common, for a reader.
        groups: One group for each target and combination of the other settings. Their p-values are corrected
            for the number of distinct differences of all groups.
    """

    setting: str
    metric: str
    common: str
    groups: tuple[AblationGroup, ...]

    @property
    def title(self) -> str:
        """The setting for a reader."""
        return SETTINGS[self.setting]

    @property
    def targets(self) -> list[str]:
        """The targets, in the order of the runs."""
        return list(dict.fromkeys(group.target for group in self.groups))

    @property
    def values(self) -> list[str]:
        """The values of the setting, the reference first."""
        return list(dict.fromkeys(member.value for group in self.groups for member in group.members))

    @property
    def differences(self) -> int:
        """The number of distinct paired differences that the p-values are corrected for."""
        pairs = set()
        for group in self.groups:
            letters = {member.value: member.run.letter for member in group.members}
            for member in group.members:
                if member.difference is not None and np.isfinite(member.difference.p):
                    pairs.add((member.run.letter, letters[group.reference], group.target))
        return len(pairs)


def ablations(runs: Sequence[ReportRun], settings: Sequence[str] = tuple(SETTINGS)) -> list[Ablation]:
    """Return the ablation of each setting in which runs differ alone, in the order of `settings`."""
    known = values_of(runs)
    return [ablation_of(runs, setting) for setting in settings if setting in known]


def ablation_of(
    runs: Sequence[ReportRun],
    setting: str,
    targets: Sequence[str] = (),
    metric: str = "srcc",
    reference: str | None = None,
) -> Ablation:
    """Compare the runs that differ in one setting alone with a reference in each group.

    Args:
        runs: Runs as `tier4k.heads.reporting.read_runs.read_runs` returns them.
        setting: One of the keys that `values_of` returns.
        targets: Targets to keep; empty for all.
        metric: Name of a metric in `tier4k.heads.reporting.comparison.COMPARED`.
        reference: Value of the setting, such as "pooled", that the other values are compared with; None for
            the usual value of the setting, or else for the first value in the order of the runs. Groups
            without the usual value are compared with their first run.
    """
    groups = [group for key, group in comparable_groups(runs, (setting,)) if key == setting]
    common, others = common_and_other_parts(setting, groups)
    values = values_of(runs)[setting]
    usual = USUAL.get(setting)
    preferred = [reference] if reference else [value for value in (usual, *values) if value in values]
    parts = []
    pairs: list[RunPair] = []
    for group in groups:
        label = join_parts(common_name(group), others)
        for some, group_targets in with_targets(group, targets):
            place = _reference(some, setting, preferred)
            compared = _compare_with(some, group_targets, setting, metric, place)
            parts.append(_ComparedRuns(some, group_targets, label, place, compared))
            pairs += compared.pairs
    corrected = corrected_pairs(pairs)
    found: list[AblationGroup] = []
    order = list(dict.fromkeys([*preferred, *values]))
    for part in parts:
        found += part.groups(setting, metric, corrected, order)
    return Ablation(setting, metric, join_parts(common_name(groups[0]), common), tuple(found))


def ablation_frame(ablation: Ablation) -> pd.DataFrame:
    """Return a table with one line for each member of each group.

    Returns:
        Columns setting, group (the settings that tell it apart), target, metric, value, run (folder), mean,
        low, high (95 % interval of the recipe on new prompts), reference, difference (value minus reference),
        difference_low, difference_high, p, p_holm, and why_not (no difference).
    """
    lines = []
    for group in ablation.groups:
        for member in group.members:
            low, high = member.summary.bounds
            line = {
                "setting": ablation.title,
                "group": group.label,
                "target": group.target,
                "metric": ablation.metric,
                "value": member.value,
                "run": str(member.run.folder(group.target)),
                "mean": member.summary.mean,
                "low": low,
                "high": high,
                "reference": group.reference,
                **_difference_cells(member.difference),
                "why_not": group.why_not,
            }
            lines.append(line)
    return pd.DataFrame(lines)


def _difference_cells(difference: Comparison | None) -> dict[str, float]:
    names = ("difference", "difference_low", "difference_high", "p", "p_holm")
    if difference is None:
        return dict.fromkeys(names, float("nan"))
    values = (difference.difference, *difference.interval, difference.p, difference.p_holm)
    return dict(zip(names, values, strict=True))


@dataclass(frozen=True)
class _ComparedRuns:
    """Runs of one group with common targets, and their comparison with the reference.

    Attributes:
        runs: The runs that have these targets.
        targets: The targets.
        label: The settings that tell the group apart from other groups.
        reference: Place of the reference among the runs; None if no run has its value.
        compared: The pairs, or the reason why there is none.
    """

    runs: Sequence[ReportRun]
    targets: Sequence[str]
    label: str
    reference: int | None
    compared: Compared

    def groups(
        self,
        setting: str,
        metric: str,
        corrected: Mapping[PairKey, RunPair],
        order: Sequence[str],
    ) -> list[AblationGroup]:
        """Return one group for each target.

        Args:
            setting: Key of the setting.
            metric: Name of the metric.
            corrected: Every pair with its corrected p-value.
            order: Values of the setting in the order of the members.
        """
        groups = []
        for target in self.targets:
            group = self._group(setting, metric, target, corrected)
            members = sorted(group.members, key=lambda member: order.index(member.value))
            groups.append(replace(group, members=tuple(members)))
        return groups

    def _group(
        self,
        setting: str,
        metric: str,
        target: str,
        corrected: Mapping[PairKey, RunPair],
    ) -> AblationGroup:
        reference = None if self.reference is None else self.runs[self.reference]
        members = []
        for run in self.runs:
            pair = corrected.get((run.letter, reference.letter, target)) if reference else None
            member = Member(
                run=run,
                value=value_of(run, setting),
                summary=run.results.summaries[target][run.results.headline][metric],
                difference=pair.difference if pair else None,
            )
            members.append(member)
        return AblationGroup(
            target=target,
            label=self.label,
            members=tuple(members),
            reference=value_of(reference, setting) if reference else "",
            why_not=self.compared.why_not,
        )


def _reference(
    runs: Sequence[ReportRun],
    setting: str,
    preferred: Sequence[str],
) -> int | None:
    """Return the place of the run whose value of the setting comes first in `preferred`; None without one."""
    values = [value_of(run, setting) for run in runs]
    for value in preferred:
        if value in values:
            return values.index(value)
    return None


def _compare_with(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    setting: str,
    metric: str,
    reference: int | None,
) -> Compared:
    if setting in UNPAIRED:
        return Compared(why_not=f"runs with another {UNPAIRED[setting]} have other test rows")
    if reference is None:
        return Compared(why_not="no run has the value of the reference")
    return compare_runs(runs, targets, metric, reference)
