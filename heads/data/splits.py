"""Split rows into training, validation and test rows, and find the test rows that training has seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit

from tier4k.cache.errors import TierError
from tier4k.cache.text import shortened
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.rows import Rows

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.15
MIN_UNITS = 5  # rows or prompts
MIN_GENERATORS = 3
MIN_DATASETS = 2
PUBLISHED_PARTS = 4
LARGEST_SEED = 2**32 - 1  # of NumPy and scikit-learn
PARTS = ("train", "validation", "test")


class SplitError(TierError):
    """The rows do not allow the split."""


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts in one repeat.

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

    def __post_init__(self) -> None:
        """Check the seed.

        Raises:
            SplitError: It is out of range.
        """
        require_seed(self.seed)

    def within(self, takes_part: np.ndarray) -> "Split":
        """Return the split of some of the rows.

        Args:
            takes_part: (N,) bool, whether each of all rows stays in its part.
        """
        return replace(
            self,
            train=self.train[takes_part[self.train]],
            validation=self.validation[takes_part[self.validation]],
            test=self.test[takes_part[self.test]],
        )

    @property
    def outside_test(self) -> np.ndarray:
        """Rows of the training and the validation part, in ascending order."""
        return np.sort(np.concatenate([self.train, self.validation]))

    def seen(self, identity: np.ndarray) -> np.ndarray:
        """Return (M,) bool: whether the identity of a test row, such as its prompt, is also in other parts.

        Args:
            identity: (N,) identities of all rows.
        """
        seen_identities = {*identity[self.train], *identity[self.validation]}
        return np.array([value in seen_identities for value in identity[self.test]])


def prompt_and_generator(rows: Rows) -> np.ndarray:
    """Return (N,) identities that images of the same prompt and generator share."""
    pairs = zip(rows.group, rows.generator, strict=True)
    return np.array([f"{group}\0{generator}" for group, generator in pairs], dtype=object)


def require_seed(seed: int) -> None:
    """Require a seed that every generator of random numbers takes.

    Raises:
        SplitError: The seed of a repeat is out of range.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise SplitError(
            f"a repeat has the seed {shortened(seed, 60)}, and seeds are from 0 to {LARGEST_SEED}: choose a "
            "smaller --seed (the repeat's number, or its seed in a file of splits, is added to it)"
        )


def with_seeds(splits: Sequence[Split], seeds: int) -> list[Split]:
    """Repeat each split once per seed of the head; copies of one split are neighbours."""
    repeated = []
    for split in splits:
        for number in range(seeds):
            repeated.append(replace(split, seed=split.seed + number * len(splits)))
    return repeated


