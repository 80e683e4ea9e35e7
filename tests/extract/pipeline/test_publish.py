"""A thread writes features; what goes wrong there is not lost, and what was handed over is published."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.cache.errors import StoreError
from tier4k.cache.shard_content import ShardError
from tier4k.cache.store import FeatureStore
from tier4k.cache.writer import ShardWriter
from tier4k.extract.pipeline.publish import HostFeatures, Publisher
from tier4k.tests.builders.signatures import signature


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path, signature("resnet"), {})


def block(number: int, rows: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Keys and features of which no two blocks have one in common."""
    random = np.random.default_rng(number)
    return random.integers(0, 256, (rows, 32), np.uint8), random.normal(size=(rows, 3)).astype(np.float32)


def test_features_are_stored_by_a_thread_of_their_own(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    add = ShardWriter.add

    def noted(self: ShardWriter, keys: np.ndarray, features: np.ndarray) -> None:
        threads.add(threading.get_ident())
        add(self, keys, features)

    monkeypatch.setattr(ShardWriter, "add", noted)
    with Publisher([store], shard_rows=6) as publisher:
        for number in range(5):
            publisher.add(0, *block(number))
        publisher.finish()
    assert threading.get_ident() not in threads and len(threads) == 1
    stored = FeatureStore.open(store.path)
    for number in range(5):
        keys, features = block(number)
        np.testing.assert_array_equal(stored.read(keys), features)


def test_an_error_of_the_thread_is_raised_and_features_before_it_are_stored(store: FeatureStore) -> None:
    keys, features = block(1)
    with pytest.raises(ShardError), Publisher([store], shard_rows=4) as publisher:
        publisher.add(0, *block(0))
        publisher.add(0, keys, np.full_like(features, np.nan))
        publisher.finish()
    stored = FeatureStore.open(store.path)
    assert stored.holds(block(0)[0]).all()
    assert not stored.holds(keys).any()


def test_a_store_that_vanishes_is_an_error_soon(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match="removed"), Publisher([store], shard_rows=4) as publisher:
        (store.path / "signature.json").unlink()
        for number in range(100):
            publisher.add(0, *block(number))
        pytest.fail("a hundred blocks were handed over after the store had vanished")


def test_an_interrupt_publishes_what_was_handed_over(store: FeatureStore) -> None:
    with pytest.raises(KeyboardInterrupt), Publisher([store], shard_rows=1000) as publisher:
        publisher.add(0, *block(0))
        raise KeyboardInterrupt
    assert FeatureStore.open(store.path).holds(block(0)[0]).all()


def test_features_come_from_the_device_as_they_are() -> None:
    features = torch.arange(12.0).view(3, 4)
    np.testing.assert_array_equal(HostFeatures(features).array(), features.numpy())
