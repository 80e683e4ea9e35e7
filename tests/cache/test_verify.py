"""Verification finds every kind of damage; a store without its damaged shards is readable again."""

import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.new_shard import write_shard
from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import UnreadableShardError
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import set_aside, verify
from tier4k.tests.builders.stores import SIGNATURE, create_store, text_keys

FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
KEYS = text_keys(*"abcd")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = create_store(tmp_path)
    with store.writer(shard_rows=1) as writer:
        for row in range(4):
            writer.add(KEYS[row : row + 1], FEATURES[row : row + 1])
    return FeatureStore.open(store.path)


def shard_of(store: FeatureStore, row: int) -> Path:
    return next(shard.path for shard in store.shards if bytes(shard.keys[0]) == bytes(KEYS[row]))


def change_features(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(FEATURES[1].tobytes(), FEATURES[0].tobytes()))


def change_key(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(KEYS[1].tobytes(), KEYS[0].tobytes()))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_shard_of_another_store(path: Path) -> None:
    other = replace(SIGNATURE, feature="tokens")
    write_shard(path.parent, other.digest, KEYS[1:2], FEATURES[1:2]).replace(path)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "features changed": change_features,
    "key changed": change_key,
    "cut": cut,
    "emptied": empty,
    "of another store": replace_by_shard_of_another_store,
}


def test_a_sound_store_has_no_damage(store: FeatureStore) -> None:
    found = verify(store)
    assert (found.sound, found.rows, found.damaged) == (4, 4, {})
    assert set_aside(found) == []
    assert len(store.files()) == 4


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_damaged_shard_is_found_set_aside_and_only_its_rows_are_missing(
    store: FeatureStore, kind: str
) -> None:
    path = shard_of(store, 1)
    DAMAGE[kind](path)
    found = verify(FeatureStore.open(store.path))
    assert list(found.damaged) == [path]
    assert str(path) in found.damaged[path]
    assert (found.sound, found.rows) == (3, 3)
    (renamed,) = set_aside(found)
    assert renamed.exists()
    assert not path.exists()
    again = FeatureStore.open(store.path)
    assert again.holds(KEYS).tolist() == [True, False, True, True]
    np.testing.assert_array_equal(again.read(KEYS[[0, 2, 3]]), FEATURES[[0, 2, 3]])
    assert verify(again).damaged == {}


def recorded(name: str, events: list[str]) -> Callable[..., object]:
    """A method of `Shard` that adds its name to `events` first."""
    original = getattr(Shard, name)

    def call(*arguments: object) -> object:
        events.append(name)
        return original(*arguments)

    return call


def test_only_one_shard_is_in_memory_at_a_time(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    for name in ("open", "blocks"):
        monkeypatch.setattr(Shard, name, recorded(name, events))
    verify(store)
    assert events == ["open", "blocks"] * 4


@pytest.mark.parametrize("shape", [(2, 7), (2, 3)])
def test_a_shard_that_readers_refuse_is_damaged(store: FeatureStore, shape: tuple[int, int]) -> None:
    features = np.zeros(shape, np.float32 if shape[1] == 7 else np.float64)
    odd = write_shard(store.path, SIGNATURE.digest, text_keys(*"xy"), features)
    found = verify(FeatureStore.open(store.path))
    assert list(found.damaged) == [odd]
    assert (found.sound, found.rows) == (4, 4)


def test_a_shard_that_cannot_be_read_is_not_called_damaged(store: FeatureStore) -> None:
    path = shard_of(store, 1)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnreadableShardError, match="cannot be read"):
        verify(FeatureStore.open(store.path))


def test_a_shard_that_another_process_locks_is_sound(store: FeatureStore) -> None:
    with shard_of(store, 1).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert verify(FeatureStore.open(store.path)).damaged == {}