def default_repeats(rule: SplitRule, rows: Rows) -> int:
    """Return 10, or one repeat per generator or data set with a rule that leaves one of them out."""
    units = _units_left_out(rows, rule)
    return 10 if units is None else len(np.unique(units))


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
        rows: The rows to split.
        rule: "prompt" keeps all rows of a prompt in one part (80/20); "random" draws rows (80/20);
            "generator" leaves one generator out, in repeat r the r-th by name; "dataset" leaves one data set
            out in the same way; "published" tests row i of the benchmark where i % 4 == 3, in every repeat.
        repeats: Number of repeats; repeat r has the seed `seed + r`.
        seed: Seed of the first repeat.
        validation: Share of the training part (prompts or rows) that becomes the validation part, cut by the
            same rule. Above 0 the generator rule leaves out one more generator, for any share. The dataset
            rule cuts by prompt: there may be only one training set. 0 means no validation part.
        folds: The repeats are K folds: each prompt, row, generator or data set is tested in exactly one of
            them. The published rule then tests i % K == K - 1 - r; with K = 4, fold 0 is the published split.

    Raises:
        SplitError: There is no such rule, or there are too few rows, prompts, generators or data sets.
    """
    if rule not in get_args(SplitRule):
        raise SplitError(f"there is no split rule {rule!r}: use one of {', '.join(get_args(SplitRule))}")
    require_seed(seed)
    require_seed(seed + repeats - 1)
    _require_enough_units(rows, rule, repeats if folds else 0)
    _require_enough_to_leave_out(rows, rule, repeats)
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
    remedy = "use more rows"
    if rule == "prompt":
        units = len(np.unique(rows.group))
        unit_name = "groups of prompts"
        remedy = "use rows of more prompts"
        if len(rows) >= MIN_UNITS:
            remedy += ", or --split random, which trains on images of test prompts"
    elif rule == "generator":
        units = len(np.unique(rows.generator))
        unit_name = "generators"
        needed = MIN_GENERATORS
        remedy = "use rows of more generators, or another --split, such as prompt"
    elif rule == "dataset":
        units = len(np.unique(rows.dataset))
        unit_name = "data sets"
        needed = MIN_DATASETS
        remedy = "pass several data sets, name a column with --columns dataset=COLUMN, or use another --split"
    if units < needed:
        raise SplitError(
            f"a {rule} split into training, validation and test rows needs at least {needed} {unit_name}, "
            f"and the data have {units}: {remedy}"
        )
    if folds and not 2 <= folds <= units:
        raise SplitError(
            f"{units} {unit_name} cannot be divided into {folds} folds: pass --folds from 2 to {units}"
        )


def _require_enough_to_leave_out(
    rows: Rows,
    rule: SplitRule,
    repeats: int,
) -> None:
    units = _units_left_out(rows, rule)
    if units is None:
        return
    count = len(np.unique(units))
    if repeats > count:
        unit_name = "generators" if rule == "generator" else "data sets"
        raise SplitError(
            f"a {rule} split of {count} {unit_name} has at most {count} repeats, and "
            f"{repeats} are requested: pass --repeats {count}"
        )


def _units_left_out(rows: Rows, rule: SplitRule) -> np.ndarray | None:
    """Return the units (N,) of which a rule leaves one out in each repeat; None for the other rules."""
    return {"generator": rows.generator, "dataset": rows.dataset}.get(rule)


def _test_rows(
    rows: Rows,
    rule: SplitRule,
    number: int,
    seed: int,
) -> np.ndarray:
    """Return the test rows of repeat `number`."""
    if rule == "published":
        return np.flatnonzero(rows.position % PUBLISHED_PARTS == PUBLISHED_PARTS - 1)
    all_rows = np.arange(len(rows))
    units = _units_left_out(rows, rule)
    if units is not None:
        _, test = _without_unit(all_rows, units, number)
    else:
        _, test = cut(all_rows, rows, rule, TEST_SHARE, seed)
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
    groups = rows.group if rule == "prompt" else _units_left_out(rows, rule)
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
    if share:
        training, validation = _leave_out(training, rows, rule, share, seed)
    split = Split(np.sort(training), np.sort(validation), np.sort(test), seed)
    units = _units_left_out(rows, rule)
    test_note = "" if units is None else f" ({units[test[0]]})"
    require_enough_rows(split, f"the {rule} split of {len(rows)} rows", test_note)
    return split


def selection_split(
    rows: Rows,
    rule: SplitRule,
    split: Split,
    validation: float = VALIDATION_SHARE,
) -> Split:
    """Return the inner split of one repeat, on which a search compares its candidates.

    Its test part is the selection part: a share `TEST_SHARE` of the repeat's training and validation rows,
    cut out by the rule, by prompt with the rule "dataset". It depends on no option of a candidate. The test
    rows of the repeat are in no part.

    Args:
        rows: All rows.
        rule: The rule by which the parts are cut, as in `make_splits`.
        split: The split of the repeat.
        validation: Share of the remaining rows that becomes the validation part, as in `make_splits`.

    Raises:
        SplitError: Too few rows, prompts or generators remain.
    """
    training, selection = _leave_out(split.outside_test, rows, rule, TEST_SHARE, split.seed)
    left_out = training[:0]
    if validation:
        training, left_out = _leave_out(training, rows, rule, validation, split.seed)
    inner = Split(np.sort(training), np.sort(left_out), np.sort(selection), split.seed)
    require_enough_rows(inner, f"the selection part of the {rule} split with seed {split.seed}")
    return inner


def require_enough_rows(
    split: Split,
    where: str,
    test_note: str = "",
) -> None:
    """Refuse a split with fewer than two training or test rows.

    Args:
        split: The split to check.
        where: Origin of the split, for the message.
        test_note: Description of the test rows, for the message.

    Raises:
        SplitError: There are too few rows.
    """
    if len(split.train) < 2 or len(split.test) < 2:
        raise SplitError(
            f"{where} has {len(split.train)} training and {len(split.test)} test rows{test_note}, and at "
            "least 2 of each are needed: use more rows or another split"
        )


def scored_split(
    split: Split,
    scores: np.ndarray,
    target: str,
) -> Split:
    """Return the split of the rows that have a score for a target.

    All targets share the parts of a split; a row takes part in those targets that it has a score for.

    Args:
        split: Split of all rows.
        scores: Scores (N,) of all rows, NaN where a row has none.
        target: Name of the target, for the message.

    Raises:
        SplitError: Fewer than two training or test rows have a score, or no validation row has one, although
            the split has such rows.
    """
    scored = split.within(np.isfinite(scores))
    parts = {
        "training": (split.train, scored.train, 2),
        "validation": (split.validation, scored.validation, 1),
        "test": (split.test, scored.test, 2),
    }
    for name, (rows, scored_rows, needed) in parts.items():
        if len(scored_rows) < min(needed, len(rows)):
            # Where nothing is fitted, all rows are test rows, and there is no other split.
            fitted = len(split.train) > 0
            named = f"{name} rows of the split with seed {split.seed}" if fitted else "rows"
            other_split = ", or use another split" if fitted else ""
            raise SplitError(
                f"{target}: {len(scored_rows)} of the {len(rows)} {named} have a score, and at least "
                f"{needed} must have one: leave {target} out with --target{other_split}"
            )
    return scored


def _leave_out(
    indices: np.ndarray,
    rows: Rows,
    rule: SplitRule,
    share: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut rows out by a rule; return the indices that remain, and those that are cut out."""
    if rule == "generator":
        return _without_unit(indices, rows.generator, seed)
    # A data set more cannot be left out: there may be only one training set.
    return cut(indices, rows, "prompt" if rule == "dataset" else rule, share, seed)


