"""Splits as a file: splits.json."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from tier4k.cache.atomic import publish_text
from tier4k.cache.store import writing
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.features import Rows
from tier4k.heads.data.splits import PARTS, Split, SplitError, _cut, _with_enough


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
        return [
            self._split(number, one, number_of, rows, seed, validation)
            for number, one in enumerate(self.repeats)
        ]

    def _split(
        self,
        number: int,
        repeat: dict[str, Any],
        number_of: dict[str, int],
        rows: Rows,
        seed: int,
        share: float,
    ) -> Split:
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
        train, validation, test = (
            np.array(sorted(number_of[name] for name in repeat[part]), dtype=int) for part in PARTS
        )
        if not share:
            train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
        elif not len(validation):
            if len(np.unique(rows.group[train])) < 2:
                raise SplitError(
                    f"{where}: no validation rows, and none can be cut out of one training prompt: name them in the file"
                )
            train, validation = map(np.sort, _cut(train, rows, "prompt", share, repeat["seed"]))
        return _with_enough(Split(train, validation, test, repeat["seed"] + seed), where)


def _is_repeat(one: Any) -> bool:
    named = all(
        isinstance(one[part], list) and all(isinstance(name, str) for name in one[part]) for part in PARTS
    )
    return named and isinstance(one["seed"], int) and one["seed"] >= 0


def split_names(rows: Rows, splits: Sequence[Split]) -> list[dict[str, Any]]:
    """What a file of splits holds; see `StoredSplits`."""
    return [
        {"seed": split.seed, **{part: rows.name[getattr(split, part)].tolist() for part in PARTS}}
        for split in splits
    ]


def write_splits(path: Path, rows: Rows, splits: Sequence[Split]) -> None:
    """Write a file of splits.

    Raises:
        StoreError: It cannot be written.
    """
    with writing(path):
        publish_text(path, json.dumps(split_names(rows, splits), indent=1) + "\n")


def parse_split(text: str) -> SplitRule | StoredSplits:
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
