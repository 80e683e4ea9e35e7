"""Predictions against scores, with the fitted logistic curve."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.reporting.choices import PlotWidth
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.labels import LABELS
from tier4k.heads.reporting.logistic_curve import logistic_curve
from tier4k.heads.reporting.plots.caption import differing_labels, leak_sentences
from tier4k.heads.reporting.plots.style import (
    COLOURS,
    INK,
    WIDTHS,
    Drawing,
    make_panels,
    paper_number,
    wrapped,
)
from tier4k.heads.reporting.report_run import ReportRun

COLUMNS: dict[PlotWidth, int] = {"single": 2, "double": 4}

SHOWN = ("srcc", "plcc")

MANY_POINTS = 400  # more points are drawn smaller


def draw_scatter(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    width: PlotWidth,
    repeat: int | None = None,
) -> Drawing:
    """Draw one panel for each run and target: the test rows of one repeat.

    Args:
        runs: The runs.
        targets: Targets to draw.
        width: Width of the figure.
        repeat: The repeat, from 0; None for the one whose SRCC is nearest to the mean over the repeats.

    Raises:
        ReportError: A run has no such repeat.
    """
    places = []
    for run, label in zip(runs, differing_labels(runs), strict=True):
        own_label = label if len(runs) > 1 else ""
        places += [(run, own_label, target) for target in targets if target in run.results.summaries]
    columns = COLUMNS[width]
    panel_width = WIDTHS[width] / min(columns, len(places))
    figure, panels = make_panels(width, len(places), columns, min(2.4, panel_width))
    caption = [
        "Points are the test images of one repeat, the curve is the 4-parameter logistic fitted to them, and "
        "the correlations are those of these points (PLCC without the curve)."
    ]
    for axes, (run, label, target) in zip(panels, places, strict=True):
        summaries = run.results.summaries[target][run.results.headline]
        shown = _repeat(run, target, summaries["srcc"], repeat)
        _draw_panel(axes, _rows(run, target, shown), summaries, shown)
        axes.set_xlabel(wrapped(f"Prediction: {label}" if label else "Prediction", width))
        axes.set_ylabel(wrapped(target, width))
        caption.append(_described(f"{label}, {target}" if label else target, summaries["srcc"], shown))
    return Drawing(figure, (*caption, *leak_sentences(runs)))


def _repeat(
    run: ReportRun,
    target: str,
    srcc: Summary,
    repeat: int | None,
) -> int:
    """Return the repeat to show."""
    values = np.array(srcc.values)
    if repeat is None:
        distance = np.abs(values - srcc.mean)
        return 0 if np.isnan(distance).all() else int(np.nanargmin(distance))
    if not 0 <= repeat < len(values):
        raise ReportError(
            f"{run.folder(target)} has no repeat {repeat}: pass --repeat with a number from 0 to "
            f"{len(values) - 1}"
        )
    return repeat


def _rows(
    run: ReportRun,
    target: str,
    repeat: int,
) -> pd.DataFrame:
    """Return the test rows of a target and repeat that have a prediction."""
    rows = run.predictions
    rows = rows[(rows["target"] == target) & (rows["repeat"] == repeat)]
    return rows[np.isfinite(rows["prediction"]) & np.isfinite(rows["truth"])]


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    summaries: dict[str, Summary],
    repeat: int,
) -> None:
    truth = rows["truth"].to_numpy(float)
    prediction = rows["prediction"].to_numpy(float)
    size = 5.0 if len(rows) <= MANY_POINTS else 2.5
    axes.scatter(prediction, truth, s=size, color=COLOURS[0], alpha=0.45, linewidths=0)
    curve = logistic_curve(truth, prediction)
    axes.plot(curve.prediction, curve.score, color=COLOURS[5], linewidth=1.4)
    values = []
    for metric in SHOWN:
        value = summaries[metric].values[repeat]  # noqa: PD011
        values.append(f"{LABELS[metric]} {paper_number(value)}")
    axes.annotate(
        "  ".join(values),
        (1, 1),
        xytext=(0, 2),
        xycoords="axes fraction",
        textcoords="offset points",
        horizontalalignment="right",
        color=INK,
    )


def _described(
    subject: str,
    srcc: Summary,
    repeat: int,
) -> str:
    """Return the repeat of a panel and the run's result over all repeats."""
    repeats = len(srcc.values)
    low, high = srcc.bounds
    interval = "" if np.isnan(low) else f" [{paper_number(low)}, {paper_number(high)}]"
    mean = paper_number(srcc.mean)
    which = f"repeat {repeat} (repeats are {_numbers(repeats)})" if repeats > 1 else "the one repeat"
    return f"{subject}: {which}; mean SRCC of all repeats {mean}{interval}."


def _numbers(repeats: int) -> str:
    """Return the numbers of two repeats or more, such as "0 and 1"."""
    return "0 and 1" if repeats == 2 else f"0 to {repeats - 1}"
