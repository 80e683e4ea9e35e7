"""Options of heads: the values that they take, and the conversion of a user's text to a value."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from tier4k.cache.errors import TierError

# TIER-4K and this command line have other names for these options of heads.
CLI_NAME_OF = {"batch_size": "train_batch_size", "max_epochs": "epochs"}

OPTION_OF = {cli_name: option for option, cli_name in CLI_NAME_OF.items()}

# Parameters of an estimator that users do not give: the split has the seed, the features have the text's
# width, and the head's name fixes the fusion.
NOT_GIVEN_BY_USERS = ("random_state", "text_width", "fusion")

BOOLEANS = {"true": True, "false": False}

TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


class HeadError(TierError, ValueError):
    """An option that a head does not have, or a value that an option does not take."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least`, which `without_least` leaves out, to `most`."""

    least: float
    most: float = math.inf
    without_least: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.without_least and value == self.least:
            return False
        return self.least <= value <= self.most

    def __str__(self) -> str:
        least = f"{'above' if self.without_least else 'from'} {self.least:g}"
        most = f" to {self.most:g}" if math.isfinite(self.most) else ""
        return f"a number {least}{most}"


Limits = Mapping[str, Range | tuple[str, ...]]
"""For each option the numbers or the names that it takes."""


def cli_name(option: str) -> str:
    """The name of a head's option on the command line."""
    return CLI_NAME_OF.get(option, option)


def require_within(options: Mapping[str, Any], limits: Limits) -> None:
    """Refuse values that an option does not take.

    None is always allowed, and every entry of a list is checked.

    Args:
        options: Values of the options by name.
        limits: Limits of the options; options without limits are not checked.

    Raises:
        HeadError: A value is out of its limits, or a list is empty.
    """
    for name, limit in limits.items():
        given = options[name]
        values = given if isinstance(given, tuple | list) else (given,)
        if not values:
            raise HeadError(f"{cli_name(name)} is empty: give one value or more")
        for value in values:
            _require_one_within(name, value, limit)


def _require_one_within(
    name: str,
    value: Any,
    limit: Range | tuple[str, ...],
) -> None:
    if value is None or value in limit:
        return
    wanted = str(limit) if isinstance(limit, Range) else f"one of {', '.join(limit)}"
    raise HeadError(f"{cli_name(name)} is {value!r}: {wanted} is wanted")


def option_types(head: type) -> dict[str, Any]:
    """The options that a user may give to a head, with the types that its signature states."""
    hints = get_type_hints(head.__init__)  # type: ignore[misc]
    types = {}
    for name in inspect.signature(head).parameters:
        if name not in NOT_GIVEN_BY_USERS:
            types[name] = hints[name]
    return types


def parse_option(
    name: str,
    value: Any,
    type_: Any,
) -> Any:
    """An option's value from a text ("0.1", "none", "true", "a,b") or from a TOML or Python value.

    Args:
        name: The option, for the message.
        value: The given text or value.
        type_: The type that the head's signature states.

    Raises:
        HeadError: The value is not of that type.
    """
    try:
        return _converted(value, type_)
    except (ValueError, TypeError) as error:
        raise HeadError(f"{cli_name(name)} is {value!r}: {_type_name(type_)} is wanted") from error


def option_text(value: Any) -> str:
    """The text that `parse_option` reads as this value."""
    if isinstance(value, tuple | list):
        return ",".join(map(option_text, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _converted(value: Any, type_: Any) -> Any:
    if get_origin(type_) is tuple:
        return _converted_list(value, get_args(type_)[0])
    if NoneType in get_args(type_):
        is_none = value is None or value == "none"
        return None if is_none else _converted(value, _without_none(type_)[0])
    if type_ is bool and value in ("true", "false"):
        return BOOLEANS[value]
    if type_ in (bool, str):
        return _require_type(value, type_)
    return _converted_number(value, type_)


def _converted_list(value: Any, type_: Any) -> tuple[Any, ...]:
    entries = []
    for part in value.split(",") if isinstance(value, str) else value:
        text_or_value = part.strip() if isinstance(part, str) else part
        entries.append(_converted(text_or_value, type_))
    return tuple(entries)


def _converted_number(value: Any, type_: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError("a truth value is no number")
    number = type_(value)
    if not isinstance(value, str) and number != value:
        raise ValueError("digits would be lost")
    return number


def _require_type(value: Any, type_: type) -> Any:
    if not isinstance(value, type_):
        raise TypeError(f"not of type {type_.__name__}")
    return value


def _without_none(type_: Any) -> list[Any]:
    return [one for one in get_args(type_) if one is not NoneType]


def _type_name(type_: Any) -> str:
    if get_origin(type_) is tuple:
        entry = _type_name(get_args(type_)[0]).removeprefix("a ")
        return f"a list of {entry}s, such as a,b"
    if NoneType in get_args(type_):
        names = [_type_name(one) for one in _without_none(type_)]
        return " or ".join([*names, "none"])
    return TYPE_NAMES[type_]
