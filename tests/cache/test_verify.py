"""Verification finds every kind of damage, leaves sound shards alone, and setting aside makes the store readable again."""

import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.shard import Shard, UnreadableShardError, write_shard
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import set_aside, verify

SIGNATURE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")
FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
KEYS = key_array(map(text_key, "abcd"))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    with store.writer(shard_rows=1) as writer:
        for row in range(4):
            writer.add(KEYS[row : row + 1], FEATURES[row : row + 1])
    return FeatureStore.open(store.path)


def shard_of(store: FeatureStore, row: int) -> Path:
    return next(shard.path for shard in store.shards if bytes(shard.keys[0]) == bytes(KEYS[row]))


def foreign(path: Path) -> None:
    other = replace(SIGNATURE, feature="tokens")
    write_shard(path.parent, other.digest, KEYS[1:2], FEATURES[1:2]).replace(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "features changed": lambda path: path.write_bytes(
        path.read_bytes().replace(FEATURES[1].tobytes(), FEATURES[0].tobytes())
    ),
    "key changed": lambda path: path.write_bytes(
        path.read_bytes().replace(KEYS[1].tobytes(), KEYS[0].tobytes())
    ),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "emptied": lambda path: path.write_bytes(b""),
    "of another store": foreign,
}


def test_a_sound_store_has_no_damage(store: FeatureStore) -> None:
    found = verify(store)
    assert (found.sound, found.rows, found.damaged) == (4, 4, {})
    assert set_aside(found) == [] and len(store.files()) == 4


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_damaged_shard_is_found_set_aside_and_only_its_rows_are_missing(
    store: FeatureStore, kind: str
) -> None:
    path = shard_of(store, 1)
    DAMAGE[kind](path)
    found = verify(FeatureStore.open(store.path))
    assert (
        list(found.damaged) == [path]
        and str(path) in found.damaged[path]
        and (found.sound, found.rows) == (3, 3)
    )
    (aside,) = set_aside(found)
    assert aside.exists() and not path.exists()
    again = FeatureStore.open(store.path)
    assert again.holds(KEYS).tolist() == [True, False, True, True]
    np.testing.assert_array_equal(again.read(KEYS[[0, 2, 3]]), FEATURES[[0, 2, 3]])
    assert verify(again).damaged == {}


def test_only_one_shard_is_held_at_a_time(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    for name in ("open", "blocks"):
        original = getattr(Shard, name)
        monkeypatch.setattr(
            Shard, name, lambda *args, name=name, original=original: (events.append(name), original(*args))[1]
        )
    verify(store)
    assert events == ["open", "blocks"] * 4


@pytest.mark.parametrize("shape", [(2, 7), (2, 3)])
def test_a_shard_that_readers_would_refuse_is_damage(store: FeatureStore, shape: tuple[int, int]) -> None:
    features = np.zeros(shape, np.float32 if shape[1] == 7 else np.float64)
    odd = write_shard(store.path, SIGNATURE.digest, key_array(map(text_key, "xy")), features)
    found = verify(FeatureStore.open(store.path))
    assert list(found.damaged) == [odd] and (found.sound, found.rows) == (4, 4)


def test_a_shard_that_cannot_be_read_is_not_called_damaged(store: FeatureStore) -> None:
    path = shard_of(store, 1)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnreadableShardError, match="cannot be read"):
        verify(FeatureStore.open(store.path))


def test_a_shard_that_somebody_has_locked_is_sound(store: FeatureStore) -> None:
    with shard_of(store, 1).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert verify(FeatureStore.open(store.path)).damaged == {}
