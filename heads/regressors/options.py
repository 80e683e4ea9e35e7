"""Options of heads: which values they take, and how a user's words become values."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from tier4k.cache.errors import TierError

# What TIER-4K and this command line call these options of heads.
WORD_OF = {"batch_size": "train_batch_size", "max_epochs": "epochs"}

OPTION_OF = {cli_name: option for option, cli_name in WORD_OF.items()}


class HeadError(TierError, ValueError):
    """Options that a head does not have, or values that an option does not take."""


@dataclass(frozen=True)
class Range:
    """Numbers from `least`, which may itself be left out, to `most`."""

    least: float
    most: float = math.inf
    without_least: bool = False

    def __contains__(self, value: object) -> bool:
        above = isinstance(value, int | float) and (
            value > self.least if self.without_least else value >= self.least
        )
        return above and isinstance(value, int | float) and value <= self.most and math.isfinite(value)

    def __str__(self) -> str:
        least = f"{'above' if self.without_least else 'from'} {self.least:g}"
        return f"a number {least}{f' to {self.most:g}' if math.isfinite(self.most) else ''}"


Limits = Mapping[str, Range | tuple[str, ...]]


def cli_name(option: str) -> str:
    """What users call an option of a head."""
    return WORD_OF.get(option, option)


def require_within(options: Mapping[str, Any], limits: Limits) -> None:
    """Refuse values that an option does not take; None stands for an option's own choice, and of several values each is looked at.

    Raises:
        HeadError: A value is out of its limits.
    """
    for name, limit in limits.items():
        values = options[name] if isinstance(options[name], tuple | list) else (options[name],)
        if not values:
            raise HeadError(f"{cli_name(name)} is empty: give one value or more")
        for value in values:
            if value is not None and value not in limit:
                wanted = str(limit) if isinstance(limit, Range) else f"one of {', '.join(limit)}"
                raise HeadError(f"{cli_name(name)} is {value!r}: {wanted} is wanted")


def option_kinds(head: type) -> dict[str, Any]:
    """The options that a user may give to a head, with their types; the seed is the repeat's."""
    hints = get_type_hints(head.__init__)  # type: ignore[misc]
    return {
        name: hints[name]
        for name in inspect.signature(head).parameters
        if name not in ("random_state", "text_width", "fusion")
    }


def typed(name: str, value: Any, kind: Any) -> Any:
    """An option's value from a text ("0.1", "none", "true", "a,b") or from a TOML or Python value.

    Args:
        name: The option.
        value: What was given.
        kind: The type that the head's signature states.

    Raises:
        HeadError: The value is not of that type.
    """
    try:
        return _converted(value, kind)
    except (ValueError, TypeError) as error:
        raise HeadError(f"{cli_name(name)} is {value!r}: {_kind_name(kind)} is wanted") from error


def as_given(value: Any) -> str:
    """The text that `typed` reads as this value."""
    if isinstance(value, tuple | list):
        return ",".join(map(as_given, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _converted(value: Any, kind: Any) -> Any:
    kinds = [one for one in get_args(kind) if one is not NoneType]
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_converted(part.strip() if isinstance(part, str) else part, kinds[0]) for part in parts)
    if NoneType in get_args(kind):
        return None if value is None or value == "none" else _converted(value, kinds[0])
    if kind is bool:
        return {"true": True, "false": False}[value] if value in ("true", "false") else _exactly(value, bool)
    if kind is str:
        return _exactly(value, str)
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    number = kind(value)
    if not isinstance(value, str) and number != value:
        raise ValueError("digits would be lost")
    return number


def _exactly(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"not of type {kind.__name__}")
    return value


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list of " + _kind_name(get_args(kind)[0]).removeprefix("a ") + "s, such as a,b"
    if NoneType in get_args(kind):
        return " or ".join([*(_kind_name(one) for one in get_args(kind) if one is not NoneType), "none"])
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]
