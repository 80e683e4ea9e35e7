"""Files that operating systems and programs leave in folders, which are not data."""

from pathlib import Path

CLUTTER = frozenset(("thumbs.db", "desktop.ini"))


def is_clutter(path: Path) -> bool:
    """Return whether a file is no data: a lock file of a spreadsheet program, a hidden file, `Thumbs.db`."""
    return is_clutter_name(path.name)


def is_clutter_name(name: str) -> bool:
    """Return whether a file with this name, without folders, is no data."""
    return name.startswith((".", "~$")) or name.lower() in CLUTTER
