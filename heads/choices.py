"""The words that options take. Imports nothing, so that the command line can show its help at once."""

from typing import Literal

Method = Literal["nr", "fr", "pr"]
SplitRule = Literal["prompt", "random", "generator", "published"]
RecipeName = Literal["cached", "published"]
KeptModels = Literal["all", "first", "none"]
ComparedMetric = Literal["srcc", "krcc", "plcc", "rmse"]
HeadName = Literal["mlp", "gated", "bilinear", "ridge", "kernel-ridge", "svr", "ensemble"]
FinetunedPart = Literal["none", "image", "text", "all"]  # beside "last:N"
Device = Literal["auto", "cpu"]
SweepName = Literal["paper"]
Part = Literal["generator", "benchmark"]
