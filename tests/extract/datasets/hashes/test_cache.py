"""The hash cache returns what was added last, whoever added it, and survives damage and killed processes."""

import errno
import multiprocessing
import os
import signal
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tier4k.cache.errors import StoreError
from tier4k.extract.datasets.hashes import cache as cache_module
from tier4k.extract.datasets.hashes import entries as entries_module
from tier4k.extract.datasets.hashes import files as files_module
from tier4k.extract.datasets.hashes.cache import KeyCache

# The first halves of identities are few, so that different identities share them.
HALVES = st.sampled_from([bytes([value]) * 8 for value in (0, 1, 255)])
IDENTITIES = st.builds(bytes.__add__, HALVES, HALVES)


def identity_array(identities: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(identities), np.uint8).reshape(-1, 16)


def key_array(values: list[int]) -> np.ndarray:
    """Keys (N, 32) that are made of one number each."""
    return np.repeat(np.array(values, np.uint8)[:, None], 32, axis=1)


def random_identities(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16), np.uint8)


def keys_of(identities: np.ndarray) -> np.ndarray:
    """Keys from which a test can tell that they belong to the identities."""
    return np.concatenate([identities, identities ^ 255], axis=1)


def add(cache: KeyCache, identities: np.ndarray) -> None:
    cache.add(identities, keys_of(identities), identities[:, 0] % 4)


def require_known(cache: KeyCache, identities: np.ndarray) -> None:
    keys, flags, is_known = cache.find(identities)
    assert is_known.all()
    assert np.array_equal(keys, keys_of(identities))
    assert np.array_equal(flags, identities[:, 0] % 4)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


class CacheMachine(RuleBasedStateMachine):
    """Two caches of one folder are used in turns; each knows what it added itself and what was published."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(os.environ["TIER4K_TEST_FOLDER"]) / str(time.monotonic_ns())
        self.cache = KeyCache(self.folder)
        self.published: dict[bytes, int] = {}
        self.added: dict[bytes, int] = {}

    @rule(rows=st.lists(st.tuples(IDENTITIES, st.integers(0, 255)), max_size=6))
    def add(self, rows: list[tuple[bytes, int]]) -> None:
        values = [value for _, value in rows]
        identities = identity_array([identity for identity, _ in rows])
        self.cache.add(identities, key_array(values), np.array(values, np.uint8) % 4)
        self.added |= dict(rows)

    @rule()
    def publish(self) -> None:
        self.cache.publish()
        self.published |= self.added
        self.added = {}

    @rule()
    def open_again_without_publishing(self) -> None:
        self.cache = KeyCache(self.folder)
        self.added = {}

    @rule(row=st.tuples(IDENTITIES, st.integers(0, 255)))
    def another_process_adds(self, row: tuple[bytes, int]) -> None:
        other = KeyCache(self.folder)
        other.add(identity_array([row[0]]), key_array([row[1]]), np.array([row[1] % 4], np.uint8))
        other.publish()
        self.published |= dict([row])
        self.publish()  # what this cache added comes later
        self.cache = KeyCache(self.folder)

    @rule(identities=st.lists(IDENTITIES, max_size=6))
    def find(self, identities: list[bytes]) -> None:
        keys, flags, is_known = self.cache.find(identity_array(identities))
        expected = self.published | self.added
        values = [expected.get(identity, 0) for identity in identities]
        assert is_known.tolist() == [identity in expected for identity in identities]
        assert np.array_equal(keys, key_array(values))
        assert flags.tolist() == [value % 4 for value in values]


def test_a_cache_behaves_like_a_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIER4K_TEST_FOLDER", str(tmp_path))
    monkeypatch.setattr(entries_module, "MERGED_ROWS", 3)
    few = settings(max_examples=10, stateful_step_count=12, deadline=None, derandomize=True)
    run_state_machine_as_test(CacheMachine, settings=few)


def test_a_cache_without_a_folder_keeps_its_entries_in_memory() -> None:
    cache = KeyCache(None)
    identities = random_identities(5000)
    for part in np.array_split(identities, 50):
        add(cache, part)
    cache.publish()
    require_known(cache, identities)
    assert not cache.find(random_identities(100, seed=1))[2].any()


def test_many_small_additions_leave_few_files_and_lose_nothing(tmp_path: Path) -> None:
    identities = random_identities(4000)
    for part in np.array_split(identities, 20):
        cache = KeyCache(tmp_path)
        add(cache, part)
        cache.publish()
    assert len(files(tmp_path)) <= 6  # each has more than twice as many entries as all later ones
    require_known(KeyCache(tmp_path), identities)
    assert sum(path.stat().st_size for path in files(tmp_path)) < 4000 * 50


def test_entries_are_published_while_they_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identities = random_identities(30)
    cache = KeyCache(tmp_path)
    monkeypatch.setattr(cache_module, "PUBLISHED_ROWS", 10)
    add(cache, identities[:9])
    assert not files(tmp_path)
    add(cache, identities[9:11])
    require_known(KeyCache(tmp_path), identities[:11])
    monkeypatch.setattr(cache_module, "PUBLISHED_SECONDS", -1.0)
    add(cache, identities[11:12])  # the minute is over
    require_known(KeyCache(tmp_path), identities[:12])


def test_memory_does_not_grow_with_the_number_of_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added, written and merged is in memory in blocks; the files are mapped."""
    monkeypatch.setattr(cache_module, "PUBLISHED_ROWS", 2**12)
    monkeypatch.setattr(entries_module, "MERGED_ROWS", 2**12)
    monkeypatch.setattr(files_module, "READ_BYTES", 2**16)
    cache = KeyCache(tmp_path)
    tracemalloc.start()
    try:
        for seed in range(32):
            add(cache, random_identities(2**11, seed))
        for seed in range(32):
            require_known(cache, random_identities(2**11, seed))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(path.stat().st_size for path in files(tmp_path)) >= 2**16 * 49
    assert peak < 2**16 * 49 / 2


