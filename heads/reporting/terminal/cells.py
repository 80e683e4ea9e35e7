"""Values and intervals in a cell."""

import numpy as np


def metric_cell(mean: float, sd: float = float("nan")) -> str:
    """Format a value with its standard deviation, which is left out where it is NaN."""
    if np.isnan(mean):
        return "NaN"
    return f"{mean:.3f}" if np.isnan(sd) else f"{mean:.3f} ± {sd:.3f}"


def interval_cell(
    low: float,
    high: float,
    digits: int = 3,
) -> str:
    """Format an interval with some digits after the point; "" where there is none."""
    return "" if np.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"
