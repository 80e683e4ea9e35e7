"""Metrics that runs are compared in, and columns that break their results down.

Imports nothing, so that help shows at once.
"""

from typing import Literal

ComparedMetric = Literal["srcc", "krcc", "plcc", "rmse"]

Part = Literal["generator", "benchmark"]
