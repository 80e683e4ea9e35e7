"""Removal of whole stores."""

import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from tier4k.cache.write_errors import explain_write_errors

REMOVED_PREFIX = ".tier4k-removed-"  # of the folders of stores that are being removed


def remove_store(path: Path) -> None:
    """Remove the folder of a store, or one of `unfinished_removals`.

    The folder is renamed first, so that no other process reads a store that is partly removed.

    Raises:
        StoreError: The system refuses the removal.
    """
    renamed = path.with_name(f"{REMOVED_PREFIX}{secrets.token_hex(8)}")
    with explain_write_errors(path):
        with suppress(FileNotFoundError):  # another process removed it
            path.rename(renamed)
        _remove_folder(renamed)


def unfinished_removals(root: Path) -> list[Path]:
    """Return folders under `root` whose removal was interrupted, or is running in another process."""
    return sorted(root.glob(f"{REMOVED_PREFIX}*"))


def _remove_folder(path: Path) -> None:
    # Another process may remove the same folder, so missing files are not an error.
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)
