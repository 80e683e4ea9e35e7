"""Options of users' estimators, whose types are not declared: their values as texts.

A text such as "0.1", "true", "none" or "(100, 50)" stands for a Python literal, and any other text for
itself. Quotes make a text of what would be another literal: "'5'" is the text 5.
"""

import ast
import math
from collections.abc import Mapping
from typing import Any

WORDS = {"true": True, "false": False, "none": None}


def parse_literal(value: Any) -> Any:
    """Return the value that a text stands for; other values stay as they are."""
    if not isinstance(value, str):
        return value
    if value in WORDS:
        return WORDS[value]
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
    return parsed if is_literal(parsed) else value


def literal_text(value: Any) -> str:
    """Return a text that `parse_literal` reads as this value."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and parse_literal(value) == value:
        return value
    return repr(value)


def is_literal(value: Any) -> bool:
    """Whether a value can be an option: none, a truth value, a finite number, a text, or a list of these."""
    if isinstance(value, tuple | list):
        return all(map(is_literal, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


def literals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that can be options; numbers of NumPy become Python's."""
    options = {}
    for name, value in values.items():
        plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        if is_literal(plain):
            options[name] = plain
    return options
