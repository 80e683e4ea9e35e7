"""Splits by the names of rows: those that runs and `tier split` write to splits.json, and those of a user.

The plain form is `{"train": [names], "test": [names]}`, or a list of such objects, one for each repeat.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import numpy as np

from tier4k.cache.atomic import publish_text
from tier4k.cache.text import nearest, read_text, shortened
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import LARGEST_SEED, PARTS, Split, SplitError, cut, require_enough_rows

FIELDS = ("train", "validation", "val", "test", "seed")
"""Fields of a repeat as users write it; `val` is another name of `validation`."""

Plain = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""`{"train": [names], "test": [names]}`, optionally with validation or val and seed; or a list of them."""


class StoredSplit(msgspec.Struct, frozen=True):
    """One repeat of a splits file.

    Attributes:
        seed: Seed of the head of this repeat.
        train, validation, test: Names of the rows.
    """

    seed: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_SEED)]
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
            content = json.loads(read_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(path, str(error)) from error
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: Plain, where: Path | str = "the split") -> "StoredSplits":
        """Return the splits of a plain object, or of a list of such objects, one for each repeat.

        Args:
            content: `{"train": [names], "test": [names]}`, optionally with `validation` (or `val`) and with
                `seed`, the seed of the repeat's head; by default the number of the repeat.
            where: The file, for messages.

        Raises:
            SplitError: A field is unknown, missing or no list of names; the message names file, repeat and
                field.
        """
        repeats = [content] if isinstance(content, Mapping) else content
        if not isinstance(repeats, list | tuple):
            raise _unreadable(where, f"it is {type(content).__name__}, neither an object nor a list of them")
        if not repeats:
            raise _unreadable(where, "the list of repeats is empty")
        return cls(where, [_repeat(one, number, where) for number, one in enumerate(repeats)])

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


def _unreadable(where: Path | str, reason: str) -> SplitError:
    rules = ", ".join(get_args(SplitRule))
    return SplitError(
        f"{where} cannot be read as splits ({shortened(reason)}): pass --split {rules}, column:NAME, a "
        'splits.json that a run or `tier split` wrote, or a file such as {"train": [names of images], '
        '"test": [names]}'
    )


def _repeat(
    content: object,
    number: int,
    where: Path | str,
) -> StoredSplit:
    """Return one repeat of a file, whose fields are checked."""
    if not isinstance(content, Mapping):
        raise _unreadable(where, f"repeat {number} is {type(content).__name__}, not an object")
    for field in content:
        if field not in FIELDS:
            known = nearest(str(field), FIELDS)
            raise _unreadable(where, f"repeat {number} has the unknown field {field!r}{known}")
    if "val" in content and "validation" in content:
        raise _unreadable(where, f"repeat {number} has the fields val and validation, which are one")
    validation = "val" if "val" in content else "validation"
    parts = {part: _names(content, part, number, where) for part in ("train", validation, "test")}
    return StoredSplit(
        seed=_seed(content.get("seed", number), number, where),
        train=parts["train"],
        validation=parts[validation],
        test=parts["test"],
    )


def _names(
    content: Mapping[str, Any],
    field: str,
    number: int,
    where: Path | str,
) -> list[str]:
    """Return the names of one part of a repeat; without validation rows there may be no such field."""
    if field not in content:
        if field == "validation":
            return []
        raise _unreadable(where, f"repeat {number} lacks the field {field!r}")
    names = content[field]
    # Other sequences, such as columns of pandas, come from Python.
    if isinstance(names, str | Mapping) or not isinstance(names, Iterable):
        raise _unreadable(
            where, f"field {field!r} of repeat {number} is {shortened(repr(names), 60)}, not a list of names"
        )
    found = list(names)
    for name in found:
        if not isinstance(name, str):
            raise _unreadable(where, f"field {field!r} of repeat {number} has {name!r}, which is not a text")
    return [str(name) for name in found]


def _seed(
    seed: object,
    number: int,
    where: Path | str,
) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise _unreadable(
            where,
            f"field 'seed' of repeat {number} is {seed!r}, not a whole number from 0 to {LARGEST_SEED}",
        )
    return seed


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
    unknown = [(part, name) for part in PARTS for name in repeat.part(part) if name not in row_names]
    if unknown:
        part, name = unknown[0]
        raise SplitError(
            f"{where}: {len(unknown)} of {len(repeat.names())} names are not among the {len(rows)} rows, "
            f"first {name!r} in {part}{nearest(name, rows.name.tolist())}: pass splits of this data set and "
            "--benchmark"
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
