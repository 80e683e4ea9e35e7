"""Export of a store as one file for other programs, in bounded memory."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tier4k.cache.atomic import publish, require_suffix
from tier4k.cache.errors import StoreError
from tier4k.cache.store import FeatureStore
from tier4k.cache.write_errors import explain_write_errors

ROWS_AT_ONCE = 8192


def export(
    store: FeatureStore,
    path: Path,
    names: Mapping[bytes, str],
) -> int:
    """Write the distinct rows of a store in the order of their keys, and return their number.

    Args:
        store: A store that is not empty.
        path: `.npz`: arrays `key` (N,) hexadecimal, `name` (N,) and `features` (N, ...);
            `.parquet`: columns `key`, `name`, `x0` to `x<D-1>`.
        names: Readable names by key; "" is written for keys without a name.

    Raises:
        StoreError: The suffix is not supported, the store is empty, the format is `.parquet` but the store
            contains several crops of each input, or the file cannot be written.
    """
    require_suffix(path, tuple(WRITERS), StoreError)
    shape = store.shape
    if path.suffix == ".parquet" and len(shape) > 1:
        raise StoreError(
            f"{store.path} contains {shape[0]} crops of each image, which do not fit into a table: "
            "pass a file that ends in .npz"
        )
    keys = store.keys
    names_in_order = [names.get(bytes(key), "") for key in keys]
    write = WRITERS[path.suffix]
    with explain_write_errors(path):
        publish(path, lambda temporary: write(temporary, store, keys, names_in_order))
    return len(keys)


def _blocks(store: FeatureStore, keys: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(keys), ROWS_AT_ONCE):
        yield store.read(keys[start : start + ROWS_AT_ONCE])


def _hexadecimal(keys: np.ndarray) -> list[str]:
    return [bytes(key).hex() for key in keys]


def _write_npz(
    path: Path,
    store: FeatureStore,
    keys: np.ndarray,
    names: Sequence[str],
) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        _add_array(archive, "key", np.array(_hexadecimal(keys)))
        _add_array(archive, "name", np.array(names, dtype=str))
        _add_features(archive, store, keys)


def _add_array(
    archive: zipfile.ZipFile,
    name: str,
    array: np.ndarray,
) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.save(member, array)


def _add_features(
    archive: zipfile.ZipFile,
    store: FeatureStore,
    keys: np.ndarray,
) -> None:
    shard = store.shards[0]
    header = {
        "descr": shard.dtype.str,
        "fortran_order": False,
        "shape": (len(keys), *shard.shape),
    }
    with archive.open("features.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for block in _blocks(store, keys):
            member.write(block.data)


def _write_parquet(
    path: Path,
    store: FeatureStore,
    keys: np.ndarray,
    names: Sequence[str],
) -> None:
    schema = _schema(store)
    start = 0
    # Arrow opens no path whose bytes are not UTF-8.
    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        for block in _blocks(store, keys):
            part = slice(start, start + len(block))
            columns = np.ascontiguousarray(block.T)
            arrays = [_hexadecimal(keys[part]), names[part], *columns]
            writer.write_table(pa.table(arrays, schema=schema))
            start += len(block)


def _schema(store: FeatureStore) -> pa.Schema:
    shard = store.shards[0]
    dtype = pa.from_numpy_dtype(shard.dtype)
    features = [(f"x{number}", dtype) for number in range(shard.shape[0])]
    return pa.schema([("key", pa.string()), ("name", pa.string()), *features])


WRITERS = {".npz": _write_npz, ".parquet": _write_parquet}
