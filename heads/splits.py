"""Who is in training, validation and test, and what of the test rows was seen in training."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

from cache.errors import TierError
from heads.choices import SplitRule
from heads.features import FeatureSet

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.15
MIN_UNITS = 5


class SplitError(TierError):
    """A split that these rows do not allow."""


@dataclass(frozen=True)
class Split:
    """Row numbers of one repeat.

    Attributes:
        train: Rows that the head is fitted on.
        validation: Rows cut out of training by the same rule, for early stopping and selection; may be empty.
        test: Rows that are only predicted.
        seed: Seed of this repeat, for the split and the head.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    seed: int

    def seen_prompts(self, group: np.ndarray) -> tuple[int, int]:
        """How many of the test rows' prompts stand in training or validation too, and how many there are."""
        test = np.unique(group[self.test])
        seen = np.isin(test, np.concatenate([group[self.train], group[self.validation]]))
        return int(seen.sum()), len(test)


def make_splits(features: FeatureSet, rule: SplitRule, repeats: int, seed: int, with_validation: bool = True) -> list[Split]:
    """The splits of all repeats.

    Args:
        features: The rows.
        rule: "prompt" keeps every prompt group on one side (80/20); "random" draws rows (80/20); "published" tests on every row
            whose position i in its benchmark has i % 4 == 3, in each repeat the same.
        repeats: Number of repeats; repeat r has the seed `seed + r`.
        seed: First seed.
        with_validation: Cut 15 % of the training part out as validation, by prompt for "prompt", else by row.

    Raises:
        SplitError: Too few rows or prompts.
    """
    return [_split(features, rule, seed + number, with_validation) for number in range(repeats)]


def _split(features: FeatureSet, rule: SplitRule, seed: int, with_validation: bool) -> Split:
    rows = np.arange(len(features))
    _require_enough(features, rule)
    if rule == "published":
        is_test = features.position % 4 == 3
        training, test = rows[~is_test], rows[is_test]
    elif rule in get_args(SplitRule):
        training, test = _cut(rows, features.group, rule, TEST_SHARE, seed)
    else:
        raise SplitError(f"there is no split {rule!r}: choose {', '.join(get_args(SplitRule))}")
    validation = rows[:0]
    if with_validation:
        training, validation = _cut(training, features.group, rule, VALIDATION_SHARE, seed)
    split = Split(np.sort(training), np.sort(validation), np.sort(test), seed)
    if len(split.train) < 2 or len(split.test) < 2:
        raise SplitError(f"the {rule} split of {len(features)} rows leaves {len(split.train)} to train and {len(split.test)} to test")
    return split


def _require_enough(features: FeatureSet, rule: SplitRule) -> None:
    units, what = (len(np.unique(features.group)), "distinct prompts") if rule == "prompt" else (len(features), "rows")
    if units < MIN_UNITS:
        raise SplitError(f"{units} {what} are too few for a {rule} split with training, validation and test: {MIN_UNITS} are needed")


def _cut(rows: np.ndarray, group: np.ndarray, rule: SplitRule, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    splitter = GroupShuffleSplit if rule == "prompt" else ShuffleSplit
    groups = group[rows] if rule == "prompt" else None
    first, second = next(iter(splitter(1, test_size=share, random_state=seed).split(rows, groups=groups)))
    return rows[first], rows[second]
