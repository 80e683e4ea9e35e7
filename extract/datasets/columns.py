"""Which column of a table is what: by the layout, by what the user says, or by a common name."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tier4k.cache.text import nearest
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.table_choice import ColumnChoice, canonical_column, column_field

MISSPELT_CUTOFF = 0.75
"""Similarity of names, from 0 to 1, from which another column may be the missing one, misspelt."""


@dataclass(frozen=True)
class FoundColumns:
    """The meaning of the columns of a table.

    Attributes:
        of: {canonical column: column of the table}.
        recognised: The columns among them that were found by a common name.
        missing: Required columns of the layout that the table lacks.
        not_needed: Columns that the user names, that the table lacks and that a prediction does not need.
    """

    of: Mapping[str, str]
    recognised: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    not_needed: tuple[str, ...] = ()


def find_columns(
    layout: Layout,
    present: Sequence[str],
    choice: ColumnChoice,
) -> FoundColumns:
    """Find the columns of a layout in a table.

    Args:
        layout: The layout.
        present: Names of the columns of the table.
        choice: What the user says about columns, which goes before the layout.

    Raises:
        DataError: Several columns have common names of one field.
    """
    found: dict[str, str] = {}
    recognised: dict[str, str] = {}
    missing: list[str] = []
    not_needed: list[str] = []
    chosen = _chosen(choice, present)
    named = {canonical_column(name): columns for name, columns in choice.of_field.items()}
    own_names = {**layout.columns, **layout.optional}
    for canonical in {**own_names, **named}:
        column = own_names.get(canonical, "")
        if canonical in named:
            if canonical in chosen:
                found[canonical] = chosen[canonical]
            elif named[canonical]:
                absent = missing if choice.requires(column_field(canonical)) else not_needed
                absent.append(" or ".join(named[canonical]))
        elif column in present:
            found[canonical] = column
        elif other := _common_name(layout.common_names.get(canonical, ()), present, canonical, chosen):
            found[canonical] = recognised[canonical] = other
        elif canonical in layout.columns or _is_misspelt(canonical, layout, present, found):
            missing.append(column)
    absent = not_needed if choice.to_predict and choice.targets else missing
    absent.extend(_missing_targets(layout, present, choice))
    return FoundColumns(found, recognised, tuple(missing), tuple(not_needed))


def _is_misspelt(
    canonical: str,
    layout: Layout,
    present: Sequence[str],
    found: Mapping[str, str],
) -> bool:
    """Return whether an optional prompt is missing although another column is nearly called so.

    Without this question, a column "promt" would silently make a data set without prompts.
    """
    if canonical != "prompt" or canonical not in layout.common_names:
        return False
    free = [column.lower() for column in present if column not in found.values()]
    return bool(difflib.get_close_matches(canonical, free, n=1, cutoff=MISSPELT_CUTOFF))


def _chosen(choice: ColumnChoice, present: Sequence[str]) -> dict[str, str]:
    """Return {canonical column: column} for the columns of a choice that the table has."""
    chosen = {}
    for name, columns in choice.of_field.items():
        own = [column for column in columns if column in present]
        if len(own) > 1:
            raise DataError(
                f"--columns: the table has several columns for {name}, {' and '.join(own)}: name only one"
            )
        if own:
            chosen[canonical_column(name)] = own[0]
    return chosen


def _common_name(
    names: Sequence[str],
    present: Sequence[str],
    canonical: str,
    chosen: Mapping[str, str],
) -> str | None:
    """Return the column with one of the common names, in any case; the canonical name in another case first.

    Raises:
        DataError: Several columns have such names.
    """
    free = [column for column in present if column not in chosen.values()]
    field_name = column_field(canonical)
    if not names:
        return None
    same = [column for column in free if column.strip().lower() == field_name]
    others = [column for column in free if column.strip().lower().replace(" ", "_") in names]
    matches = same or others
    if len(matches) > 1:
        raise DataError(
            f"the columns {' and '.join(matches)} may each be the {field_name}: name one with "
            f"--columns {field_name}={matches[0]}"
        )
    return matches[0] if matches else None


def _missing_targets(
    layout: Layout,
    present: Sequence[str],
    choice: ColumnChoice,
) -> list[str]:
    if not choice.targets:
        return [column for column in layout.targets if column not in present]
    return [" or ".join(columns) for columns in choice.targets.values() if not set(columns) & set(present)]


def missing_columns_error(
    where: str,
    layout: Layout,
    found: FoundColumns,
    present: Sequence[str],
    layouts: Iterable[str],
    hints: Sequence[str] = (),
) -> DataError:
    """Return the error for a table that lacks columns of a layout.

    Args:
        where: The table, for the message.
        layout: The layout.
        found: The columns that were found.
        present: Names of the columns of the table.
        layouts: Names of all layouts.
        hints: Sentences with the options that are likely to be meant; none gives the form of the option.
    """
    form = (
        "Say which is which with --columns image=…,prompt=…,mos=…, rename the columns, or select another "
        f"layout with --layout {'|'.join(layouts)}."
    )
    lines = [
        f"{where} lacks columns of the {layout.name} layout:",
        *(f"  {column}{nearest(column, present)}" for column in found.missing),
        f"The columns of the table are: {', '.join(present) or 'none'}.",
        *(hints or [form]),
    ]
    return DataError("\n".join(lines))
