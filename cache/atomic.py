"""Files that are there whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def publish(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in its own folder, fsync it, then rename it to `path`.

    Args:
        path: The final name; an existing file of that name is replaced in one step.
        write: Called with the temporary path; must leave a closed file there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        _make_readable(temporary)
        _fsync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync(path.parent)


def publish_text(path: Path, text: str) -> None:
    """Publish `text` in UTF-8."""
    publish(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def publish_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Fill a temporary sibling folder, then rename it to `folder`, which must not exist yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder.parent) as name:
        filled = Path(name) / folder.name
        filled.mkdir()
        fill(filled)
        for file in filled.rglob("*"):
            _fsync(file)
        os.replace(filled, folder)
    _fsync(folder.parent)


def _make_readable(path: Path) -> None:
    # mkstemp makes files that only their owner reads; a published file follows the umask like any other.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
