"""Unknown names of encoders are rejected with the nearest known ones."""

import difflib
from collections.abc import Iterable

from tier4k.cache.errors import TierError


class EncoderError(TierError):
    """An encoder that is not known or cannot be used so."""


def nearest(name: str, among: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(among), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""
