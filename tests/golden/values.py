"""Golden values: what the program computed when they were recorded, kept as JSON beside the tests.

Values are nested dicts whose leaves are texts, numbers, or lists of numbers. NaN is kept as null.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
DIGITS = 10  # significant ones that are kept


def read_values(name: str) -> dict[str, Any]:
    """The recorded values of tests/golden/<name>.json."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def write_values(name: str, values: dict[str, Any]) -> Path:
    """Record values, one line for each leaf, and return the file."""
    path = FOLDER / f"{name}.json"
    path.write_text(_as_json(values, indent=0) + "\n", encoding="utf-8")
    return path


def require_equal(found: Any, recorded: Any, remedy: str) -> None:
    """Fail with every leaf that differs from the recorded one."""
    require_close(found, recorded, 0.0, remedy)


def require_close(found: Any, recorded: Any, tolerance: float, remedy: str) -> None:
    """Fail with every leaf that differs from the recorded one.

    Args:
        found: What the program computes now.
        recorded: What it computed when the values were recorded.
        tolerance: Largest difference between two numbers, as a share of the largest number of their list.
            Texts and whole numbers have to be equal.
        remedy: What to do about a difference; ends the message.
    """
    lines = _differences("", found, recorded, tolerance)
    if lines:
        raise AssertionError("\n".join([*lines, remedy]))


def _differences(place: str, found: Any, recorded: Any, tolerance: float) -> list[str]:
    if isinstance(found, dict) and isinstance(recorded, dict):
        lines = []
        for name in {**recorded, **found}:
            inner = f"{place} / {name}" if place else str(name)
            if name not in found:
                lines.append(f"{inner}: is recorded and no longer computed")
            elif name not in recorded:
                lines.append(f"{inner}: is computed and not recorded")
            else:
                lines += _differences(inner, found[name], recorded[name], tolerance)
        return lines
    if _is_close(found, recorded, tolerance):
        return []
    return [f"{place}: {_as_json(found, 0)} is computed, {_as_json(recorded, 0)} is recorded"]


def _is_close(found: Any, recorded: Any, tolerance: float) -> bool:
    exact = not _is_inexact(found) and not _is_inexact(recorded)
    if exact or isinstance(found, str) or isinstance(recorded, str):
        return _plain(found) == recorded
    one, other = np.array(found, dtype=float), np.array(recorded, dtype=float)
    if one.shape != other.shape:
        return False
    scale = np.max(np.abs(other[np.isfinite(other)]), initial=0.0)
    rounding = 10.0 ** (1 - DIGITS)
    return np.allclose(one, other, rtol=0, atol=(tolerance + rounding) * scale, equal_nan=True)


def _is_inexact(value: Any) -> bool:
    """Whether a leaf holds numbers that rounding may change."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    if isinstance(value, list | tuple):
        return any(_is_inexact(one) for one in value)
    return value is None or isinstance(value, float | np.floating)


def _plain(value: Any) -> Any:
    """A leaf as JSON gives it back."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _as_json(value: Any, indent: int) -> str:
    if isinstance(value, dict):
        margin = " " * (indent + 1)
        entries = [
            f"{margin}{json.dumps(str(name))}: {_as_json(inner, indent + 1)}" for name, inner in value.items()
        ]
        return "{\n" + ",\n".join(entries) + "\n" + " " * indent + "}"
    return json.dumps(_rounded(_plain(value)), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
