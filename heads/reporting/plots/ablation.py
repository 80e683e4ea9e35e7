"""Bars of runs that differ in one setting alone, with intervals and marks of significance."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from tier4k.heads.reporting.ablation import Ablation, AblationGroup, Member
from tier4k.heads.reporting.choices import PlotWidth
from tier4k.heads.reporting.comparison import SIGNIFICANT
from tier4k.heads.reporting.labels import LABELS
from tier4k.heads.reporting.plots.caption import interval_sentences, leak_sentences
from tier4k.heads.reporting.plots.style import (
    COLOURS,
    GREY,
    HATCHES,
    INK,
    Drawing,
    add_legend,
    height_of,
    make_panels,
    paper_number,
    wrapped,
)

COLUMNS: dict[PlotWidth, int] = {"single": 1, "double": 2}

BAR = 0.17  # inches for one bar

BETWEEN = 0.5  # bars' widths between groups

AXIS = 0.42  # inches for the axis below the bars

MARK = "*"

TEXT_ROOM = 0.2  # share of the axis to the right of the longest interval, for the values


def draw_ablation(
    ablation: Ablation,
    width: PlotWidth,
) -> Drawing:
    """Draw one panel for each target: a bar for each run, with its interval and value.

    A star marks a run that differs from the reference of its group after Holm's correction.

    Args:
        ablation: Groups of runs.
        width: Width of the figure.
    """
    targets = ablation.targets
    groups = {}
    for target in targets:
        groups[target] = [group for group in ablation.groups if group.target == target]
    height = AXIS + max(_height(own, width) for own in groups.values())
    figure, panels = make_panels(width, len(targets), COLUMNS[width], height)
    limits = _limits(ablation)
    values = ablation.values
    handles: dict[str, Artist] = {}
    for axes, target in zip(panels, targets, strict=True):
        handles |= _draw_panel(axes, groups[target], values, width)
        _finish_panel(axes, limits)
        axes.set_xlabel(f"{LABELS[ablation.metric]}, {target}")
    if any(len(own) > 1 for own in groups.values()):
        add_legend(figure, [handles[value] for value in values], values, width)
    return Drawing(figure, tuple(_caption(ablation)))


def _height(groups: Sequence[AblationGroup], width: PlotWidth) -> float:
    """Return the height of the bars of one panel in inches."""
    bars = sum(len(group.members) for group in groups) + BETWEEN * len(groups)
    if len(groups) > 1:
        return BAR * bars
    labels = [wrapped(member.value, width) for member in groups[0].members]
    return max(BAR, height_of(labels)) * bars


def _limits(ablation: Ablation) -> tuple[float, float]:
    """Return the ends of all bars and intervals, and zero."""
    low = high = 0.0
    for group in ablation.groups:
        for member in group.members:
            for end in (member.summary.mean, *member.summary.bounds):
                if np.isfinite(end):
                    low = min(low, end)
                    high = max(high, end)
    return low, high


def _draw_panel(
    axes: Axes,
    groups: Sequence[AblationGroup],
    values: Sequence[str],
    width: PlotWidth,
) -> dict[str, Artist]:
    """Draw the groups of one target below each other; return one handle for the legend for each value."""
    is_only_group = len(groups) == 1
    handles: dict[str, Artist] = {}
    ticks: list[float] = []
    labels: list[str] = []
    place = 0.0
    for group in groups:
        first = place
        for member in group.members:
            number = values.index(member.value)
            handles[member.value] = _draw_bar(axes, member, place, number)
            if is_only_group:
                ticks.append(place)
                labels.append(wrapped(member.value, width))
            place += 1
        if not is_only_group:
            ticks.append((first + place - 1) / 2)
            labels.append(wrapped(group.label, width))
        place += BETWEEN
    axes.set_yticks(ticks, labels)
    axes.set_ylim(place - BETWEEN - 0.4, -0.6)  # the first bar on top
    return handles


def _draw_bar(
    axes: Axes,
    member: Member,
    place: float,
    number: int,
) -> Artist:
    mean = member.summary.mean
    low, high = member.summary.bounds
    bar = axes.barh(
        place,
        mean,
        height=0.8,
        color=COLOURS[number % len(COLOURS)],
        hatch=HATCHES[number % len(HATCHES)],
        edgecolor="white",
        linewidth=0,
    )
    end = max(filter(np.isfinite, (0.0, mean, high)))
    if np.isfinite(low):
        axes.hlines(place, low, high, color=INK, linewidth=0.8)
        axes.vlines([low, high], place - 0.15, place + 0.15, color=INK, linewidth=0.8)
    mark = MARK if member.is_significant else ""
    axes.annotate(
        f"{paper_number(mean)}{mark}",
        (end, place),
        xytext=(3, -0.4),
        textcoords="offset points",
        verticalalignment="center",
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # no line of the grid runs through it
    )
    return bar.patches[0]


def _finish_panel(axes: Axes, limits: tuple[float, float]) -> None:
    low, high = limits
    room = TEXT_ROOM * (high - low)
    axes.set_xlim(low - (0.02 * (high - low) if low < 0 else 0), high + room)
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.grid(axis="x", color=GREY, linewidth=0.3)
    axes.set_axisbelow(True)


def _caption(ablation: Ablation) -> list[str]:
    """Return the sentences of the caption."""
    runs = {member.run.letter: member.run for group in ablation.groups for member in group.members}
    of_runs = list(runs.values())
    sentences = ["Bars are means over the repeats."]
    sentences += interval_sentences(of_runs, ablation.targets, ablation.metric)
    if ablation.differences:
        sentences.append(_test_sentence(ablation))
    reasons = dict.fromkeys(group.why_not for group in ablation.groups if group.why_not)
    sentences += [f"No paired differences: {reason}." for reason in reasons]
    if ablation.common:
        sentences.append(f"The runs drawn: {ablation.common}.")
    return sentences + leak_sentences(of_runs)


def _test_sentence(ablation: Ablation) -> str:
    """Return what a star means, or that no run has one."""
    is_marked = any(member.is_significant for group in ablation.groups for member in group.members)
    references = " or ".join(dict.fromkeys(group.reference for group in ablation.groups if group.reference))
    claim = f"{MARK}: the run differs" if is_marked else "No run differs significantly"
    number = "1 difference" if ablation.differences == 1 else f"{ablation.differences} differences"
    return (
        f"{claim} from {references}, the first bar of its group (paired test of `tier compare`, "
        f"p < {SIGNIFICANT} after Holm's correction for {number})."
    )
