"""The bytes that an extraction will write, and whether the disk has room for them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tier4k.cache.errors import StoreError
from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.signature import Signature
from tier4k.cache.write_errors import explain_write_errors

CHECK_BYTES = 8  # of the check of a row, beside its key
RESERVE_BYTES = 200 * 10**6  # that stay free: for records, the headers of files, and other programs

OTHER_FOLDER = "a folder on another file system as --features"


@dataclass(frozen=True)
class PlannedRows:
    """Rows that an extraction will add to a store.

    Attributes:
        signature: Signature of the store.
        rows: Number of inputs to encode.
        shape: Shape of the features of one input, (D,), or (V, D) for V > 1 crops of an image.
    """

    signature: Signature
    rows: int
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return a line for the user."""
        signature = self.signature
        sizes = ["1 input" if self.rows == 1 else f"{self.rows:,} inputs"]
        if len(self.shape) > 1:
            sizes.append(f"{self.shape[0]:,} crops")
        sizes.append(f"{self.shape[-1]:,} numbers in {signature.dtype}")
        size = _short(bytes_to_write([self]))
        return f"{signature.stream} {signature.encoder}: {size} to write ({' of '.join(sizes)}, and keys)"


def bytes_to_write(planned: Sequence[PlannedRows]) -> int:
    """Return the bytes of the features of all rows, with the key and the check of each row."""
    total = 0
    for one in planned:
        features = prod(one.shape) * np.dtype(one.signature.dtype).itemsize
        total += one.rows * (features + KEY_BYTES + CHECK_BYTES)
    return total


def require_disk_space(root: Path, planned: Sequence[PlannedRows]) -> None:
    """Refuse rows for which the file system has no room, beside a reserve of `RESERVE_BYTES`.

    Args:
        root: Folder of stores, which need not exist yet.
        planned: The rows of all stores.

    Raises:
        StoreError: The room is too small, or the system does not report it.
    """
    needed = bytes_to_write(planned)
    with explain_write_errors(root):
        free = shutil.disk_usage(_existing_folder(root)).free
    if needed + RESERVE_BYTES <= free:
        return
    ways = [OTHER_FOLDER, *(_smaller(planned) if free > RESERVE_BYTES else ())]
    raise StoreError(
        f"the features take {_exact(needed)} and {_short(RESERVE_BYTES)} must stay free, but the file system "
        f"of {root} has only {_exact(free)} free: free some space, or pass {', or '.join(ways)}"
    )


def _existing_folder(path: Path) -> Path:
    """Return a path, or the nearest folder around it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _smaller(planned: Sequence[PlannedRows]) -> list[str]:
    """Return the options of `tier extract` that need less room for these rows."""
    ways = []
    if any(one.signature.dtype == "float32" and one.signature.stream != "score" for one in planned):
        ways.append("--store-dtype float16 (half of the bytes)")
    if any(len(one.shape) > 1 for one in planned):
        ways.append("fewer --crops")
    return ways


def _exact(size: int) -> str:
    return f"{_short(size)} ({size:,} bytes)"


def _short(size: int) -> str:
    for unit, length in (("GB", 1e9), ("MB", 1e6)):
        if size >= length:
            return f"{size / length:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"
