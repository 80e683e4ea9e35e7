"""The splits that a user requests."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from tier4k.cache.text import nearest
from tier4k.heads.data.choices import SplitRule
from tier4k.heads.data.column_split import COLUMN, ColumnSplit
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import (
    Split,
    SplitError,
    default_repeats,
    make_splits,
    selection_split,
)
from tier4k.heads.data.stored_splits import Plain, StoredSplits


@dataclass(frozen=True)
class SplitRequest:
    """A request for splits of the rows of a data set.

    Attributes:
        rule: Name of a split rule, or the splits that a file or a column fixes.
        repeats: Number of repeats; None: as many as `default_repeats`.
        folds: Number of folds; each row is a test row in one fold. None: every repeat draws its test rows
            anew.
        seed: Seed of the first repeat; repeat r has the seed `seed + r`.
        selection: Whether the inner splits of a search are requested: the test part of each is the selection
            part of the repeat (`tier4k.heads.data.splits.selection_split`).
    """

    rule: SplitRule | StoredSplits = "prompt"
    repeats: int | None = None
    folds: int | None = None
    seed: int = 0
    selection: bool = False

    @property
    def name(self) -> str:
        """The rule with the number of folds, or `StoredSplits.name`; inner splits add "-selection"."""
        end = "-selection" if self.selection else ""
        if isinstance(self.rule, StoredSplits):
            return f"{self.rule.name}{end}"
        if self.folds:
            return f"{self.rule}-{self.folds}-fold{end}"
        return f"{self.rule}{end}"

    def splits(self, rows: Rows, validation: float) -> list[Split]:
        """Make the requested splits.

        Args:
            rows: The rows that take part.
            validation: Share of the training part that becomes the validation part, as in `make_splits`.

        Raises:
            SplitError: The request contradicts itself or the rows.
        """
        if not self.selection:
            return self._outer_splits(rows, validation)
        # Rows of fixed splits are cut by prompt, as their validation rows are.
        rule = "prompt" if isinstance(self.rule, StoredSplits) else self.rule
        outer = self._outer_splits(rows, validation=0.0)
        return [selection_split(rows, rule, split, validation) for split in outer]

    def _outer_splits(self, rows: Rows, validation: float) -> list[Split]:
        if isinstance(self.rule, StoredSplits):
            if self.repeats or self.folds:
                count = len(self.rule.repeats)
                raise SplitError(
                    f"{self.rule.where} already fixes {count} {'repeat' if count == 1 else 'repeats'}: "
                    "leave out --repeats and --folds"
                )
            return self.rule.of(rows, self.seed, validation)
        if self.repeats and self.folds:
            raise SplitError(f"--folds {self.folds} already means {self.folds} repeats: leave out --repeats")
        count = self.folds or self.repeats or default_repeats(self.rule, rows)
        return make_splits(rows, self.rule, count, self.seed, validation, self.folds is not None)


Splits = SplitRule | ColumnSplit | StoredSplits
"""What decides the parts of the rows."""


def parse_split(given: "str | Path | Plain | Splits") -> Splits:
    """Return what decides the parts of the rows, in any form in which a user may give it.

    Args:
        given: A rule by its name, column:NAME, a file of splits, FILE:N for its repeat N alone, the names of
            the rows as `StoredSplits.parse` takes them, or what this function returned.

    Raises:
        SplitError: There is no such rule, file or repeat, the name of the column is missing, or a field
            is not a field of a split.
    """
    if isinstance(given, ColumnSplit | StoredSplits):
        return given
    if not isinstance(given, str | Path):
        return StoredSplits.parse(given)
    text = str(given)
    if text in get_args(SplitRule):
        return cast(SplitRule, text)
    if text.startswith(COLUMN):
        return ColumnSplit.parse(text)
    file, _, number = text.rpartition(":")
    names_a_repeat = file and number.isdecimal() and not Path(text).exists()
    path = Path(file if names_a_repeat else text)
    if not path.exists():
        rules = get_args(SplitRule)
        raise SplitError(
            f"--split: {text!r} is no rule and no file{nearest(text, rules)}: pass {', '.join(rules)}, "
            "column:NAME, or a splits.json that a run or `tier split` wrote"
        )
    splits = StoredSplits.read(path)
    return splits.only(int(number)) if names_a_repeat else splits
