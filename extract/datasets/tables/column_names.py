"""Names of the columns of a table, as its file has them."""

from collections.abc import Sequence

from tier4k.cache.text import shortened, shown
from tier4k.extract.datasets.errors import DataError

UNNAMED = "Unnamed: "
"""The name of a column without one begins so; its position, from 0, follows."""


def column_names(header: Sequence[object], where: str) -> tuple[str, ...]:
    """Return the names in a header as texts without white space around them.

    Args:
        header: The cells of the header; None or "" is a column without a name.
        where: The table, for a message.

    Raises:
        DataError: A name occurs twice.
    """
    names = []
    for position, cell in enumerate(header):
        text = "" if cell is None else shown(str(cell).strip())
        names.append(text or f"{UNNAMED}{position}")
    _require_distinct(names, where)
    return tuple(names)


def _require_distinct(names: Sequence[str], where: str) -> None:
    """Require that no name occurs twice.

    Raises:
        DataError: One does; the message names both positions, from 1.
    """
    first: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if name in first:
            raise DataError(
                f"{where} has two columns called {shortened(name, 60)!r}, at positions {first[name]} and "
                f"{position}: rename or remove one"
            )
        first[name] = position
