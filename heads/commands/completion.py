"""Completion of values in the shell, for options that take known names and others."""

from collections.abc import Callable, Iterable


def choices(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes a value to one of some names."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        """Return the names that begin as the incomplete value does."""
        return [name for name in known if name.startswith(incomplete)]

    return complete
