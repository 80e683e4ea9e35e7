"""Ranges of options: numbers that are too small or too large are refused."""

import math
from collections.abc import Callable

import typer


def within(limits: tuple[int, int]) -> Callable[[int | None], int | None]:
    """Return what checks a number, as the callback of an option; typer would show long ranges in the help.

    Args:
        limits: The least and the largest value.
    """
    least, most = limits

    def check(value: int | None) -> int | None:
        """Return the value.

        Raises:
            typer.BadParameter: It is out of range.
        """
        if value is not None and not least <= value <= most:
            raise typer.BadParameter(
                f"{value} is out of range: pass a whole number from {least:,} to {most:,}"
            )
        return value

    return check


def not_negative(value: float | None) -> float | None:
    """Return a number, as the callback of an option.

    Raises:
        typer.BadParameter: It is negative or not finite.
    """
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter(f"{value} is out of range: pass a number of 0 or more")
    return value
