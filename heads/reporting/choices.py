"""What can be compared and broken down. Imports nothing, so that help shows at once."""

from typing import Literal

ComparedMetric = Literal["srcc", "krcc", "plcc", "rmse"]

Part = Literal["generator", "benchmark"]
