"""SRCC within the images of each generator, with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from tier4k.heads.reporting.choices import PlotWidth
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.labels import LABELS
from tier4k.heads.reporting.part_intervals import PartInterval, part_intervals
from tier4k.heads.reporting.plots.caption import differing_labels, interval_sentences, leak_sentences
from tier4k.heads.reporting.plots.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    Drawing,
    add_legend,
    height_of,
    make_panels,
    wrapped,
)
from tier4k.heads.reporting.report_run import ReportRun

OfRuns = Mapping[int, Mapping[str, PartInterval]]  # by place of the run and generator

COLUMNS: dict[PlotWidth, int] = {"single": 1, "double": 2}

LINE = 0.13  # inches for the point of one run

BETWEEN = 0.06  # inches between generators

AXIS = 0.42  # inches for the axis below the points

OF_GENERATORS = "Correlations are within the images of each generator, as a mean over the repeats."


def draw_generators(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    width: PlotWidth,
    metric: str = "srcc",
) -> Drawing:
    """Draw one panel for each target: a line for each generator, a point with its interval for each run.

    Args:
        runs: Runs with the same test rows.
        targets: Targets to draw.
        width: Width of the figure.
        metric: Name of a correlation.

    Raises:
        ReportError: The runs have other test rows than each other.
    """
    require_same_test_rows(runs)
    measured = {target: _measure(runs, target, metric) for target in targets}
    generators = _ordered(list(measured.values()))
    line = max(LINE * len(runs) + BETWEEN, height_of([wrapped(name, width) for name in generators]))
    height = AXIS + len(generators) * line
    figure, panels = make_panels(width, len(targets), COLUMNS[width], height)
    handles: dict[int, Artist] = {}
    for axes, target in zip(panels, targets, strict=True):
        handles |= _draw_panel(axes, measured[target], generators, len(runs))
        _finish_panel(axes, generators, _lowest(list(measured.values())), width)
        axes.set_xlabel(f"{LABELS[metric]}, {target}")
    if len(runs) > 1:
        labels = differing_labels(runs)
        drawn = sorted(handles)
        add_legend(figure, [handles[place] for place in drawn], [labels[place] for place in drawn], width)
    sentences = [*interval_sentences(runs, targets, metric), *leak_sentences(runs)]
    return Drawing(figure, (OF_GENERATORS, *sentences))


def _measure(
    runs: Sequence[ReportRun],
    target: str,
    metric: str,
) -> OfRuns:
    measured = {}
    for place, run in enumerate(runs):
        if target in run.results.summaries:
            parts = part_intervals(run, target, "generator", metric)
            measured[place] = {part.part: part for part in parts}
    return measured


def require_same_test_rows(runs: Sequence[ReportRun]) -> None:
    """Refuse runs whose metrics are of other test rows.

    Raises:
        ReportError: The data, the benchmark, the split, the seeds or the repeats differ.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.settings.test_rows != first.settings.test_rows:
            raise ReportError(
                f"{first.folders[0].path} and {run.folders[0].path} were not tested on the same rows "
                f"({_protocol(first)}; {_protocol(run)}): pass runs with equal data, --benchmark, --split, "
                "--seed, --repeats and --seeds"
            )


def _protocol(run: ReportRun) -> str:
    return f"{run.name.data}, {run.name.benchmark}, {run.name.split}"


def _ordered(targets: Sequence[OfRuns]) -> list[str]:
    """Return the generators, the one with the highest mean over targets and runs first; NaN last."""
    means: dict[str, list[float]] = {}
    for of_runs in targets:
        for parts in of_runs.values():
            for name, part in parts.items():
                means.setdefault(name, []).append(part.mean)

    def place(name: str) -> tuple[float, str]:
        """Sort by falling mean, equal means by name."""
        mean = float(np.mean(means[name]))
        return (-mean if np.isfinite(mean) else np.inf), name

    return sorted(means, key=place)


def _lowest(targets: Sequence[OfRuns]) -> float:
    """Return the lowest end of all intervals, means and zero."""
    lowest = 0.0
    for of_runs in targets:
        for parts in of_runs.values():
            for part in parts.values():
                lowest = min([lowest, *filter(np.isfinite, (part.mean, *part.interval))])
    return lowest


def _draw_panel(
    axes: Axes,
    of_runs: OfRuns,
    generators: Sequence[str],
    runs: int,
) -> dict[int, Artist]:
    """Draw the points of one target; return one handle for the legend for each run."""
    handles: dict[int, Artist] = {}
    for place, parts in of_runs.items():
        offset = 0.7 * ((place + 0.5) / runs - 0.5)
        for line, name in enumerate(generators):
            part = parts.get(name)
            if part is not None and np.isfinite(part.mean):
                handles[place] = _draw_point(axes, part, line + offset, place)
    return handles


def _finish_panel(
    axes: Axes,
    generators: Sequence[str],
    lowest: float,
    width: PlotWidth,
) -> None:
    axes.set_yticks(range(len(generators)), [wrapped(name, width) for name in generators])
    axes.set_ylim(len(generators) - 0.4, -0.6)  # the first generator on top
    axes.set_xlim(max(-1.0, lowest - 0.02), 1.01)
    if lowest < 0:
        axes.axvline(0, color=INK, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GREY, linewidth=0.3)
    axes.set_axisbelow(True)


def _draw_point(
    axes: Axes,
    part: PartInterval,
    height: float,
    place: int,
) -> Artist:
    colour = COLOURS[place % len(COLOURS)]
    low, high = part.interval
    if np.isfinite(low):
        axes.hlines(height, low, high, color=colour, linewidth=0.9)
    marker = MARKERS[place % len(MARKERS)]
    return axes.plot(
        part.mean, height, marker, color=colour, markersize=3.2, markeredgewidth=0, clip_on=False
    )[0]
