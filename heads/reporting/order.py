"""The order of runs whose names differ in their digits alone."""

import re
from collections.abc import Sequence
from typing import Any

from tier4k.heads.results.names import digest_in

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")

SortKey = tuple[Any, ...]


def order_key(name: str, key: SortKey) -> SortKey:
    """Return what runs are sorted by: their names without digits, then the keys.

    Args:
        name: Name of the run's folder.
        key: The key of the run's settings.
    """
    return name.removesuffix(digest_in(name)), *key


def places_in_order(names: Sequence[str], keys: Sequence[SortKey]) -> list[int]:
    """Return the places of runs in their order: runs whose names differ in their digits alone are sorted.

    All others keep their places, and runs with equal options their order, which may be a user's choice.

    Args:
        names: Name of each run's folder.
        keys: The key of each run's settings.
    """
    alike: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        alike.setdefault(name.removesuffix(digest_in(name)), []).append(place)
    order = list(range(len(names)))
    for places in alike.values():
        in_order = sorted(places, key=lambda place: keys[place])
        for place, run in zip(places, in_order, strict=True):
            order[place] = run
    return order


def natural_key(text: str) -> tuple[str | float, ...]:
    """Return a text as a key that sorts "hidden=64" before "hidden=128"."""
    parts = _NUMBER.split(text)
    return tuple(float(part) if number % 2 else part for number, part in enumerate(parts))
