"""Compaction keeps every row whatever happens meanwhile, and stores of the same content become the same file."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.cache.compact import Compaction, compact
from tier4k.cache.keys import key_array, sortable, text_key
from tier4k.cache.shard import Shard, ShardError, write_shard
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore, StoreError
from tier4k.cache.verify import verify

SIGNATURE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")
REPOSITORY = Path(__file__).parents[2]
WORK = """
import sys
from pathlib import Path
from tier4k.cache.compact import compact
from tier4k.tests.cache.test_compact import create, write
print("ready", flush=True)
sys.stdin.readline()
for start in range(int(sys.argv[2]), int(sys.argv[3]), 10):
    store = create(Path(sys.argv[1]))
    write(store, range(start, start + 10), 3)
    if sys.argv[4] == "compact":
        compact(store)
    print(start, flush=True)
"""


def create(root: Path) -> FeatureStore:
    return FeatureStore.create(root, SIGNATURE, {})


def keys_of(numbers: range) -> np.ndarray:
    return key_array(text_key(str(number)) for number in numbers)


def features_of(keys: np.ndarray) -> np.ndarray:
    return keys[:, :6].astype(np.float32).reshape(-1, 2, 3)


def write(store: FeatureStore, numbers: range, shard_rows: int) -> None:
    with store.writer(shard_rows) as writer:
        for number in numbers:
            keys = keys_of(range(number, number + 1))
            writer.add(keys, features_of(keys))


def filled(root: Path, numbers: range, shard_rows: int) -> FeatureStore:
    store = create(root)
    write(store, numbers, shard_rows)
    return FeatureStore.open(store.path)


def assert_holds(store: FeatureStore, numbers: range) -> None:
    assert store.holds(keys_of(numbers)).all()
    keys = store.keys
    np.testing.assert_array_equal(store.read(keys), features_of(keys))


def start(root: Path, first: int, last: int, then: str = "compact") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORK, *map(str, (root, first, last, then))]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_many_shards_become_one_in_the_order_of_the_keys(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    write(store, range(15, 25), 4)
    done = compact(store)
    assert done == Compaction(store.path, shards=10, rows=25, doubles=5, path=done.path)
    assert FeatureStore.open(store.path).files() == [done.path]
    flat = sortable(Shard.open(done.path).keys)
    assert (flat[1:] > flat[:-1]).all()
    assert_holds(FeatureStore.open(store.path), range(25))
    assert verify(FeatureStore.open(store.path)).damaged == {}


def test_the_same_content_becomes_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = filled(tmp_path / "one", range(30), 3), filled(tmp_path / "two", range(29, -1, -1), 7)
    write(two, range(10), 5)
    first = compact(one).path
    monkeypatch.setattr("tier4k.cache.compact.BLOCK_BYTES", 100)
    second = compact(two).path
    assert first.name == second.name and first.read_bytes() == second.read_bytes()
    keys = FeatureStore.open(one.path).keys
    whole = write_shard(tmp_path, SIGNATURE.digest, keys, features_of(keys))
    assert whole.name == first.name and whole.read_bytes() == first.read_bytes()


def test_of_doubles_that_differ_the_same_is_read_before_and_after_whichever_shards_they_are_in(
    tmp_path: Path,
) -> None:
    keys, paths = keys_of(range(6)), []
    for number, order in enumerate([(0, 1), (1, 0)]):
        store = create(tmp_path / str(number))
        for value in order:
            write_shard(
                store.path, SIGNATURE.digest, keys[value:], np.full((6 - value, 3), value / 10, np.float32)
            )
        before = FeatureStore.open(store.path).read(keys)
        paths.append(compact(store).path)
        np.testing.assert_array_equal(FeatureStore.open(store.path).read(keys), before)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_store_that_is_compact_or_empty_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create(tmp_path)
    assert compact(store) == Compaction(store.path, shards=0, rows=0, doubles=0, path=None)
    write(store, range(20), 3)
    path = compact(store).path
    before = path.stat()
    assert compact(store) == Compaction(store.path, shards=1, rows=20, doubles=0, path=path)
    assert path.stat() == before


def test_a_shard_of_which_the_others_are_parts_is_the_result_and_stays(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    path = compact(store).path
    write(store, range(5), 2)
    done = compact(store)
    assert (done.path, done.shards, done.doubles) == (path, 4, 5)
    assert FeatureStore.open(store.path).files() == [path]
    assert_holds(FeatureStore.open(store.path), range(20))


def test_a_damaged_shard_stops_the_compaction_and_nothing_is_removed(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    shard = store.shards[3]
    with shard.path.open("r+b") as file:
        file.seek(shard.offset)
        file.write(b"damage")
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}
    with pytest.raises(ShardError, match=shard.path.name):
        compact(store)
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def disk_full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = filled(tmp_path, range(20), 3)
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}
    with monkeypatch.context() as full, pytest.raises(StoreError, match="No space left.*\n.*intact"):
        full.setattr(os, call, disk_full)
        compact(store)
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before
    compact(store)
    assert_holds(FeatureStore.open(store.path), range(20))


@pytest.mark.parametrize("limit", [1000, 4000, 300_000])
def test_a_disk_that_is_full_while_hdf5_writes_keeps_everything(tmp_path: Path, limit: int) -> None:
    store = create(tmp_path)
    keys = keys_of(range(100))
    for part in (slice(0, 50), slice(50, 100)):
        write_shard(
            store.path,
            SIGNATURE.digest,
            keys[part],
            np.repeat(features_of(keys[part]).reshape(50, 6), 300, axis=1),
        )
    before = {path.name: path.read_bytes() for path in store.path.iterdir()}

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    program = f"""
from pathlib import Path
from tier4k.cache.compact import compact
from tier4k.cache.store import StoreError
from tier4k.tests.cache.test_compact import create
try:
    compact(create(Path({str(tmp_path)!r})))
