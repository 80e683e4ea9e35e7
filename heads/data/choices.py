"""Names of fusion methods and split rules, ranges of their numbers. Imports nothing: help shows at once."""

from typing import Literal

Method = Literal["nr", "fr", "pr"]

SplitRule = Literal["prompt", "random", "generator", "published", "dataset"]

# The least and the largest value of the options of splits.
REPEATS = (1, 10_000)
FOLDS = (2, 10_000)
SEEDS = (1, 1_000)
SEED = (0, 2**31 - 1)
