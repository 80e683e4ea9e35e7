"""The data of the report's plots, computed here: the page's script only draws."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.reporting.html.detail import (
    CURVE_LABELS,
    target_rows,
    training_curves,
)
from tier4k.heads.reporting.html.runs import TableLine, line_title
from tier4k.heads.reporting.html.thumbnails import ImageKey, Thumbnails
from tier4k.heads.reporting.labels import LABELS, SHOWN_METRICS
from tier4k.heads.reporting.logistic_curve import logistic_curve
from tier4k.heads.reporting.report_run import ReportRun

Values = dict[str, Any]  # as JSON has them

DIGITS = 5  # of a point in a plot; the tables are rounded from the full numbers


def page_data(
    runs: Sequence[ReportRun],
    lines: Sequence[TableLine],
    index: Mapping[ImageKey, int],
    thumbnails: Thumbnails,
) -> Values:
    """Return all values that the page's script shows.

    Args:
        runs: The runs of the report.
        lines: Lines of the ablation table.
        index: A number for every test image.
        thumbnails: The images in the page.
    """
    shared = _SharedLists()
    trials: dict[str, dict[str, list[Values]]] = {}
    curves: dict[str, dict[str, list[Values]]] = {}
    for run in runs:
        trials[run.letter] = {}
        curves[run.letter] = {}
        for target, rows in target_rows(run).items():
            trials[run.letter][target] = _trials(run, target, rows, index, shared)
            curves[run.letter][target] = _curves(run, target)
    return {
        "names": [name for _, name in index],
        "generators": _generators(runs, index),
        "thumbnails": {index[key]: jpeg for key, jpeg in thumbnails.jpeg.items()},
        "imagePrompts": {index[key]: jpeg for key, jpeg in thumbnails.image_prompts.items()},
        "trials": trials,
        "shared": shared.lists,
        "forests": _forests(runs, lines),
        "curves": curves,
        "labels": {metric: LABELS[metric] for metric in SHOWN_METRICS},
    }


def script_json(values: object) -> Markup:
    """Return JSON for a <script>, without `</script>` and `<!--`, whatever names users' files have."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    for character in "&<>":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


class _SharedLists:
    """Stores each distinct list once, as several runs share lists such as the test rows of a split."""

    def __init__(self) -> None:
        self.lists: list[list[float | None]] = []
        self._numbers: dict[tuple[float | None, ...], int] = {}

    def number(self, values: Sequence[float | None]) -> int:
        """Return the number of a list among the stored lists; store it if it is new."""
        key = tuple(values)
        if key not in self._numbers:
            self._numbers[key] = len(self.lists)
            self.lists.append(list(values))
        return self._numbers[key]


def _trials(
    run: ReportRun,
    target: str,
    rows: pd.DataFrame,
    index: Mapping[ImageKey, int],
    shared: _SharedLists,
) -> list[Values]:
    """Return the points, the fitted curve and the metrics of every repeat of one target."""
    summaries = run.results.summaries[target][run.results.headline]
    trials = []
    for key, repeat_rows in rows.groupby("repeat"):
        repeat = int(str(key))
        ordered = repeat_rows.sort_values(["repeat", "name"], kind="stable")
        truth = ordered["truth"].to_numpy(float)
        prediction = ordered["prediction"].to_numpy(float)
        curve = logistic_curve(truth, prediction)
        # A row without a prediction has no place in the plot.
        usable = ordered[np.isfinite(prediction) & np.isfinite(truth)]
        images = [index[run.name.data, name] for name in usable["name"]]
        trial = {
            "repeat": repeat,
            "images": shared.number(images),
            "truth": shared.number(_rounded(usable["truth"])),
            "prediction": _rounded(usable["prediction"]),
            "without": len(ordered) - len(usable),
            "curve": [_rounded(curve.prediction), _rounded(curve.score)],
            "metrics": _metrics_of_repeat(summaries, repeat),
        }
        trials.append(trial)
    return trials


def _metrics_of_repeat(summaries: Mapping[str, Summary], repeat: int) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for metric in SHOWN_METRICS:
        values = summaries[metric].values  # noqa: PD011  (a tuple; ruff takes it for a frame's)
        metrics[metric] = _number(values[repeat]) if repeat < len(values) else None
    return metrics


def _generators(runs: Sequence[ReportRun], index: Mapping[ImageKey, int]) -> list[str]:
    """Return the generator of every image in the index."""
    generators = {}
    for run in runs:
        distinct = run.predictions[["name", "generator"]].drop_duplicates("name")
        for row in distinct.itertuples(index=False):
            generators[run.name.data, row.name] = row.generator
    return [generators[key] for key in index]


def _curves(run: ReportRun, target: str) -> list[Values]:
    """Return the lines of the plot of a target's trainings; none where the head has no epochs."""
    lines = []
    for name, frame in training_curves(run, target).items():
        line = {
            "name": name,
            "label": CURVE_LABELS[name],
            "epochs": frame.index.tolist(),
        }
        for part in frame:
            line[str(part)] = _rounded(frame[part])
        lines.append(line)
    return lines


def _forests(runs: Sequence[ReportRun], lines: Sequence[TableLine]) -> list[Values]:
    """Return the intervals to plot for every data set and target."""
    by_letter = {run.letter: run for run in runs}
    forests: dict[tuple[str, str], Values] = {}
    for line in lines:
        data = line.name.data
        empty = {"data": data, "target": line.target, "lines": []}
        forest = forests.setdefault((data, line.target), empty)
        forest["lines"].append(_forest_line(line, by_letter))
    return list(forests.values())


def _forest_line(line: TableLine, runs: Mapping[str, ReportRun]) -> Values:
    metrics = {}
    for metric in SHOWN_METRICS:
        summary = line.metrics[metric]
        low, high = summary.bounds
        metrics[metric] = [_number(summary.mean), _number(low), _number(high)]
    return {
        "key": line.key,
        "title": f"{line.run}  {line_title(line, runs)}".strip(),
        "baseline": bool(line.baseline),
        "metrics": metrics,
    }


def _rounded(values: Iterable[float]) -> list[float | None]:
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
