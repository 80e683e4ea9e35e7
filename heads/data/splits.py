"""The rule that decides the training, validation and test rows, and which test rows training has seen."""

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
MIN_UNITS = 5  # rows or prompts
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
        seed: Seed of this repeat's head, and of the split where the rule draws one per repeat.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    seed: int

    def seen(self, identity: np.ndarray) -> np.ndarray:
        """Return (M,) bool: the identity of this test row, such as its prompt, also occurs outside the test
        rows.

        Args:
            identity: (N,) of every row.
        """
        known = {*identity[self.train], *identity[self.validation]}
        return np.array([value in known for value in identity[self.test]])


def prompt_and_generator(rows: Rows) -> np.ndarray:
    """Return (N,) identities that images of the same prompt and generator share."""
    pairs = zip(rows.group, rows.generator, strict=True)
    return np.array([f"{group}\0{generator}" for group, generator in pairs], dtype=object)


def with_seeds(splits: Sequence[Split], seeds: int) -> list[Split]:
    """Repeat each split once per seed of the head; copies of one split are neighbours."""
    repeated = []
    for split in splits:
        for number in range(seeds):
            repeated.append(replace(split, seed=split.seed + number * len(splits)))
    return repeated


def default_repeats(rule: SplitRule, generators: int) -> int:
    """Return 10, or with the rule "generator" one repeat per generator."""
    return generators if rule == "generator" else 10


def make_splits(
    rows: Rows,
    rule: SplitRule,
    repeats: int,
    seed: int,
    validation: float = VALIDATION_SHARE,
    folds: bool = False,
) -> list[Split]:
    """Make the splits of all repeats.

    Args:
        rows: The rows.
        rule: "prompt" keeps all rows of a prompt in one part (80/20); "random" draws rows (80/20);
            "generator"
            leaves one generator out, in repeat r the r-th by name; "published" tests row i of the benchmark
            where i % 4 == 3, in every repeat.
        repeats: Number of repeats; repeat r has the seed `seed + r`.
        seed: First seed.
        validation: Share of the training part (prompts or rows) that becomes the validation part, cut by the
            same
            rule. Above 0 the generator rule leaves out one more generator, whatever the share. 0 means no
            validation part.
        folds: The repeats are K folds: each prompt, row or generator is tested in exactly one of them. The
            published rule then tests i % K == K - 1 - r; with K = 4, fold 0 is the published split.

    Raises:
        SplitError: There is no such rule, or there are too few rows, prompts or generators.
    """
    if rule not in get_args(SplitRule):
        raise SplitError(f"there is no split {rule!r}: choose {', '.join(get_args(SplitRule))}")
    _require_enough_units(rows, rule, repeats if folds else 0)
    _require_enough_generators(rows, rule, repeats)
    if folds:
        tests = _folds(rows, rule, repeats, seed)
    else:
        tests = [_test_rows(rows, rule, number, seed + number) for number in range(repeats)]
    return [_split(rows, rule, test, seed + number, validation) for number, test in enumerate(tests)]


def _require_enough_units(
    rows: Rows,
    rule: SplitRule,
    folds: int,
) -> None:
    units = len(rows)
    unit_name = "rows"
    needed = MIN_UNITS
    if rule == "prompt":
        units = len(np.unique(rows.group))
        unit_name = "distinct prompts"
    elif rule == "generator":
        units = len(np.unique(rows.generator))
        unit_name = "generators"
        needed = MIN_GENERATORS
    if units < needed:
        raise SplitError(
            f"{units} {unit_name} are too few for a {rule} split with training, validation and test: "
            f"{needed} are needed"
        )
    if folds and not 2 <= folds <= units:
        raise SplitError(f"{folds} folds of {units} {unit_name}: give --folds 2 … {units}")


