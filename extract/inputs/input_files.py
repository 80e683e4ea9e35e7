"""Files of inputs: keys as a NumPy array, places or texts as an Arrow file, both memory-mapped when read.

Arrow takes paths whose bytes are not UTF-8 as bytes only.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from tier4k.cache.atomic import publish
from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.text import shortened
from tier4k.extract.inputs.inputs import Inputs

VALUES = pa.schema([("value", pa.large_binary())])


def write_inputs(
    folder: Path,
    name: str,
    inputs: Inputs,
) -> str:
    """Write inputs, unless files with this content exist.

    Args:
        folder: The folder.
        name: Name of the inputs in the folder.
        inputs: The inputs.

    Returns:
        A digest of the content, which is part of the names of the files.

    Raises:
        OSError: The system refuses to write.
    """
    digest = _digest([inputs.keys, *_buffers(inputs.values)])
    values_file = folder / f"{name}-{digest}.arrow"
    if not values_file.exists():
        publish(values_file, lambda path: _write_values(path, inputs.values))
    write_array(folder, name, inputs.keys, digest)
    return digest


def read_inputs(
    folder: Path,
    name: str,
    digest: str,
) -> Inputs:
    """Return inputs that were written, memory-mapped.

    Raises:
        OSError, ValueError, pyarrow.ArrowException: A file is missing or damaged.
    """
    keys = read_keys(folder, name, digest)
    mapped = pa.memory_map(os.fsencode(folder / f"{name}-{digest}.arrow"))
    table = pa.ipc.open_file(mapped).read_all()
    if table.schema != VALUES:
        raise ValueError(f"{name} has columns of other names or types")
    table.validate(full=True)
    values = table["value"]
    if values.null_count:
        raise ValueError(f"{name} has empty values")
    if len(keys) != len(values):
        raise ValueError(f"{name} has {len(keys)} keys and {len(values)} values")
    return Inputs(keys, values)


def write_array(
    folder: Path,
    name: str,
    array: np.ndarray,
    digest: str | None = None,
) -> str:
    """Write an array, unless a file with this content exists; return the digest of the content.

    Raises:
        OSError: The system refuses to write.
    """
    digest = digest or _digest([array])
    file = folder / f"{name}-{digest}.npy"
    if not file.exists():
        publish(file, lambda path: np.save(path, array, allow_pickle=False))
    return digest


def read_array(
    folder: Path,
    name: str,
    digest: str,
) -> np.ndarray:
    """Return an array that was written, memory-mapped.

    Raises:
        OSError: The file is missing.
        ValueError: The file is empty or damaged.
    """
    path = folder / f"{name}-{digest}.npy"
    try:
        # Not `np.load`, which opens whatever begins like a zip archive as one.
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # NumPy evaluates the header, which raises errors of many classes
        raise ValueError(f"{path} is no array of NumPy: {shortened(error)}") from error


def read_keys(
    folder: Path,
    name: str,
    digest: str,
) -> np.ndarray:
    """Return keys (N, 32) that were written, memory-mapped.

    Raises:
        OSError, ValueError: The file is missing, damaged, or holds no keys.
    """
    keys = read_array(folder, name, digest)
    if keys.dtype != np.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES:
        raise ValueError(f"{name} has no keys, but an array {keys.shape} of {keys.dtype}")
    return keys


def read_numbers(
    folder: Path,
    name: str,
    digest: str,
    limits: Sequence[int],
    least: Sequence[int],
) -> np.ndarray:
    """Return rows of numbers (len(limits), N) that were written, memory-mapped.

    Args:
        folder: The folder.
        name: Name of the array in the folder.
        digest: Digest of its content.
        limits: The first number that is too large, of each row.
        least: The least number of each row.

    Raises:
        OSError, ValueError: The file is missing, damaged, or holds other numbers.
    """
    numbers = read_array(folder, name, digest)
    if numbers.dtype.kind != "i" or numbers.ndim != 2 or len(numbers) != len(limits):
        raise ValueError(f"{name} has no numbers of inputs, but an array {numbers.shape} of {numbers.dtype}")
    for row, limit, smallest in zip(numbers, limits, least, strict=True):
        if row.size and not smallest <= row.min() <= row.max() < limit:
            raise ValueError(f"{name} has the number {row.max()}, and there are {limit} inputs")
    return numbers


def _write_values(path: Path, values: pa.ChunkedArray) -> None:
    with pa.OSFile(os.fsencode(path), "wb") as file, pa.ipc.new_file(file, VALUES) as writer:
        for chunk in values.chunks:
            writer.write_batch(pa.record_batch([chunk], schema=VALUES))


def _buffers(values: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """Yield the bytes of all chunks, and where each chunk begins in its buffers."""
    for chunk in values.chunks:
        yield np.array([chunk.offset, len(chunk)])
        for buffer in chunk.buffers():
            if buffer is not None:
                yield np.frombuffer(buffer, np.uint8)


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]
