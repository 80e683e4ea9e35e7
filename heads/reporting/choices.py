"""Names of compared metrics, of columns for breaking results down, and of kinds and widths of figures.

This module imports nothing, so that the program shows its help at once.
"""

from typing import Literal

ComparedMetric = Literal["srcc", "krcc", "plcc", "rmse"]

Part = Literal["generator", "benchmark", "dataset"]

PlotKind = Literal["scatter", "generators", "ablation"]

PlotWidth = Literal["single", "double"]
