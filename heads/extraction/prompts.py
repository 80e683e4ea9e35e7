"""The refusal of data sets without text prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.errors import DataError

if TYPE_CHECKING:
    from tier4k.extract.datasets.source import DataSource


def require_prompts(
    sources: "Sequence[DataSource]",
    streams: Sequence[Stream],
    otherwise: str = "use --streams image",
) -> None:
    """Refuse tables without text prompts if the prompts are used.

    Args:
        sources: The data sets.
        streams: Streams that are used.
        otherwise: What a user without prompts can do instead; "" if there is nothing.

    Raises:
        DataError: A table has no column of prompts, and the streams contain the text.
    """
    without = [str(source.path) for source in sources if not source.has_prompts]
    if without and "text" in streams:
        verb = "has" if len(without) == 1 else "have"
        remedies = "add a column of prompts, or name it with --columns prompt=COLUMN"
        if otherwise:
            remedies += f", or {otherwise}"
        raise DataError(f"{' and '.join(without)} {verb} no text prompts, which are needed here: {remedies}")
