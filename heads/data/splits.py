"""Who is in training, validation and test, and what of the test rows was seen in training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit

from tier4k.cache.errors import TierError
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.features import Rows

TEST_SHARE = 0.2

VALIDATION_SHARE = 0.15

MIN_UNITS = 5

MIN_GENERATORS = 3

PUBLISHED_PARTS = 4

PARTS = ("train", "validation", "test")


class SplitError(TierError):
    """A split that these rows do not allow."""


@dataclass(frozen=True)
class Split:
    """Row numbers of one repeat.

    Attributes:
        train: Rows that the head is fitted on.
        validation: Rows cut out of training by the same rule, for early stopping and selection; may be empty.
        test: Rows that are only predicted.
        seed: Seed of this repeat's head, and of the split where the rule draws one for each repeat.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    seed: int

    def seen(self, identity: np.ndarray) -> np.ndarray:
        """Which test rows (M,) have an identity, such as a prompt, that stands in training or validation too.

        Args:
            identity: Of every row (N,).
        """
        known = {*identity[self.train], *identity[self.validation]}
        return np.array([one in known for one in identity[self.test]])


def siblings(rows: Rows) -> np.ndarray:
    """Identity (N,) of each row's siblings: pictures of one prompt by one generator share it."""
    return np.array(
        [f"{group}\0{generator}" for group, generator in zip(rows.group, rows.generator, strict=True)],
        dtype=object,
    )


def with_seeds(splits: Sequence[Split], seeds: int) -> list[Split]:
    """Each split once for each of several seeds of the head, side by side."""
    return [
        replace(split, seed=split.seed + number * len(splits)) for split in splits for number in range(seeds)
    ]


def default_repeats(rule: SplitRule, generators: int) -> int:
    """Ten repeats, or one for each generator that can be left out."""
    return generators if rule == "generator" else 10


def make_splits(
    rows: Rows,
    rule: SplitRule,
    repeats: int,
    seed: int,
    validation: float = VALIDATION_SHARE,
    folds: bool = False,
) -> list[Split]:
    """The splits of all repeats.

    Args:
        rows: The rows.
        rule: "prompt" keeps every prompt group on one side (80/20); "random" draws rows (80/20); "generator" leaves one generator
            out, in repeat r the r-th in the order of their names; "published" tests on every row whose position i in its
            benchmark has i % 4 == 3, in each repeat the same.
        repeats: Number of repeats; repeat r has the seed `seed + r`.
        seed: First seed.
        validation: Share of the training part's prompts or rows that is cut out of it by the same rule as its validation part; above 0
            the generator split leaves out one generator, whatever the share. With 0 there is no validation part.
        folds: The repeats are K folds: each prompt group, row or generator is tested in one of them and in no other. The published
            rule, taken to K parts, tests on i % K == K - 1 - r; with K = 4, fold 0 is the published split.

    Raises:
        SplitError: Too few rows, prompts or generators.
    """
    if rule not in get_args(SplitRule):
        raise SplitError(f"there is no split {rule!r}: choose {', '.join(get_args(SplitRule))}")
    _require_enough(rows, rule, repeats if folds else 0)
    generators = len(np.unique(rows.generator))
    if rule == "generator" and repeats > generators:
        raise SplitError(
            f"{repeats} repeats of a generator split with {generators} generators would leave some out twice: give --repeats {generators}"
        )
    parts = (
        _folds(rows, rule, repeats, seed)
        if folds
        else [_test_part(rows, rule, number, seed + number) for number in range(repeats)]
    )
    return [_split(rows, rule, test, seed + number, validation) for number, test in enumerate(parts)]


def _require_enough(rows: Rows, rule: SplitRule, folds: int) -> None:
    units, what, needed = len(rows), "rows", MIN_UNITS
    if rule == "prompt":
        units, what = len(np.unique(rows.group)), "distinct prompts"
    elif rule == "generator":
        units, what, needed = len(np.unique(rows.generator)), "generators", MIN_GENERATORS
    if units < needed:
        raise SplitError(
            f"{units} {what} are too few for a {rule} split with training, validation and test: {needed} are needed"
        )
    if folds and not 2 <= folds <= units:
        raise SplitError(f"{folds} folds of {units} {what}: give --folds 2 … {units}")


def _test_part(rows: Rows, rule: SplitRule, number: int, seed: int) -> np.ndarray:
    if rule == "published":
        return np.flatnonzero(rows.position % PUBLISHED_PARTS == PUBLISHED_PARTS - 1)
    if rule == "generator":
        return _leave_out(np.arange(len(rows)), rows.generator, number)[1]
    return _cut(np.arange(len(rows)), rows, rule, TEST_SHARE, seed)[1]


def _folds(rows: Rows, rule: SplitRule, count: int, seed: int) -> list[np.ndarray]:
    if rule == "published":
        return [np.flatnonzero(rows.position % count == count - 1 - number) for number in range(count)]
    everything, unit = np.arange(len(rows)), {"prompt": rows.group, "generator": rows.generator}.get(rule)
    folds = (KFold if unit is None else GroupKFold)(count, shuffle=True, random_state=seed)
    return [test for _, test in folds.split(everything, groups=unit)]


def _split(rows: Rows, rule: SplitRule, test: np.ndarray, seed: int, share: float) -> Split:
    training = np.setdiff1d(np.arange(len(rows)), test)
    validation = training[:0]
    if share and rule == "generator":
        training, validation = _leave_out(training, rows.generator, seed)
    elif share:
        training, validation = _cut(training, rows, rule, share, seed)
    tested = f" ({rows.generator[test[0]]})" if rule == "generator" else ""
    return _with_enough(
        Split(np.sort(training), np.sort(validation), np.sort(test), seed),
        f"the {rule} split of {len(rows)} rows",
        tested,
    )


def _with_enough(split: Split, where: str, tested: str = "") -> Split:
    if len(split.train) < 2 or len(split.test) < 2:
        raise SplitError(
            f"{where} leaves {len(split.train)} to train and {len(split.test)} to test{tested}: 2 are needed of each"
        )
    return split


def _leave_out(numbers: np.ndarray, generator: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    names = np.unique(generator[numbers])
    left_out = generator[numbers] == names[number % len(names)]
    return numbers[~left_out], numbers[left_out]


def _cut(
    numbers: np.ndarray, rows: Rows, rule: SplitRule, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    splitter = GroupShuffleSplit if rule == "prompt" else ShuffleSplit
    groups = rows.group[numbers] if rule == "prompt" else None
    try:
        first, second = next(
            iter(splitter(1, test_size=share, random_state=seed).split(numbers, groups=groups))
        )
    except ValueError as error:
        what = "prompts" if rule == "prompt" else "rows"
        raise SplitError(
            f"nothing is left to train on when {share:g} of the {what} are cut out of {len(numbers)} rows"
        ) from error
    return numbers[first], numbers[second]
