"""Names of the metrics for comparing runs, and of the columns for breaking results down.

This module imports nothing, so that the program shows its help at once.
"""

from typing import Literal

ComparedMetric = Literal["srcc", "krcc", "plcc", "rmse"]

Part = Literal["generator", "benchmark", "dataset"]
