"""Compaction keeps every row whatever happens meanwhile; stores of the same content become the same file."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.compact import Compaction, compact
from tier4k.cache.errors import StoreError
from tier4k.cache.index import INDEX_FILE
from tier4k.cache.keys import sortable
from tier4k.cache.new_shard import write_blocks, write_shard
from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import ShardError
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import verify
from tier4k.tests.builders.stores import (
    REPOSITORY,
    SIGNATURE,
    assert_features_follow_from_keys,
    create_store,
    features_of,
    file_contents,
    let_run,
    number_keys,
    start_program,
    write_rows,
)

WRITER = """
import sys
from pathlib import Path
from tier4k.cache import index
from tier4k.cache.compact import compact
from tier4k.tests.builders.stores import create_store, write_rows
index.SHARDS_IN_MEMORY = 3  # so that stores have index files
root = Path(sys.argv[1])
start, stop = map(int, sys.argv[2:4])
compacts = sys.argv[4] == "compact"
print("ready", flush=True)
sys.stdin.readline()
for first in range(start, stop, 10):
    store = create_store(root)
    write_rows(store, range(first, first + 10), 3)
    if compacts:
        compact(store, range_bytes=24 * 40)
    print(first, flush=True)
"""
COMPACTION = """
import sys
from pathlib import Path
from tier4k.cache.compact import compact
from tier4k.cache.errors import StoreError
from tier4k.tests.builders.stores import create_store
try:
    compact(create_store(Path(sys.argv[1])))
except StoreError as error:
    print("refused:", error)
