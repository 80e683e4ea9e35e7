"""SRCC and PLCC of predictions within parts of their rows, such as generators."""

from typing import Any

import pandas as pd

from tier4k.heads.metrics.correlation import Metric, plcc, srcc
from tier4k.heads.reporting.choices import Part

# No metric after a logistic: on the few rows of a part, a logistic fits noise.
PART_METRICS: dict[str, Metric] = {"srcc": srcc, "plcc": plcc}

TITLES = ("SRCC", "PLCC")


def within_parts(rows: pd.DataFrame, by: Part) -> pd.DataFrame:
    """Measure predictions within each part of their rows.

    Args:
        rows: Predictions, as `read_predictions` reads them.
        by: Column that contains the part of each row.

    Returns:
        A line for each target and part, in the order of the predictions: `target`, the part under the name of
        `by`, and the columns of `breakdown.breakdown` from `images` on.
    """
    lines = []
    for (target, part), part_rows in rows.groupby(["target", by], sort=False):
        metrics = _metrics_of_repeats(part_rows)
        measured = metrics[metrics["srcc"].notna()]
        line = {
            "target": target,
            by: part,
            "images": part_rows["name"].nunique(),
            "repeats": len(measured),
            **measured.mean().to_dict(),
            **measured.std().add_suffix("_sd").to_dict(),
        }
        lines.append(line)
    return pd.DataFrame(lines)


def _metrics_of_repeats(rows: pd.DataFrame) -> pd.DataFrame:
    """Measure each repeat: one line for each repeat, one column for each of `PART_METRICS`."""
    lines: list[dict[str, Any]] = []
    for _, repeat in rows.groupby("repeat"):
        truth = repeat["truth"].to_numpy()
        prediction = repeat["prediction"].to_numpy()
        line = {}
        for name, metric in PART_METRICS.items():
            line[name] = metric(truth, prediction)
        lines.append(line)
    return pd.DataFrame(lines)