def _without_unit(
    indices: np.ndarray,
    units: np.ndarray,
    number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the rows without and with the n-th unit, in the order of names."""
    names = np.unique(units[indices])
    left_out = units[indices] == names[number % len(names)]
    return indices[~left_out], indices[left_out]


def cut(
    indices: np.ndarray,
    rows: Rows,
    rule: SplitRule,
    share: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a share of the rows out: whole prompts with the rule "prompt", else single rows.

    Args:
        indices: (M,) indices of the rows to cut.
        rows: All rows.
        rule: Name of the split rule.
        share: Share of the prompts or rows that is cut out.
        seed: Seed of the draw.

    Returns:
        The indices that remain, and the indices that are cut out.

    Raises:
        SplitError: No row remains.
    """
    splitter = GroupShuffleSplit if rule == "prompt" else ShuffleSplit
    groups = rows.group[indices] if rule == "prompt" else None
    draws = splitter(1, test_size=share, random_state=seed).split(indices, groups=groups)
    try:
        remaining, cut_out = next(iter(draws))
    except ValueError as error:
        unit_name = "prompts" if rule == "prompt" else "rows"
        raise SplitError(
            f"no training rows remain if a share of {share:g} of the {unit_name} is cut out of "
            f"{len(indices)} rows: use more rows or a smaller share"
        ) from error
    return indices[remaining], indices[cut_out]
