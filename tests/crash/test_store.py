"""Whatever happens to the process or the disk, a store opens and returns what was published."""

import errno
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.errors import StoreError
from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.stores import (
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
from tier4k.tests.builders.stores import create_store, write_rows
root = Path(sys.argv[1])
shard_rows, start, stop = map(int, sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
for first in range(start, stop, shard_rows):
    write_rows(create_store(root), range(first, min(first + shard_rows, stop)))
    print(first, flush=True)
"""
INDEXER = """
import sys
from pathlib import Path
from tier4k.cache import index
from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.stores import create_store, number_keys
index.SHARDS_IN_MEMORY = 3
store = create_store(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for turn in range(10**6):
    (store.path / index.INDEX_FILE).unlink(missing_ok=True)
    assert FeatureStore.open(store.path).holds(number_keys(range(60))).all()
    print(turn, flush=True)
"""


def kill_at_random_moment(process: subprocess.Popen[str], seed: int) -> None:
    moment = random.Random(seed)
    let_run(process)
    for _ in range(moment.randint(1, 9)):
        process.stdout.readline()
    time.sleep(moment.uniform(0, 0.01))
    process.kill()
    process.communicate()


def disk_full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_sound(store: FeatureStore) -> None:
    assert len(store.keys)
    assert_features_follow_from_keys(store)


@pytest.mark.slow
def test_a_store_opens_and_reads_after_its_writer_is_killed(tmp_path: Path) -> None:
    for seed in range(5):
        first = seed * 10**6
        process = start_program(WRITER, tmp_path, 2, first, first + 10**6)
        kill_at_random_moment(process, seed)
        store = create_store(tmp_path)
        assert_sound(store)
        assert store.holds(number_keys(range(first, first + 2))).all()
    write_rows(store, range(10))
    assert create_store(tmp_path).holds(number_keys(range(10))).all()


@pytest.mark.slow
def test_readers_that_are_killed_while_they_write_the_index_disturb_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tier4k.cache.index.SHARDS_IN_MEMORY", 3)
    store = create_store(tmp_path)
    write_rows(store, range(60), 4)
    for seed in range(2):
        processes = [start_program(INDEXER, tmp_path) for _ in range(2)]
        let_run(processes[1])
        kill_at_random_moment(processes[0], seed)
        assert_features_follow_from_keys(FeatureStore.open(store.path))
        assert processes[1].poll() is None
        processes[1].kill()
        processes[1].communicate()
        assert FeatureStore.open(store.path).rows == 60
    write_rows(store, range(60, 70))
    assert FeatureStore.open(store.path).holds(number_keys(range(70))).all()
    assert not list(store.path.glob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "shard_rows", [pytest.param((3, 3), marks=pytest.mark.slow), (3, 5)], ids=["same shards", "other shards"]
)
def test_two_processes_may_write_the_same_keys_at_once(tmp_path: Path, shard_rows: tuple[int, int]) -> None:
    processes = [start_program(WRITER, tmp_path, rows, 0, 60) for rows in shard_rows]
    for process in processes:
        let_run(process)
    for process in processes:
        process.communicate(timeout=120)  # two seconds on an idle machine
    assert [process.returncode for process in processes] == [0, 0]
    store = create_store(tmp_path)
    assert len(store.keys) == 60
    assert store.coverage(number_keys(range(70))) == (60, 70)
    assert_sound(store)
    assert not list(store.path.glob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_reported_and_keeps_what_was_published(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    store = create_store(tmp_path)
    write_rows(store, range(5))
    before = file_contents(store.path)
    refused = pytest.raises(StoreError, match="No space left.*\n.*intact")
    with monkeypatch.context() as full, refused as caught:
        full.setattr(os, call, disk_full)
        write_rows(store, range(5, 10))
    assert str(store.path) in str(caught.value)
    assert file_contents(store.path) == before
    write_rows(store, range(5, 10))
    assert create_store(tmp_path).holds(number_keys(range(10))).all()


def test_a_disk_that_fills_up_keeps_the_earlier_shards(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = create_store(tmp_path)
    with pytest.raises(StoreError, match="No space left"), store.writer(shard_rows=2) as writer:
        for number in range(10):
            if number == 5:
                monkeypatch.setattr(os, "fsync", disk_full)
            keys = number_keys([number])
            writer.add(keys, features_of(keys))
    store = FeatureStore.open(store.path)
    assert store.holds(number_keys(range(10))).tolist() == [True] * 4 + [False] * 6
    assert_sound(store)


def test_a_store_that_a_full_disk_refused_can_be_made_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as full, pytest.raises(StoreError, match="No space left"):
        full.setattr(os, "fsync", disk_full)
        create_store(tmp_path)
    assert not len(create_store(tmp_path).keys)


def test_the_leftover_of_a_killed_writer_is_not_read_and_the_next_write_removes_it(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    write_rows(store, range(5))
    leftover = store.path / f"{TEMPORARY_PREFIX}x1y2"
    leftover.mkdir()
    (leftover / "0123456789abcdef.h5").write_bytes(b"half a shard")
    assert_sound(FeatureStore.open(store.path))
    write_rows(store, range(5, 10))
    assert not leftover.exists()
    assert_sound(FeatureStore.open(store.path))
