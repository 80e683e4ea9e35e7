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
MIN_GENERATORS = 3


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


def default_repeats(rule: SplitRule, generators: int) -> int:
    """Ten repeats, or one for each generator that can be left out."""
    return generators if rule == "generator" else 10


def make_splits(features: FeatureSet, rule: SplitRule, repeats: int, seed: int, with_validation: bool = True) -> list[Split]:
    """The splits of all repeats.

    Args:
        features: The rows.
        rule: "prompt" keeps every prompt group on one side (80/20); "random" draws rows (80/20); "generator" leaves one generator
            out, in repeat r the r-th in the order of their names; "published" tests on every row whose position i in its
            benchmark has i % 4 == 3, in each repeat the same.
        repeats: Number of repeats; repeat r has the seed `seed + r`.
        seed: First seed.
        with_validation: Cut validation rows out of the training part by the same rule: 15 % of the prompts or rows, or one generator.

    Raises:
        SplitError: Too few rows, prompts or generators.
    """
    if rule not in get_args(SplitRule):
        raise SplitError(f"there is no split {rule!r}: choose {', '.join(get_args(SplitRule))}")
    _require_enough(features, rule)
    generators = len(np.unique(features.generator))
    if rule == "generator" and repeats > generators:
        raise SplitError(
            f"{repeats} repeats of a generator split with {generators} generators would leave some out twice: give --repeats {generators}"
        )
    return [_split(features, rule, number, seed + number, with_validation) for number in range(repeats)]


def _require_enough(features: FeatureSet, rule: SplitRule) -> None:
    units, what, needed = len(features), "rows", MIN_UNITS
    if rule == "prompt":
        units, what = len(np.unique(features.group)), "distinct prompts"
    elif rule == "generator":
        units, what, needed = len(np.unique(features.generator)), "generators", MIN_GENERATORS
    if units < needed:
        raise SplitError(f"{units} {what} are too few for a {rule} split with training, validation and test: {needed} are needed")


def _split(features: FeatureSet, rule: SplitRule, number: int, seed: int, with_validation: bool) -> Split:
    rows = np.arange(len(features))
    if rule == "published":
        is_test = features.position % 4 == 3
        training, test = rows[~is_test], rows[is_test]
    elif rule == "generator":
        training, test = _leave_out(rows, features.generator, number)
    else:
        training, test = _cut(rows, features.group, rule, TEST_SHARE, seed)
    validation = rows[:0]
    if with_validation and rule == "generator":
        training, validation = _leave_out(training, features.generator, seed)
    elif with_validation:
        training, validation = _cut(training, features.group, rule, VALIDATION_SHARE, seed)
    split = Split(np.sort(training), np.sort(validation), np.sort(test), seed)
    if len(split.train) < 2 or len(split.test) < 2:
        tested = f" ({features.generator[split.test[0]]})" if rule == "generator" else ""
        raise SplitError(
            f"the {rule} split of {len(features)} rows leaves {len(split.train)} to train and {len(split.test)} to test{tested}: "
            "2 are needed of each"
        )
    return split


def _leave_out(rows: np.ndarray, generator: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    names = np.unique(generator[rows])
    left_out = generator[rows] == names[number % len(names)]
    return rows[~left_out], rows[left_out]


def _cut(rows: np.ndarray, group: np.ndarray, rule: SplitRule, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    splitter = GroupShuffleSplit if rule == "prompt" else ShuffleSplit
    groups = group[rows] if rule == "prompt" else None
    first, second = next(iter(splitter(1, test_size=share, random_state=seed).split(rows, groups=groups)))
    return rows[first], rows[second]
