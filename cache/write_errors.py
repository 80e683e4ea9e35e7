"""Errors of the operating system while files are written, as errors with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tier4k.cache.errors import StoreError


@contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Turn a failed write to `path` (disk full, no permission, missing folder) into an error with a remedy.

    Raises:
        StoreError: The system refuses to write.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(
            f"cannot write to {path}: {_no_folder(path)} is not a folder.\n"
            "Files that were written before are intact. "
            "Remove it or name another folder, and run the same command again."
        ) from error
    except (OSError, SafetensorError) as error:  # safetensors raises this class for errors of the system
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"cannot write to {path}: {reason}.\n"
            "Files that were written before are intact. "
            "Fix the cause (space, permission) and run the same command again."
        ) from error


def _no_folder(path: Path) -> Path:
    """Return the outermost part of a path that exists and is no folder."""
    for part in (*reversed(path.parents), path):
        if not part.is_dir() and (part.exists() or part.is_symlink()):
            return part
    return path


@contextmanager
def explain_store_write_errors(path: Path) -> Iterator[None]:
    """Turn a failed write to the folder of a store, or its removal meanwhile, into an error with a remedy.

    Raises:
        StoreError: The system refuses to write, or the store was removed.
    """
    with explain_write_errors(path):
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                f"cannot write to {path}: the store was removed while it was written to; "
                "run the same command again"
            ) from error