def cut(content: bytes) -> bytes:
    return content[:-1]


def empty(content: bytes) -> bytes:
    return b""


def alter(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def alter_count(content: bytes) -> bytes:
    return content[:23] + b"\xff" + content[24:]


def other_content(content: bytes) -> bytes:
    return b"something else"


@pytest.mark.parametrize("damage", [cut, empty, alter, alter_count, other_content])
def test_a_damaged_file_is_ignored_and_replaced(tmp_path: Path, damage: object) -> None:
    kept, lost = random_identities(100), random_identities(20, seed=1)
    for part in (kept, lost):
        cache = KeyCache(tmp_path)
        add(cache, part)
        cache.publish()
    damaged = files(tmp_path)[-1]
    assert len(files(tmp_path)) == 2
    damaged.write_bytes(damage(damaged.read_bytes()))
    cache = KeyCache(tmp_path)
    require_known(cache, kept)
    assert not cache.find(lost)[2].any()
    add(cache, lost)
    cache.publish()
    assert not damaged.exists()
    require_known(KeyCache(tmp_path), np.concatenate([kept, lost]))


def test_files_of_another_version_stay(tmp_path: Path) -> None:
    other = tmp_path / "00000000000000000001-00000000.hashes-2"
    other.write_bytes(b"the future")
    cache = KeyCache(tmp_path)
    add(cache, random_identities(3))
    cache.publish()
    assert other.read_bytes() == b"the future"
    require_known(KeyCache(tmp_path), random_identities(3))


def test_a_correction_counts_even_if_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = random_identities(50)
    cache = KeyCache(tmp_path)
    add(cache, identities)
    cache.publish()
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    cache = KeyCache(tmp_path)
    cache.add(identities[:2], key_array([7, 8]), np.zeros(2, np.uint8))
    cache.publish()
    assert len(files(tmp_path)) == 2
    keys, _, is_known = KeyCache(tmp_path).find(identities)
    assert is_known.all()
    assert np.array_equal(keys[:2], key_array([7, 8]))
    assert np.array_equal(keys[2:], keys_of(identities[2:]))


def test_a_full_disk_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = KeyCache(tmp_path / "hashes")
    add(cache, random_identities(5))
    with monkeypatch.context() as patch:
        patch.setattr(files_module, "publish", refuse)
        with pytest.raises(StoreError, match=r"hashes: No space left"):
            cache.publish()
    require_known(cache, random_identities(5))
    cache.publish()
    require_known(KeyCache(tmp_path / "hashes"), random_identities(5))


def test_a_folder_of_another_user_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KeyCache(tmp_path)
    add(cache, random_identities(5))
    cache.publish()
    before = files(tmp_path)
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    for folder in (tmp_path, tmp_path / "none" / "below"):
        cache = KeyCache(folder)
        add(cache, random_identities(5, seed=1))
        cache.publish()
        require_known(cache, random_identities(5, seed=1))
    require_known(KeyCache(tmp_path), random_identities(5))
    assert files(tmp_path) == before


def add_in_rounds(folder: str, seed: int) -> None:
    """What one of several processes does."""
    for part in np.array_split(random_identities(600, seed), 30):
        cache = KeyCache(Path(folder))
        add(cache, part)
        cache.publish()


@pytest.mark.slow
def test_several_processes_add_to_one_folder_and_a_killed_one_damages_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_in_rounds, args=(str(tmp_path), seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    while sum(path.is_file() for path in tmp_path.iterdir()) < 2:  # temporary folders vanish meanwhile
        assert workers[3].is_alive()
        time.sleep(0.01)
    os.kill(workers[3].pid or 0, signal.SIGKILL)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers[:3]] == [0, 0, 0]
    cache = KeyCache(tmp_path)
    for seed in range(3):
        require_known(cache, random_identities(600, seed))
    keys, _, is_known = cache.find(random_identities(600, 3))
    assert np.array_equal(keys[is_known], keys_of(random_identities(600, 3)[is_known]))
    add(cache, random_identities(10, 9))
    cache.publish()
    assert len(files(tmp_path)) <= 10
    assert all(path.parent == tmp_path for path in files(tmp_path))  # no temporary folder is left
