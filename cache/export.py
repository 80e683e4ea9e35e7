"""Writing a store as one file for other programs, in bounded memory."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tier4k.cache.atomic import publish, require_suffix
from tier4k.cache.errors import TierError
from tier4k.cache.store import FeatureStore, writing

ROWS_AT_ONCE = 8192


class ExportError(TierError):
    """A store that cannot be written to such a file."""


def export(store: FeatureStore, path: Path, names: Mapping[bytes, str]) -> int:
    """Write the distinct rows of a store in the order of their keys, and return how many there are.

    Args:
        store: What to write.
        path: `.npz`: arrays `key` (N,) hexadecimal, `name` (N,) and `features` (N, ...);
            `.parquet`: columns `key`, `name`, `x0` to `x<D-1>`.
        names: What each key is called; "" is written for keys that are not in it.

    Raises:
        ExportError: Another suffix, an empty store, or a store of several views as `.parquet`.
        StoreError: The file cannot be written.
    """
    require_suffix(path, tuple(WRITERS), ExportError)
    if not store.shards:
        raise ExportError(f"{store.path} is empty: run `tier extract` first")
    if path.suffix == ".parquet" and len(store.shards[0].shape) > 1:
        raise ExportError(
            f"{store.path} holds {store.shards[0].shape[0]} views of each picture, a table has no room for them: give .npz"
        )
    keys = store.keys
    with writing(path):
        publish(
            path,
            lambda temporary: WRITERS[path.suffix](
                temporary, store, keys, [names.get(bytes(key), "") for key in keys]
            ),
        )
    return len(keys)


def _blocks(store: FeatureStore, keys: np.ndarray) -> Iterator[np.ndarray]:
    return (store.read(keys[start : start + ROWS_AT_ONCE]) for start in range(0, len(keys), ROWS_AT_ONCE))


def _write_npz(path: Path, store: FeatureStore, keys: np.ndarray, names: list[str]) -> None:
    def add(name: str, write: Callable[[IO[bytes]], object]) -> None:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            write(member)

    def write_features(member: IO[bytes]) -> None:
        shard = store.shards[0]
        header = {"descr": shard.dtype.str, "fortran_order": False, "shape": (len(keys), *shard.shape)}
        np.lib.format.write_array_header_1_0(member, header)
        for block in _blocks(store, keys):
            member.write(block.data)

    with zipfile.ZipFile(path, "w") as archive:
        add("key", lambda member: np.save(member, np.array([bytes(key).hex() for key in keys])))
        add("name", lambda member: np.save(member, np.array(names, dtype=str)))
        add("features", write_features)


def _write_parquet(path: Path, store: FeatureStore, keys: np.ndarray, names: list[str]) -> None:
    columns = [f"x{number}" for number in range(store.shards[0].shape[0])]
    kinds = pa.from_numpy_dtype(store.shards[0].dtype)
    schema = pa.schema([("key", pa.string()), ("name", pa.string()), *((name, kinds) for name in columns)])
    with pq.ParquetWriter(path, schema) as writer:
        for number, block in enumerate(_blocks(store, keys)):
            part = slice(number * ROWS_AT_ONCE, number * ROWS_AT_ONCE + len(block))
            hexadecimal = [bytes(key).hex() for key in keys[part]]
            writer.write_table(
                pa.table([hexadecimal, names[part], *np.ascontiguousarray(block.T)], schema=schema)
            )


WRITERS = {".npz": _write_npz, ".parquet": _write_parquet}
