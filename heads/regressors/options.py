"""Options of heads: valid values, and the conversion of a user's text to a value."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from tier4k.cache.errors import TierError

# The command line has other names for these options of heads: the first two are those of TIER-4K. The third
# cannot be an attribute `transform`, as scikit-learn takes objects with this attribute for transformers.
CLI_NAME_OF = {"batch_size": "train_batch_size", "max_epochs": "epochs", "image_transform": "transform"}

OPTION_OF = {cli_name: option for option, cli_name in CLI_NAME_OF.items()}

# Parameters of an estimator that users do not set: the seed comes from the split, and the fusion from the
# head's name.
NOT_GIVEN_BY_USERS = ("random_state", "fusion")

BOOLEANS = {"true": True, "false": False}

TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


class HeadError(TierError, ValueError):
    """Raised for an option that a head does not have, or a value that is not valid for an option."""


@dataclass(frozen=True)
class Range:
    """Finite numbers from `least` to `most`; without `least` itself if `without_least` is true."""

    least: float
    most: float = math.inf
    without_least: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not -math.inf < value < math.inf:
            return False
        if self.without_least and value == self.least:
            return False
        return self.least <= value <= self.most

    def __str__(self) -> str:
        least = f"{'above' if self.without_least else 'from'} {self.least:g}"
        most = f" to {self.most:g}" if math.isfinite(self.most) else ""
        return f"a number {least}{most}"


@dataclass(frozen=True)
class Subset:
    """ "none", or one or more of some names with "+" between them, each once."""

    names: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        given = value.split("+")
        return value == "none" or (len(set(given)) == len(given) and set(given) <= set(self.names))

    def __str__(self) -> str:
        return f"none, or some of {', '.join(self.names)} with + between them"

    def canonical(self, value: str) -> str:
        """Return a valid value with the names in the order of `names`."""
        given = value.split("+")
        return "+".join(name for name in self.names if name in given) or "none"


Limit = Range | Subset | tuple[str, ...]

Limits = Mapping[str, Limit]
"""The valid numbers or names of each option."""


def cli_name(option: str) -> str:
    """Return the name of a head's option on the command line."""
    return CLI_NAME_OF.get(option, option)


def require_within(options: Mapping[str, Any], limits: Limits) -> None:
    """Refuse values that are not valid for their options.

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
            raise HeadError(f"{cli_name(name)} is empty: use one value or more")
        for value in values:
            _require_one_within(name, value, limit)


def _require_one_within(
    name: str,
    value: Any,
    limit: Limit,
) -> None:
    if value is None or value in limit:
        return
    valid_values = f"one of {', '.join(limit)}" if isinstance(limit, tuple) else str(limit)
    raise HeadError(f"{cli_name(name)} is {value!r}, which is not valid: use {valid_values}")


def canonical(options: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return valid options with one spelling of each value."""
    spelled = dict(options)
    for name, limit in limits.items():
        if isinstance(limit, Subset):
            spelled[name] = limit.canonical(options[name])
    return spelled


def option_types(head: type) -> dict[str, Any]:
    """Return the options of a head that a user can set, with the types in the head's signature."""
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
    """Convert a text ("0.1", "none", "true", "a,b"), or a TOML or Python value, to an option's value.

    Args:
        name: Name of the option, for the message.
        value: The given text or value.
        type_: The type that the head's signature states.

    Raises:
        HeadError: The value does not have the type.
    """
    try:
        return _convert(value, type_)
    except (ValueError, TypeError) as error:
        raise HeadError(
            f"{cli_name(name)} is {value!r}, which is not valid: use {_type_name(type_)}"
        ) from error


def option_text(value: Any) -> str:
    """Return the text that `parse_option` reads as this value."""
    if isinstance(value, tuple | list):
        return ",".join(map(option_text, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _convert(value: Any, type_: Any) -> Any:
    if get_origin(type_) is tuple:
        return _convert_list(value, get_args(type_)[0])
    if NoneType in get_args(type_):
        is_none = value is None or value == "none"
        return None if is_none else _convert(value, _without_none(type_)[0])
    if type_ is bool and value in ("true", "false"):
        return BOOLEANS[value]
    if type_ in (bool, str):
        return _require_type(value, type_)
    return _convert_number(value, type_)


def _convert_list(value: Any, type_: Any) -> tuple[Any, ...]:
    entries = []
    for part in value.split(",") if isinstance(value, str) else value:
        text_or_value = part.strip() if isinstance(part, str) else part
        entries.append(_convert(text_or_value, type_))
    return tuple(entries)


def _convert_number(value: Any, type_: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number")
    try:
        number = type_(value)
    except OverflowError as error:
        raise ValueError("larger than every number of its type") from error
    if not isinstance(value, str) and number != value:
        raise ValueError("digits would be lost")
    return number


def _require_type(value: Any, type_: type) -> Any:
    if not isinstance(value, type_):
        raise TypeError(f"not of type {type_.__name__}")
    return value


def _without_none(type_: Any) -> list[Any]:
    return [member for member in get_args(type_) if member is not NoneType]


def _type_name(type_: Any) -> str:
    if get_origin(type_) is tuple:
        entry = _type_name(get_args(type_)[0]).removeprefix("a ")
        example = "1,10" if entry in ("number", "whole number") else "a,b"
        return f'a list of {entry}s in one text, such as "{example}"'
    if NoneType in get_args(type_):
        names = [_type_name(member) for member in _without_none(type_)]
        return " or ".join([*names, "none"])
    return TYPE_NAMES[type_]