"""


def filled(root: Path, numbers: Sequence[int], shard_rows: int) -> FeatureStore:
    store = create_store(root)
    write_rows(store, numbers, shard_rows)
    return FeatureStore.open(store.path)


def assert_holds(store: FeatureStore, numbers: Sequence[int]) -> None:
    assert store.holds(number_keys(numbers)).all()
    assert_features_follow_from_keys(store)


def disk_full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_many_shards_become_one_in_the_order_of_the_keys(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    write_rows(store, range(15, 25), 4)
    done = compact(store)
    assert done == Compaction(store.path, shards=10, rows=25, doubles=5, paths=done.paths)
    (path,) = done.paths
    assert FeatureStore.open(store.path).files() == [path]
    flat = sortable(Shard.open(path).keys)
    assert (flat[1:] > flat[:-1]).all()
    assert_holds(FeatureStore.open(store.path), range(25))
    assert verify(FeatureStore.open(store.path)).damaged == {}


def test_the_same_content_becomes_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = filled(tmp_path / "one", range(30), 3)
    two = filled(tmp_path / "two", range(29, -1, -1), 7)
    write_rows(two, range(10), 5)
    (first,) = compact(one).paths
    monkeypatch.setattr("tier4k.cache.compact.BLOCK_BYTES", 100)
    (second,) = compact(two).paths
    assert first.name == second.name and first.read_bytes() == second.read_bytes()
    keys = FeatureStore.open(one.path).keys
    whole = write_shard(tmp_path, SIGNATURE.digest, keys, features_of(keys))
    assert whole.name == first.name and whole.read_bytes() == first.read_bytes()


ROW_BYTES = 24  # of features_of


def rows_of_each(paths: Sequence[Path]) -> list[int]:
    """The number of rows of each shard, whose keys must ascend over all of them."""
    keys = [sortable(Shard.open(path).keys) for path in paths]
    whole = np.concatenate(keys)
    assert (whole[1:] > whole[:-1]).all()
    return list(map(len, keys))


def test_a_large_store_becomes_one_shard_for_each_range_of_keys(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    done = compact(store, range_bytes=7 * ROW_BYTES + 5)
    assert rows_of_each(done.paths) == [7, 7, 6]
    assert done == Compaction(store.path, shards=7, rows=20, doubles=0, paths=done.paths)
    assert sorted(done.paths) == FeatureStore.open(store.path).files()
    assert_holds(FeatureStore.open(store.path), range(20))
    before = [path.stat() for path in done.paths]
    again = compact(store, range_bytes=7 * ROW_BYTES + 5)
    assert (again.paths, again.shards, again.doubles) == (done.paths, 3, 0)
    assert [path.stat() for path in done.paths] == before
    assert len(compact(store, range_bytes=20 * ROW_BYTES).paths) == 1
    assert rows_of_each(compact(store, range_bytes=1).paths) == [1] * 20
    assert_holds(FeatureStore.open(store.path), range(20))


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(
    order=st.permutations(range(12)),
    again=st.lists(st.integers(0, 11), max_size=6),
    shard_rows=st.integers(1, 13),
    rows=st.integers(1, 13),
    first_rows=st.integers(1, 13),
)
def test_equal_content_becomes_equal_files_whatever_it_was_before(
    order: list[int], again: list[int], shard_rows: int, rows: int, first_rows: int
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        plain = filled(Path(one), range(12), 12)
        mixed = filled(Path(two), order, shard_rows)
        compact(mixed, range_bytes=first_rows * ROW_BYTES)
        write_rows(mixed, again, shard_rows)
        for store in (plain, mixed):
            paths = compact(store, range_bytes=rows * ROW_BYTES).paths
            assert rows_of_each(paths) == [rows] * (12 // rows) + [12 % rows] * (12 % rows > 0)
        assert file_contents(plain.path) == file_contents(mixed.path)


def test_a_compaction_that_fails_at_any_range_keeps_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    old = set(store.files())
    write = write_blocks
    for ranges in range(4):
        calls = iter(range(ranges))

        def fail_later(*arguments: Any, calls: Iterator[int] = calls) -> Path:
            if next(calls, None) is None:
                disk_full()
            return write(*arguments)

        with monkeypatch.context() as full, pytest.raises(StoreError, match="No space left"):
            full.setattr("tier4k.cache.compact.write_blocks", fail_later)
            compact(store, range_bytes=5 * ROW_BYTES)
        assert old <= set(store.files())
        assert_holds(FeatureStore.open(store.path), range(20))
    assert rows_of_each(compact(store, range_bytes=5 * ROW_BYTES).paths) == [5] * 4
    assert_holds(FeatureStore.open(store.path), range(20))


def test_the_index_file_of_a_store_follows_its_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    monkeypatch.setattr("tier4k.cache.index.SHARDS_IN_MEMORY", 2)
    reader = FeatureStore.open(store.path)
    assert reader.holds(number_keys(range(20))).all() and (store.path / INDEX_FILE).exists()
    compact(store, range_bytes=5 * ROW_BYTES)
    assert (store.path / INDEX_FILE).exists()
    assert_holds(reader, range(20))
    compact(store, range_bytes=10 * ROW_BYTES)
    assert not (store.path / INDEX_FILE).exists()
    assert_holds(reader, range(20))


def test_of_two_rows_of_one_key_the_same_is_read_before_and_after_in_any_shard(tmp_path: Path) -> None:
    keys = number_keys(range(6))
    paths = []
    for number, order in enumerate([(0, 1), (1, 0)]):
        store = create_store(tmp_path / str(number))
        for value in order:
            features = np.full((6 - value, 3), value / 10, np.float32)
            write_shard(store.path, SIGNATURE.digest, keys[value:], features)
        before = FeatureStore.open(store.path).read(keys)
        paths += compact(store).paths
        np.testing.assert_array_equal(FeatureStore.open(store.path).read(keys), before)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_compact_store_and_an_empty_store_stay_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path)
    assert compact(store) == Compaction(store.path, shards=0, rows=0, doubles=0, paths=())
    write_rows(store, range(20), 3)
    (path,) = compact(store).paths
    before = path.stat()
    assert compact(store) == Compaction(store.path, shards=1, rows=20, doubles=0, paths=(path,))
    assert path.stat() == before


def test_a_shard_with_all_rows_of_the_others_stays(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    (path,) = compact(store).paths
    write_rows(store, range(5), 2)
    done = compact(store)
    assert (done.paths, done.shards, done.doubles) == ((path,), 4, 5)
    assert FeatureStore.open(store.path).files() == [path]
    assert_holds(FeatureStore.open(store.path), range(20))


def test_a_damaged_shard_stops_the_compaction_and_nothing_is_removed(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    shard = store.shards[3]
    with shard.path.open("r+b") as file:
        file.seek(shard.offset)
        file.write(b"damage")
    before = file_contents(store.path)
    with pytest.raises(ShardError, match=shard.path.name):
        compact(store)
    assert file_contents(store.path) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store = filled(tmp_path, range(20), 3)
    before = file_contents(store.path)
    with monkeypatch.context() as full, pytest.raises(StoreError, match="No space left.*\n.*intact"):
        full.setattr(os, call, disk_full)
        compact(store)
    assert file_contents(store.path) == before
    compact(store)
    assert_holds(FeatureStore.open(store.path), range(20))


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1000, 4000, 300_000])
def test_a_disk_that_is_full_while_hdf5_writes_keeps_everything(tmp_path: Path, limit: int) -> None:
    store = create_store(tmp_path)
    keys = number_keys(range(100))
    for part in (slice(0, 50), slice(50, 100)):
        narrow = features_of(keys[part]).reshape(50, 6)
        wide = np.repeat(narrow, 300, axis=1)
        write_shard(store.path, SIGNATURE.digest, keys[part], wide)
    before = file_contents(store.path)

    def limit_file_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", COMPACTION, str(tmp_path)],
        cwd=REPOSITORY,
        preexec_fn=limit_file_size,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.startswith("refused: cannot write to"), done
    assert file_contents(store.path) == before


def test_a_reader_that_was_open_before_continues(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    keys = number_keys(range(20))
    assert store.holds(keys).all()
    compact(store)
    np.testing.assert_array_equal(store.read(keys), features_of(keys))
    assert len(store.shards) == 1


def test_reading_all_blocks_during_a_compaction_gives_every_row_once(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    blocks = store.blocks()
    read = [next(blocks)]
    write_rows(store, range(20, 30), 3)
    compact(store)
    read += blocks
    keys = np.concatenate([keys for keys, _ in read])
    assert sorted(map(bytes, keys)) == sorted(map(bytes, number_keys(range(30))))
    np.testing.assert_array_equal(np.concatenate([features for _, features in read]), features_of(keys))


def compacting_first(original: Callable[[Path], Shard], store: FeatureStore) -> Callable[[Path], Shard]:
    """`Shard.open` that compacts the store before its first call."""
    calls = iter([compact])

    def open_shard(path: Path) -> Shard:
        for call in calls:
            call(store)
        return original(path)

    return open_shard


def test_a_compaction_between_listing_and_opening_is_not_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    monkeypatch.setattr(Shard, "open", compacting_first(Shard.open, store))
    assert_holds(FeatureStore.open(store.path), range(20))


def test_a_compaction_during_verification_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    monkeypatch.setattr(Shard, "open", compacting_first(Shard.open, store))
    found = verify(store)
    assert (found.sound, found.rows, found.damaged) == (1, 20, {})


def test_a_shard_that_is_written_during_a_compaction_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    read = FeatureStore.read_places

    def write_before(self: FeatureStore, places: np.ndarray) -> np.ndarray:
        write_rows(store, range(20, 25), 5)
        return read(self, places)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "read_places", write_before)
        compact(store)
    assert len(store.files()) == 2
    assert_holds(FeatureStore.open(store.path), range(25))


@pytest.mark.slow
def test_a_compaction_that_is_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    for seed in range(4):
        moment = random.Random(seed)
        first = seed * 10**6
        process = start_program(WRITER, tmp_path, first, first + 10**6, "compact")
        let_run(process)
        for _ in range(moment.randint(1, 4)):
            last = int(process.stdout.readline())
        time.sleep(moment.uniform(0, 0.06))
        process.kill()
        process.communicate()
        assert_holds(create_store(tmp_path), range(first, last + 10))
    store = create_store(tmp_path)
    rows = compact(store).rows
    assert len(store.files()) == 1 and len(FeatureStore.open(store.path).keys) == rows
    assert_holds(FeatureStore.open(store.path), range(10))
    assert not list(store.path.glob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.slow
def test_two_compactions_and_two_writers_and_a_reader_at_once(tmp_path: Path) -> None:
    write_rows(create_store(tmp_path), range(10), 3)
    processes = [
        start_program(WRITER, tmp_path, 0, 80, "compact"),
        start_program(WRITER, tmp_path, 0, 80, "compact"),
        start_program(WRITER, tmp_path, 50, 160, "write"),
    ]
    for process in processes:
        let_run(process)
    opened = create_store(tmp_path)
    while any(process.poll() is None for process in processes):
        assert_holds(opened, range(10))
        assert_holds(create_store(tmp_path), range(10))
    for process in processes:
        assert process.wait() == 0, process.stderr.read()
        process.communicate()
    store = create_store(tmp_path)
    assert_holds(store, range(160))
    assert compact(store).rows == 160 and len(store.files()) == 1


def test_two_compactions_of_one_store_at_once(tmp_path: Path) -> None:
    store = filled(tmp_path, range(60), 2)
    threads = [threading.Thread(target=compact, args=(store,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.files()) == 1
    assert_holds(FeatureStore.open(store.path), range(60))
