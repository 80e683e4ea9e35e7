"""Whatever happens to the process or the disk, a store opens and gives back what was published."""

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore, StoreError

SIGNATURE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")
REPOSITORY = Path(__file__).parents[2]
WRITER = """
import sys
from pathlib import Path
from tier4k.tests.crash.test_store import create, write
root, shard_rows, start, stop = Path(sys.argv[1]), *map(int, sys.argv[2:])
print("ready", flush=True)
sys.stdin.readline()
for shard in range(start, stop, shard_rows):
    write(create(root), range(shard, min(shard + shard_rows, stop)))
    print(shard, flush=True)
"""


def create(root: Path) -> FeatureStore:
    return FeatureStore.create(root, SIGNATURE, {})


def keys_of(numbers: range) -> np.ndarray:
    return key_array(text_key(str(number)) for number in numbers)


def features_of(keys: np.ndarray) -> np.ndarray:
    return keys[:, :4].astype(np.float32)


def write(store: FeatureStore, numbers: range) -> None:
    with store.writer() as writer:
        writer.add(keys_of(numbers), features_of(keys_of(numbers)))


def start_writer(root: Path, shard_rows: int, start: int, stop: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, *map(str, (root, shard_rows, start, stop))]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kill_at_random_moment(process: subprocess.Popen[str], seed: int) -> None:
    moment = random.Random(seed)
    process.stdin.write("go\n")
    process.stdin.flush()
    for _ in range(moment.randint(1, 9)):
        process.stdout.readline()
    time.sleep(moment.uniform(0, 0.01))
    process.kill()
    process.communicate()


def disk_full(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_sound(store: FeatureStore) -> None:
    assert len(store.keys)
    np.testing.assert_array_equal(store.read(store.keys), features_of(store.keys))


def test_a_store_whose_writer_is_killed_opens_and_reads(tmp_path: Path) -> None:
    for seed in range(5):
        kill_at_random_moment(start_writer(tmp_path, 2, seed * 10**6, (seed + 1) * 10**6), seed)
        store = create(tmp_path)
        assert_sound(store)
        assert store.holds(keys_of(range(seed * 10**6, seed * 10**6 + 2))).all()
    write(store, range(10))
    assert create(tmp_path).holds(keys_of(range(10))).all()


@pytest.mark.parametrize("shard_rows", [(3, 3), (3, 5)], ids=["same shards", "other shards"])
def test_two_processes_may_write_the_same_keys_at_once(tmp_path: Path, shard_rows: tuple[int, int]) -> None:
    processes = [start_writer(tmp_path, rows, 0, 60) for rows in shard_rows]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=20)
    assert [process.returncode for process in processes] == [0, 0]
    store = create(tmp_path)
    assert len(store.keys) == 60 and store.coverage(keys_of(range(70))) == (60, 70)
    assert_sound(store)
    assert not list(store.path.glob(f"{TEMPORARY_PREFIX}*"))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_told_and_keeps_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = create(tmp_path)
    write(store, range(5))
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}
    with (
        monkeypatch.context() as full,
        pytest.raises(StoreError, match="No space left.*\n.*intact") as caught,
    ):
        full.setattr(os, call, disk_full)
        write(store, range(5, 10))
    assert str(store.path) in str(caught.value)
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before
    write(store, range(5, 10))
    assert create(tmp_path).holds(keys_of(range(10))).all()


def test_a_disk_that_fills_up_in_the_middle_keeps_the_shards_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create(tmp_path)
    with pytest.raises(StoreError, match="No space left"), store.writer(shard_rows=2) as writer:
        for number in range(10):
            if number == 5:
                monkeypatch.setattr(os, "fsync", disk_full)
            writer.add(keys_of(range(number, number + 1)), features_of(keys_of(range(number, number + 1))))
    store = FeatureStore.open(store.path)
    assert store.holds(keys_of(range(10))).tolist() == [True] * 4 + [False] * 6
    assert_sound(store)


def test_a_store_that_cannot_be_made_on_a_full_disk_can_be_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full, pytest.raises(StoreError, match="No space left"):
        full.setattr(os, "fsync", disk_full)
        create(tmp_path)
    assert not len(create(tmp_path).keys)


def test_what_a_killed_writer_leaves_behind_is_not_read_and_goes_with_the_next_write(tmp_path: Path) -> None:
    store = create(tmp_path)
    write(store, range(5))
    leftover = store.path / f"{TEMPORARY_PREFIX}x1y2"
    leftover.mkdir()
    (leftover / "0123456789abcdef.h5").write_bytes(b"half a shard")
    assert_sound(FeatureStore.open(store.path))
    write(store, range(5, 10))
    assert not leftover.exists()
    assert_sound(FeatureStore.open(store.path))