except StoreError as error:
    print("told:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("told: cannot write to"), done
    assert {path.name: path.read_bytes() for path in store.path.iterdir()} == before


def test_a_reader_that_was_open_before_reads_on(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    keys = keys_of(range(20))
    assert store.holds(keys).all()
    compact(store)
    np.testing.assert_array_equal(store.read(keys), features_of(keys))
    assert len(store.shards) == 1


def test_a_stream_that_is_under_way_gives_every_row_once(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), 3)
    blocks = store.blocks()
    read = [next(blocks)]
    write(store, range(20, 30), 3)
    compact(store)
    read += blocks
    keys = np.concatenate([keys for keys, _ in read])
    assert sorted(map(bytes, keys)) == sorted(map(bytes, keys_of(range(30))))
    np.testing.assert_array_equal(np.concatenate([features for _, features in read]), features_of(keys))


def vanishing(original: Callable[[Path], Shard], store: FeatureStore) -> Callable[[Path], Shard]:
    compactions = iter([compact])

    def open_shard(path: Path) -> Shard:
        for work in compactions:
            work(store)
        return original(path)

    return open_shard


def test_a_compaction_between_listing_and_opening_is_not_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    monkeypatch.setattr(Shard, "open", vanishing(Shard.open, store))
    assert_holds(FeatureStore.open(store.path), range(20))


def test_a_compaction_during_verification_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    monkeypatch.setattr(Shard, "open", vanishing(Shard.open, store))
    found = verify(store)
    assert (found.sound, found.rows, found.damaged) == (1, 20, {})


def test_a_shard_that_is_written_during_a_compaction_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, range(20), 3)
    gather = FeatureStore.gather

    def gather_late(self: FeatureStore, positions: np.ndarray) -> np.ndarray:
        write(store, range(20, 25), 5)
        return gather(self, positions)

    with monkeypatch.context() as late:
        late.setattr(FeatureStore, "gather", gather_late)
        compact(store)
    assert len(store.files()) == 2
    assert_holds(FeatureStore.open(store.path), range(25))


def test_killed_at_any_moment_it_loses_nothing(tmp_path: Path) -> None:
    for seed in range(4):
        moment, process = random.Random(seed), start(tmp_path, seed * 10**6, (seed + 1) * 10**6)
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in range(moment.randint(1, 4)):
            last = int(process.stdout.readline())
        time.sleep(moment.uniform(0, 0.06))
        process.kill()
        process.communicate()
        assert_holds(create(tmp_path), range(seed * 10**6, last + 10))
    store = create(tmp_path)
    rows = compact(store).rows
    assert len(store.files()) == 1 and len(FeatureStore.open(store.path).keys) == rows
    assert_holds(FeatureStore.open(store.path), range(10))
    assert not list(store.path.glob(f"{TEMPORARY_PREFIX}*"))


def test_two_compactions_and_two_writers_and_a_reader_at_once(tmp_path: Path) -> None:
    write(create(tmp_path), range(10), 3)
    processes = [start(tmp_path, 0, 80), start(tmp_path, 0, 80), start(tmp_path, 50, 160, "write")]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    opened = create(tmp_path)
    while any(process.poll() is None for process in processes):
        assert_holds(opened, range(10))
        assert_holds(create(tmp_path), range(10))
    for process in processes:
        assert process.wait() == 0, process.stderr.read()
        process.communicate()
    store = create(tmp_path)
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
