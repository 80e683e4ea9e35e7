"""Ablations: groups of runs that differ in one setting alone, and their paired differences.

`factor_comparisons` compares every pair of a group, for the report. `ablation_of` compares every run of a
group with one reference run, for figures and tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.significance import holm
from tier4k.heads.reporting.comparison import Comparison, compare
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.report_runs import ReportRun
from tier4k.heads.reporting.run_names import (
    FACTORS,
    OF_IMAGES,
    OF_TEXT,
    ORDER,
    USUAL,
    RunName,
    differing_parts,
    join_parts,
    merged_name,
)
from tier4k.heads.reporting.terminal import SIGNIFICANT

# Settings that decide the test rows, with their titles: runs that differ in one of them have no pairs.
UNPAIRED = {"data": "data set", "benchmark": "benchmark", "split": "split"}

SETTINGS = {**UNPAIRED, **FACTORS}

NO_VALUE = "none"  # shown for a setting that a run does not have, such as the image encoder of text alone


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


# ---- all pairs


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
        for runs, targets in _group_by_folders(group):
            compared = _compare_runs(runs, targets)
            pairs += compared.pairs
            if compared.why_not:
                reasons[compared.why_not] = None
        tick()
    common, others = _common_and_other_parts(factor, groups)
    return FactorComparison(
        factor=factor,
        pairs=tuple(_corrected(pairs).values()),
        common=join_parts(_name_of(groups[0]), common),
        settings=tuple(others),
        why_not=tuple(reasons),
    )


# ---- against a reference


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


def values_of(runs: Sequence[ReportRun], targets: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the settings in which runs differ alone on a common target, with their values.

    Args:
        runs: Runs as `tier4k.heads.reporting.report_runs.read_runs` returns them.
        targets: Targets that count; empty for all.

    Returns:
        {key of `SETTINGS`: values such as "pooled" in the order of the runs}, in the order of `SETTINGS`.
    """
    letters: dict[str, set[str]] = {}
    for setting, group in comparable_groups(runs, tuple(SETTINGS)):
        for some, _ in _with_targets(group, targets):
            letters.setdefault(setting, set()).update(run.letter for run in some)
    values = {}
    for setting, of_setting in letters.items():
        in_order = [_value(run, setting) for run in runs if run.letter in of_setting]
        values[setting] = list(dict.fromkeys(in_order))
    return values


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
        runs: Runs as `tier4k.heads.reporting.report_runs.read_runs` returns them.
        setting: One of the keys that `values_of` returns.
        targets: Targets to keep; empty for all.
        metric: Name of a metric in `tier4k.heads.reporting.comparison.COMPARED`.
        reference: Value of the setting, such as "pooled", that the other values are compared with; None for
            the usual value of the setting, or else for the first value in the order of the runs. Groups
            without the usual value are compared with their first run.
    """
    groups = [group for key, group in comparable_groups(runs, (setting,)) if key == setting]
    common, others = _common_and_other_parts(setting, groups)
    values = values_of(runs)[setting]
    usual = USUAL.get(setting)
    preferred = [reference] if reference else [value for value in (usual, *values) if value in values]
    parts = []
    pairs: list[RunPair] = []
    for group in groups:
        label = join_parts(_name_of(group), others)
        for some, group_targets in _with_targets(group, targets):
            place = _reference(some, setting, preferred)
            compared = _compare_with(some, group_targets, setting, metric, place)
            parts.append(_ComparedRuns(some, group_targets, label, place, compared))
            pairs += compared.pairs
    corrected = _corrected(pairs)
    found: list[AblationGroup] = []
    order = list(dict.fromkeys([*preferred, *values]))
    for part in parts:
        found += part.groups(setting, metric, corrected, order)
    return Ablation(setting, metric, join_parts(_name_of(groups[0]), common), tuple(found))


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
class _Compared:
    """The pairs of a group of runs, or the reason why the runs cannot be compared."""

    pairs: tuple[RunPair, ...] = ()
    why_not: str = ""


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
    compared: _Compared

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
                value=_value(run, setting),
                summary=run.results.summaries[target][run.results.headline][metric],
                difference=pair.difference if pair else None,
            )
            members.append(member)
        return AblationGroup(
            target=target,
            label=self.label,
            members=tuple(members),
            reference=_value(reference, setting) if reference else "",
            why_not=self.compared.why_not,
        )


def _reference(
    runs: Sequence[ReportRun],
    setting: str,
    preferred: Sequence[str],
) -> int | None:
    """Return the place of the run whose value of the setting comes first in `preferred`; None without one."""
    values = [_value(run, setting) for run in runs]
    for value in preferred:
        if value in values:
            return values.index(value)
    return None


def _with_targets(
    group: Sequence[ReportRun], targets: Sequence[str]
) -> list[tuple[list[ReportRun], list[str]]]:
    """Group runs as `_group_by_folders`, with the given targets alone; empty means all."""
    found = []
    for runs, own_targets in _group_by_folders(group):
        kept = [target for target in own_targets if not targets or target in targets]
        if kept:
            found.append((runs, kept))
    return found


def _compare_with(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    setting: str,
    metric: str,
    reference: int | None,
) -> _Compared:
    if setting in UNPAIRED:
        return _Compared(why_not=f"runs with another {UNPAIRED[setting]} have other test rows")
    if reference is None:
        return _Compared(why_not="no run has the value of the reference")
    return _compare_runs(runs, targets, metric, reference)


def _value(run: ReportRun, setting: str) -> str:
    return getattr(run.name, setting) or NO_VALUE


# ---- groups and their comparison


def comparable_groups(
    runs: Sequence[ReportRun], settings: Sequence[str] = tuple(FACTORS)
) -> list[tuple[str, list[ReportRun]]]:
    """Return the groups of runs that differ in one setting alone, as [(setting, runs)].

    Streams without images, or without text, have no settings of them: such runs differ in nothing but their
    streams from the runs of every image encoder, or of every text encoder.

    Args:
        runs: The runs.
        settings: Keys of `SETTINGS`.
    """
    comparable = []
    for setting in settings:
        others = [other for other in SETTINGS if other != setting]
        groups: dict[tuple[str, ...], dict[str, ReportRun]] = {}
        for run in runs:
            for name in _completions(run.name, runs) if setting == "streams" else [run.name]:
                other_values = tuple(getattr(name, other) for other in others)
                group = groups.setdefault(other_values, {})
                group.setdefault(getattr(name, setting), run)
        for group in groups.values():
            different = list(group.values())
            if len(different) > 1:
                comparable.append((setting, different))
    return comparable


def _completions(name: RunName, runs: Sequence[ReportRun]) -> list[RunName]:
    """Return a name with the settings of images and of text that it lacks, once for those of each run."""
    names = [name]
    for parts in (OF_IMAGES, OF_TEXT):
        if getattr(name, parts[0]):
            continue
        settings = {tuple(getattr(run.name, part) for part in parts): None for run in runs}
        known = [values for values in settings if values[0]]
        completed = []
        for values in known:
            settings_of_run = dict(zip(parts, values, strict=True))
            completed += [replace(one, **settings_of_run) for one in names]
        names = completed or names
    return names


def _compare_runs(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    metric: str = "srcc",
    reference: int | None = None,
) -> _Compared:
    """Compare runs in targets of the same folders: every pair, or every run with a reference."""
    folders = [run.folder(targets[0]) for run in runs]
    pairs = []
    try:
        for difference in compare(folders, metric, reference=reference):
            if difference.target in targets:
                pairs.append(RunPair(runs[difference.first], runs[difference.second], difference))
    except ReportError as error:
        return _Compared(why_not=" ".join(str(error).split()))
    return _Compared(tuple(pairs))


def _corrected(pairs: Sequence[RunPair]) -> dict[PairKey, RunPair]:
    """Return each distinct pair once, with p-values corrected for their number: groups may share a pair."""
    distinct: dict[PairKey, RunPair] = {}
    for pair in pairs:
        distinct.setdefault(pair.key, pair)
    p_values = holm(np.array([pair.difference.p for pair in distinct.values()]))
    for pair, p in zip(list(distinct.values()), p_values, strict=True):
        distinct[pair.key] = replace(pair, difference=replace(pair.difference, p_holm=float(p)))
    return distinct


def _common_and_other_parts(
    setting: str, groups: Sequence[Sequence[ReportRun]]
) -> tuple[list[str], list[str]]:
    """Return the parts of a run's name that are alike in all groups, and those in which groups differ."""
    names = [_name_of(group) for group in groups]
    common: list[str] = []
    others: list[str] = []
    for part in ("data", *ORDER):
        if part != setting:
            (others if differing_parts(names, [part]) else common).append(part)
    return common, others


def _name_of(group: Sequence[ReportRun]) -> RunName:
    return merged_name([run.name for run in group])


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
