"""Who is in training, validation and test, and what of the test rows was seen in training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, KFold, ShuffleSplit

from cache.atomic import publish_text
from cache.errors import TierError
from cache.store import writing
from heads.choices import SplitRule
from heads.features import Rows

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
    return np.array([f"{group}\0{generator}" for group, generator in zip(rows.group, rows.generator, strict=True)], dtype=object)


@dataclass(frozen=True)
class StoredSplits:
    """Splits from a file as runs write it, splits.json: for each repeat a seed and the names of the rows in each part.

    Attributes:
        path: The file, for messages.
        repeats: {"seed": …, "train": [name, …], "validation": […], "test": […]} for each.
    """

    path: Path
    repeats: Sequence[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> "StoredSplits":
        """Read a file of splits.

        Raises:
            SplitError: It cannot be read, or is no such file.
        """
        try:
            repeats = json.loads(path.read_text(encoding="utf-8"))
            if not repeats or not all(_is_repeat(one) for one in repeats):
                raise ValueError("a list of repeats, each with seed, train, validation and test, is wanted")
            return cls(path, repeats)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise SplitError(
                f"{path} cannot be read as splits ({error}): give --split {', '.join(get_args(SplitRule))}, or a splits.json that a run "
                "or `tier split` wrote"
            ) from error

    @property
    def name(self) -> str:
        """ "file-" and the beginning of the SHA-256 of what it says, however the file is laid out."""
        said = [{part: one[part] for part in ("seed", *PARTS)} for one in self.repeats]
        return "file-" + hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]

    def of(self, rows: Rows, seed: int, validation: float) -> list[Split]:
        """The splits of these rows; rows that the file does not name take no part.

        Args:
            rows: Their names are looked for.
            seed: Added to the seed of every repeat.
            validation: Above 0 the head needs validation rows: a repeat without any has this share of its training prompts cut out.
                With 0 validation rows are training rows.

        Raises:
            SplitError: A name that the rows do not have, or that stands twice, or a part with too few rows.
        """
        number_of = {name: number for number, name in enumerate(rows.name)}
        return [self._split(number, one, number_of, rows, seed, validation) for number, one in enumerate(self.repeats)]

    def _split(self, number: int, repeat: dict[str, Any], number_of: dict[str, int], rows: Rows, seed: int, share: float) -> Split:
        names = [name for part in PARTS for name in repeat[part]]
        where = f"{self.path}, repeat {number}"
        if unknown := [name for name in names if name not in number_of]:
            raise SplitError(
                f"{where}: {len(unknown)} of {len(names)} names are not among the {len(rows)} rows, first {unknown[0]!r}: give the splits "
                "of this data set and --benchmark"
            )
        if len(set(names)) < len(names):
            doubled = next(name for name in names if names.count(name) > 1)
            parts = " and ".join(part for part in PARTS if doubled in repeat[part])
            raise SplitError(f"{where}: {doubled!r} stands twice, in {parts}: leave it in one part, once")
        train, validation, test = (np.array(sorted(number_of[name] for name in repeat[part]), dtype=int) for part in PARTS)
        if not share:
            train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
        elif not len(validation):
            if len(np.unique(rows.group[train])) < 2:
                raise SplitError(f"{where}: no validation rows, and none can be cut out of one training prompt: name them in the file")
            train, validation = map(np.sort, _cut(train, rows, "prompt", share, repeat["seed"]))
        return _with_enough(Split(train, validation, test, repeat["seed"] + seed), where)


def _is_repeat(one: Any) -> bool:
    named = all(isinstance(one[part], list) and all(isinstance(name, str) for name in one[part]) for part in PARTS)
    return named and isinstance(one["seed"], int) and one["seed"] >= 0


def split_names(rows: Rows, splits: Sequence[Split]) -> list[dict[str, Any]]:
    """What a file of splits holds; see `StoredSplits`."""
    return [{"seed": split.seed, **{part: rows.name[getattr(split, part)].tolist() for part in PARTS}} for split in splits]


def write_splits(path: Path, rows: Rows, splits: Sequence[Split]) -> None:
    """Write a file of splits.

    Raises:
        StoreError: It cannot be written.
    """
    with writing(path):
        publish_text(path, json.dumps(split_names(rows, splits), indent=1) + "\n")


def split_asked(text: str) -> SplitRule | StoredSplits:
    """A rule by its name, the splits of a file, or with FILE:N its repeat N alone.

    Raises:
        SplitError: There is none of these.
    """
    if text in get_args(SplitRule):
        return cast(SplitRule, text)
    file, _, number = text.rpartition(":")
    if not (file and number.isdecimal()) or Path(text).exists():
        return StoredSplits.read(Path(text))
    stored, repeat = StoredSplits.read(Path(file)), int(number)
    if repeat >= len(stored.repeats):
        raise SplitError(f"{file} has no repeat {repeat}: its repeats are 0 … {len(stored.repeats) - 1}")
    return replace(stored, repeats=[stored.repeats[repeat]])


def with_seeds(splits: Sequence[Split], seeds: int) -> list[Split]:
    """Each split once for each of several seeds of the head, side by side."""
    return [replace(split, seed=split.seed + number * len(splits)) for split in splits for number in range(seeds)]


def default_repeats(rule: SplitRule, generators: int) -> int:
    """Ten repeats, or one for each generator that can be left out."""
    return generators if rule == "generator" else 10


def make_splits(
    rows: Rows, rule: SplitRule, repeats: int, seed: int, validation: float = VALIDATION_SHARE, folds: bool = False
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
    parts = _folds(rows, rule, repeats, seed) if folds else [_test_part(rows, rule, number, seed + number) for number in range(repeats)]
    return [_split(rows, rule, test, seed + number, validation) for number, test in enumerate(parts)]


def _require_enough(rows: Rows, rule: SplitRule, folds: int) -> None:
    units, what, needed = len(rows), "rows", MIN_UNITS
    if rule == "prompt":
        units, what = len(np.unique(rows.group)), "distinct prompts"
    elif rule == "generator":
        units, what, needed = len(np.unique(rows.generator)), "generators", MIN_GENERATORS
    if units < needed:
        raise SplitError(f"{units} {what} are too few for a {rule} split with training, validation and test: {needed} are needed")
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
    return _with_enough(Split(np.sort(training), np.sort(validation), np.sort(test), seed), f"the {rule} split of {len(rows)} rows", tested)


def _with_enough(split: Split, where: str, tested: str = "") -> Split:
    if len(split.train) < 2 or len(split.test) < 2:
        raise SplitError(f"{where} leaves {len(split.train)} to train and {len(split.test)} to test{tested}: 2 are needed of each")
    return split


def _leave_out(numbers: np.ndarray, generator: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    names = np.unique(generator[numbers])
    left_out = generator[numbers] == names[number % len(names)]
    return numbers[~left_out], numbers[left_out]


def _cut(numbers: np.ndarray, rows: Rows, rule: SplitRule, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    splitter = GroupShuffleSplit if rule == "prompt" else ShuffleSplit
    groups = rows.group[numbers] if rule == "prompt" else None
    try:
        first, second = next(iter(splitter(1, test_size=share, random_state=seed).split(numbers, groups=groups)))
    except ValueError as error:
        what = "prompts" if rule == "prompt" else "rows"
        raise SplitError(f"nothing is left to train on when {share:g} of the {what} are cut out of {len(numbers)} rows") from error
    return numbers[first], numbers[second]
