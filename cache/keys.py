"""Keys: the SHA-256 of an input's bytes. A renamed image keeps its key, an edited one does not."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

KEY_BYTES = 32


def bytes_key(data: bytes) -> bytes:
    """Return the key of an input given as bytes: their SHA-256."""
    return hashlib.sha256(data).digest()


def text_key(text: str) -> bytes:
    """Return the key of a text: the SHA-256 of the text in UTF-8."""
    return bytes_key(text.encode("utf-8"))


def pair_key(first: bytes, second: bytes) -> bytes:
    """Return the key of a pair: the SHA-256 of the concatenated keys of both inputs."""
    return bytes_key(first + second)


def file_key(path: Path) -> bytes:
    """Return the SHA-256 of the bytes of a file, which is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def key_array(keys: Iterable[bytes]) -> np.ndarray:
    """Stack 32-byte keys into an array (N, 32) uint8."""
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)


def sortable(keys: np.ndarray) -> np.ndarray:
    """View keys (N, 32) uint8 as (N,) byte strings, which numpy can sort and search."""
    return np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").reshape(-1)
