"""Splits by the names of rows. Runs and `tier split` write them to splits.json, and --split reads them."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import numpy as np

from tier4k.cache.atomic import publish_text
from tier4k.cache.text import read_text
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import PARTS, Split, SplitError, cut, require_enough_rows


class StoredSplit(msgspec.Struct, frozen=True):
    """One repeat of a splits file.

    Attributes:
        seed: Seed of the head of this repeat.
        train, validation, test: Names of the rows.
    """

    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]  # the range of numpy's seeds
    train: list[str]
    validation: list[str]
    test: list[str]

    def part(self, name: str) -> list[str]:
        """Return the names of one of `PARTS`."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def names(self) -> list[str]:
        """Return the names of all parts."""
        return [*self.train, *self.validation, *self.test]


@dataclass(frozen=True)
class StoredSplits:
    """Splits that a file or a column fixes.

    Attributes:
        where: The file or the column, for messages.
        repeats: One split per repeat.
        kind: "file" or "column-NAME", the beginning of the name of the splits.
    """

    where: Path | str
    repeats: Sequence[StoredSplit]
    kind: str = "file"

    @classmethod
    def read(cls, path: Path) -> "StoredSplits":
        """Read a file of splits.

        Raises:
            SplitError: The file cannot be read, or does not contain splits.
        """
        try:
            repeats = msgspec.json.decode(read_text(path), type=list[StoredSplit])
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(path, error) from error
        if not repeats:
            raise _unreadable(path, ValueError("the list of repeats is empty"))
        return cls(path, repeats)

    @property
    def name(self) -> str:
        """The kind and the beginning of the SHA-256 of the content, independent of its layout."""
        content = [msgspec.to_builtins(repeat) for repeat in self.repeats]
        return f"{self.kind}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"

    def only(self, number: int) -> "StoredSplits":
        """Return the splits with one repeat only.

        Raises:
            SplitError: The file has no such repeat.
        """
        if number >= len(self.repeats):
            raise SplitError(
                f"{self.where} has no repeat {number}: use a repeat from 0 to {len(self.repeats) - 1}"
            )
        return replace(self, repeats=[self.repeats[number]])

    def of(
        self,
        rows: Rows,
        seed: int,
        validation: float,
    ) -> list[Split]:
        """Return the splits as row indices; rows that are not named are in no part.

        Args:
            rows: The rows to split.
            seed: Number that is added to the seed of every repeat.
            validation: Above 0 the head needs validation rows: this share of the training prompts is cut out
                in a repeat that has none. With 0, validation rows become training rows.

        Raises:
            SplitError: The rows lack a name, a name occurs twice, or a part has too few rows.
        """
        splits = []
        for number, repeat in enumerate(self.repeats):
            where = f"{self.where}, repeat {number}" if self.kind == "file" else str(self.where)
            splits.append(_split(repeat, rows, seed, validation, where))
        return splits


def _unreadable(path: Path, error: Exception) -> SplitError:
    rules = ", ".join(get_args(SplitRule))
    return SplitError(
        f"{path} cannot be read as splits ({error}): pass --split {rules}, column:NAME, "
        "or a splits.json that a run or `tier split` wrote"
    )


def _split(
    repeat: StoredSplit,
    rows: Rows,
    seed: int,
    share: float,
    where: str,
) -> Split:
    _require_known_names(repeat, rows, where)
    _require_distinct_names(repeat, where)
    index_of = {name: index for index, name in enumerate(rows.name)}

    def indices(names: list[str]) -> np.ndarray:
        return np.array(sorted(index_of[name] for name in names), dtype=int)

    train = indices(repeat.train)
    validation = indices(repeat.validation)
    if not share:
        train = np.sort(np.concatenate([train, validation]))
        validation = validation[:0]
    elif not len(validation):
        train, validation = _cut_validation(train, rows, share, repeat.seed, where)
    split = Split(train, validation, indices(repeat.test), repeat.seed + seed)
    require_enough_rows(split, where)
    return split


def _cut_validation(
    train: np.ndarray,
    rows: Rows,
    share: float,
    seed: int,
    where: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut validation rows out of training rows; return the remaining training rows and the cut rows."""
    if len(np.unique(rows.group[train])) < 2:
        raise SplitError(
            f"{where}: there are no validation rows, and they cannot be cut out of a single training prompt: "
            "name validation rows"
        )
    train, validation = cut(train, rows, "prompt", share, seed)
    return np.sort(train), np.sort(validation)


def _require_known_names(
    repeat: StoredSplit,
    rows: Rows,
    where: str,
) -> None:
    row_names = set(rows.name)
    names = repeat.names()
    unknown_names = [name for name in names if name not in row_names]
    if unknown_names:
        raise SplitError(
            f"{where}: {len(unknown_names)} of {len(names)} names are not among the {len(rows)} rows, "
            f"first {unknown_names[0]!r}: pass splits of this data set and --benchmark"
        )


def _require_distinct_names(repeat: StoredSplit, where: str) -> None:
    counts = Counter(repeat.names())
    for name, count in counts.items():
        if count > 1:
            parts = " and ".join(part for part in PARTS if name in repeat.part(part))
            raise SplitError(f"{where}: {name!r} occurs twice, in {parts}: keep one occurrence only")


def stored_splits(rows: Rows, splits: Sequence[Split]) -> list[StoredSplit]:
    """Return splits with the names of the rows instead of indices, as in a file of splits."""

    def names(indices: np.ndarray) -> list[str]:
        return rows.name[indices].tolist()

    stored = []
    for split in splits:
        stored.append(StoredSplit(split.seed, names(split.train), names(split.validation), names(split.test)))
    return stored


def splits_json(rows: Rows, splits: Sequence[Split]) -> str:
    """Return the text of a splits file."""
    content: list[dict[str, Any]] = msgspec.to_builtins(stored_splits(rows, splits))
    return json.dumps(content, indent=1) + "\n"


def write_splits(
    path: Path,
    rows: Rows,
    splits: Sequence[Split],
) -> None:
    """Write a file of splits.

    Raises:
        StoreError: The file cannot be written.
    """
    with explain_write_errors(path):
        publish_text(path, splits_json(rows, splits))