def _require_enough_generators(
    rows: Rows,
    rule: SplitRule,
    repeats: int,
) -> None:
    generators = len(np.unique(rows.generator))
    if rule == "generator" and repeats > generators:
        raise SplitError(
            f"{repeats} repeats of a generator split with {generators} generators would leave some out "
            "twice: "
            f"give --repeats {generators}"
        )


def _test_rows(
    rows: Rows,
    rule: SplitRule,
    number: int,
    seed: int,
) -> np.ndarray:
    """Return the test rows of repeat `number`."""
    if rule == "published":
        return np.flatnonzero(rows.position % PUBLISHED_PARTS == PUBLISHED_PARTS - 1)
    everything = np.arange(len(rows))
    if rule == "generator":
        _, test = _without_generator(everything, rows.generator, number)
    else:
        _, test = cut(everything, rows, rule, TEST_SHARE, seed)
    return test


def _folds(
    rows: Rows,
    rule: SplitRule,
    count: int,
    seed: int,
) -> list[np.ndarray]:
    """Return the test rows of K folds."""
    if rule == "published":
        return [np.flatnonzero(rows.position % count == count - 1 - number) for number in range(count)]
    groups = {"prompt": rows.group, "generator": rows.generator}.get(rule)
    splitter = KFold if groups is None else GroupKFold
    folds = splitter(count, shuffle=True, random_state=seed)
    return [test for _, test in folds.split(np.arange(len(rows)), groups=groups)]


def _split(
    rows: Rows,
    rule: SplitRule,
    test: np.ndarray,
    seed: int,
    share: float,
) -> Split:
    training = np.setdiff1d(np.arange(len(rows)), test)
    validation = training[:0]
    if share and rule == "generator":
        training, validation = _without_generator(training, rows.generator, seed)
    elif share:
        training, validation = cut(training, rows, rule, share, seed)
    split = Split(np.sort(training), np.sort(validation), np.sort(test), seed)
    tested = f" ({rows.generator[test[0]]})" if rule == "generator" else ""
    require_enough_rows(split, f"the {rule} split of {len(rows)} rows", tested)
    return split


def require_enough_rows(
    split: Split,
    where: str,
    tested: str = "",
) -> None:
    """Refuse a split with fewer than two training or test rows.

    Args:
        split: The split.
        where: Where it comes from, for the message.
        tested: The test rows in words, for the message.

    Raises:
        SplitError: There are too few rows.
    """
    if len(split.train) < 2 or len(split.test) < 2:
        raise SplitError(
            f"{where} leaves {len(split.train)} to train and {len(split.test)} to test{tested}: 2 are "
            "needed of each"
        )


def _without_generator(
    numbers: np.ndarray,
    generator: np.ndarray,
    number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers without those of the n-th generator by name, and those of it."""
    names = np.unique(generator[numbers])
    left_out = generator[numbers] == names[number % len(names)]
    return numbers[~left_out], numbers[left_out]


def cut(
    numbers: np.ndarray,
    rows: Rows,
    rule: SplitRule,
    share: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a share of some rows out of them: whole prompts with the rule "prompt", else single rows.

    Args:
        numbers: (M,) numbers of the rows.
        rows: All rows.
        rule: How they are cut.
        share: Share of the prompts or rows that is cut out.
        seed: Seed of the draw.

    Returns:
        The numbers that remain, and those that are cut out.

    Raises:
        SplitError: Nothing remains.
    """
    splitter = GroupShuffleSplit if rule == "prompt" else ShuffleSplit
    groups = rows.group[numbers] if rule == "prompt" else None
    draws = splitter(1, test_size=share, random_state=seed).split(numbers, groups=groups)
    try:
        remaining, cut_out = next(iter(draws))
    except ValueError as error:
        unit_name = "prompts" if rule == "prompt" else "rows"
        raise SplitError(
            f"nothing is left to train on when {share:g} of the {unit_name} are cut out of {len(numbers)} "
            "rows"
        ) from error
    return numbers[remaining], numbers[cut_out]
