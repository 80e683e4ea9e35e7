"""The store gives back what was put in under a key, notices damage, and refuses what belongs elsewhere."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.keys import key_array, text_key
from cache.shard import Shard, ShardError
from cache.signature import Signature, SignatureError
from cache.store import FeatureStore, StoreError

SIGNATURE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")


def keys(*texts: str) -> np.ndarray:
    return key_array(map(text_key, texts))


def filled(root: Path) -> FeatureStore:
    store = FeatureStore.create(root, SIGNATURE, {})
    with store.writer(shard_rows=2) as writer:
        for number, text in enumerate("abcde"):
            writer.add(keys(text), np.full((1, 3), number, np.float32))
    return FeatureStore.open(store.path)


def test_rows_come_back_by_key_in_any_order(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert len(store.shards) == 3
    np.testing.assert_array_equal(store.read(keys("e", "a", "c", "a"))[:, 0], [4, 0, 2, 0])
    assert store.holds(keys("b", "x")).tolist() == [True, False]
    with pytest.raises(StoreError, match=r"1 of 2 inputs .*tier extract"):
        store.read(keys("a", "x"))


def test_rows_in_hand_are_published_when_the_work_is_interrupted(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    with pytest.raises(KeyboardInterrupt), store.writer() as writer:
        writer.add(keys("a"), np.ones((1, 3), np.float32))
        raise KeyboardInterrupt
    assert FeatureStore.open(store.path).holds(keys("a")).all()


def test_every_flipped_byte_of_the_features_is_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path).shards[0].path
    with h5py.File(path) as file:
        offset = file["features"].id.get_offset()
    sound = path.read_bytes()
    for position in (offset, offset + 11, offset + 23):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        with pytest.raises(ShardError, match="checksum"):
            Shard.open(path).read()


@pytest.mark.parametrize("content", [b"", b"not HDF5" * 100])
def test_a_file_that_is_no_shard_is_named(tmp_path: Path, content: bytes) -> None:
    store = filled(tmp_path)
    (store.path / "bad.h5").write_bytes(content)
    with pytest.raises(ShardError, match="bad.h5"):
        _ = FeatureStore.open(store.path).shards


def test_links_out_of_a_shard_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.h5"
    with h5py.File(path, "w") as file:
        file["keys"] = keys("a")
        file["features"] = h5py.ExternalLink("/etc/passwd", "x")
        file.attrs["signature"] = file.attrs["checksum"] = np.bytes_("x")
    with pytest.raises(ShardError, match="features"):
        Shard.open(path)


def test_nan_is_not_stored(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    with pytest.raises(ShardError, match="NaN"), store.writer() as writer:
        writer.add(keys("a"), np.full((1, 3), np.nan, np.float32))
    assert not FeatureStore.open(store.path).shards


def test_whatever_changes_a_number_changes_the_signature(tmp_path: Path) -> None:
    other = replace(SIGNATURE, weights="cd" * 32)
    assert other.folder_name != SIGNATURE.folder_name
    with pytest.raises(SignatureError, match=r"weights: asked for 'cdcd.*the store has 'abab"):
        SIGNATURE.require(other, "extract again")


def test_a_shard_of_another_store_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path / "one")
    other = FeatureStore.create(tmp_path / "two", replace(SIGNATURE, precision="bf16"), {})
    store.shards[0].path.rename(other.path / "strange.h5")
    with pytest.raises(SignatureError, match="strange.h5"):
        _ = FeatureStore.open(other.path).shards


def test_a_slow_encoder_publishes_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    now = 0.0
    monkeypatch.setattr("cache.store.time.monotonic", lambda: now)
    with store.writer() as writer:
        for now in (0.0, 59.0, 61.0, 100.0):
            writer.add(keys(str(now)), np.zeros((1, 3), np.float32))
        assert FeatureStore.open(store.path).coverage(keys("0.0", "59.0", "61.0", "100.0")) == (3, 4)


def test_a_store_that_was_removed_while_it_was_written_to_is_an_error_and_is_not_made_again(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    shutil.rmtree(store.path)
    with pytest.raises(StoreError, match="removed while it was written to"), store.writer() as writer:
        writer.add(keys("a"), np.zeros((1, 3), np.float32))
    assert not store.path.exists()


@pytest.mark.parametrize("text", ["[" * 200_000, "{}", "null", "\xff"])
def test_a_signature_file_of_another_content_is_an_error(tmp_path: Path, text: str) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    (store.path / "signature.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(store.path)
