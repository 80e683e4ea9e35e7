"""The order of runs whose names differ in their digits alone."""

import re
from collections.abc import Sequence

from tier4k.heads.reporting.run_settings import RunSettings
from tier4k.heads.results.names import digest_in

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)")


def order_key(name: str, settings: RunSettings) -> tuple[object, ...]:
    """Return what runs are sorted by: name without digits, changed options, repeats, seeds and seed.

    Numbers in options are sorted as numbers.

    Args:
        name: Name of the run's folder.
        settings: Settings of the run.
    """
    options = _natural(" ".join(settings.changed_options()))
    return name.removesuffix(digest_in(name)), options, settings.repeats, settings.seeds, settings.seed


def places_in_order(names: Sequence[str], settings: Sequence[RunSettings]) -> list[int]:
    """Return the places of runs in their order: runs whose names differ in their digits alone are sorted.

    All others keep their places, and runs with equal options their order, which may be a user's choice.

    Args:
        names: Name of each run's folder.
        settings: Settings of each run.
    """
    alike: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        alike.setdefault(name.removesuffix(digest_in(name)), []).append(place)
    order = list(range(len(names)))
    for places in alike.values():
        in_order = sorted(places, key=lambda place: order_key(names[place], settings[place]))
        for place, run in zip(places, in_order, strict=True):
            order[place] = run
    return order


def _natural(text: str) -> tuple[str | float, ...]:
    """Return a text as a key that sorts "hidden=64" before "hidden=128"."""
    parts = _NUMBER.split(text)
    return tuple(float(part) if number % 2 else part for number, part in enumerate(parts))
