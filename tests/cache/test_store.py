"""The store returns the features of a key, notices damage, and refuses shards of other stores."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import broken_stores, require_stores, stores
from tier4k.cache.new_shard import write_shard
from tier4k.cache.removal import remove_store
from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import ShardError
from tier4k.cache.signature import SignatureError
from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.stores import SIGNATURE, create_store, text_keys


def filled(root: Path) -> FeatureStore:
    store = create_store(root)
    with store.writer(shard_rows=2) as writer:
        for number, text in enumerate("abcde"):
            writer.add(text_keys(text), np.full((1, 3), number, np.float32))
    return FeatureStore.open(store.path)


def test_rows_come_back_by_key_in_any_order(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert len(store.shards) == 3
    np.testing.assert_array_equal(store.read(text_keys("e", "a", "c", "a"))[:, 0], [4, 0, 2, 0])
    assert store.holds(text_keys("b", "x")).tolist() == [True, False]
    with pytest.raises(StoreError, match=r"1 of 2 inputs .*tier extract"):
        store.read(text_keys("a", "x"))


def test_what_macos_leaves_beside_a_shard_is_no_shard(tmp_path: Path) -> None:
    store = filled(tmp_path)
    keys = store.keys
    shard = next(store.path.glob("*.h5"))
    shard.with_name(f"._{shard.name}").write_bytes(b"\0\5\x16\7 resource fork")
    np.testing.assert_array_equal(FeatureStore.open(store.path).keys, keys)


def test_an_interrupted_writer_publishes_its_remaining_rows(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.writer() as writer:
        writer.add(text_keys("a"), np.ones((1, 3), np.float32))
        raise KeyboardInterrupt
    assert FeatureStore.open(store.path).holds(text_keys("a")).all()


def test_every_flipped_byte_of_the_features_is_noticed(tmp_path: Path) -> None:
    path = filled(tmp_path).shards[0].path
    with h5py.File(path) as file:
        offset = file["features"].id.get_offset()
    sound = path.read_bytes()
    for position in (offset, offset + 11, offset + 23):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        with pytest.raises(ShardError, match="checksum"):
            list(Shard.open(path).blocks())


@pytest.mark.parametrize("content", [b"", b"not HDF5" * 100])
def test_the_error_names_a_file_that_is_no_shard(tmp_path: Path, content: bytes) -> None:
    store = filled(tmp_path)
    (store.path / "bad.h5").write_bytes(content)
    with pytest.raises(ShardError, match="bad.h5"):
        _ = FeatureStore.open(store.path).shards


def test_links_out_of_a_shard_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.h5"
    with h5py.File(path, "w") as file:
        file["keys"] = text_keys("a")
        file["row_checks"] = np.zeros(1, np.uint64)
        file["features"] = h5py.ExternalLink("/etc/passwd", "x")
        file.attrs["signature"] = file.attrs["checksum"] = np.bytes_("x")
    with pytest.raises(ShardError, match="features"):
        Shard.open(path)


def test_nan_is_refused_and_not_stored(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    with pytest.raises(ShardError, match="NaN"), store.writer() as writer:
        writer.add(text_keys("a"), np.full((1, 3), np.nan, np.float32))
    assert not FeatureStore.open(store.path).shards


def test_other_weights_change_the_signature_and_are_named(tmp_path: Path) -> None:
    other = replace(SIGNATURE, weights="cd" * 32)
    assert other.folder_name != SIGNATURE.folder_name
    with pytest.raises(SignatureError, match=r"weights: 'cdcd.* was requested, the store has 'abab"):
        SIGNATURE.require(other, "extract again")


def test_a_shard_of_another_store_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path / "one")
    other = FeatureStore.create(tmp_path / "two", replace(SIGNATURE, precision="bf16"), {})
    store.shards[0].path.rename(other.path / "strange.h5")
    with pytest.raises(SignatureError, match="strange.h5"):
        _ = FeatureStore.open(other.path).shards


def test_a_slow_encoder_publishes_within_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = create_store(tmp_path)
    now = 0.0
    monkeypatch.setattr("tier4k.cache.writer.time.monotonic", lambda: now)
    with store.writer() as writer:
        for now in (0.0, 39.0, 41.0, 80.0):
            writer.add(text_keys(str(now)), np.zeros((1, 3), np.float32))
        published = FeatureStore.open(store.path)
        assert published.coverage(text_keys("0.0", "39.0", "41.0", "80.0")) == (3, 4)


def test_writing_to_a_removed_store_is_an_error_and_does_not_make_it_again(
    tmp_path: Path,
) -> None:
    store = create_store(tmp_path)
    shutil.rmtree(store.path)
    with pytest.raises(StoreError, match="removed while it was written to"), store.writer() as writer:
        writer.add(text_keys("a"), np.zeros((1, 3), np.float32))
    assert not store.path.exists()


def test_a_writer_stops_in_a_store_that_was_removed_and_made_again(tmp_path: Path) -> None:
    """Its earlier rows are lost, so it must not end as if they were stored."""
    store = create_store(tmp_path)
    removed = pytest.raises(StoreError, match="removed while it was written to")
    with removed, store.writer(shard_rows=1) as writer:
        writer.add(text_keys("a"), np.zeros((1, 3), np.float32))
        remove_store(store.path)
        create_store(tmp_path)
        writer.add(text_keys("b"), np.zeros((1, 3), np.float32))
    assert not FeatureStore.open(store.path).files()


def test_a_write_into_a_removed_store_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = create_store(tmp_path)
    write = write_shard

    def remove_first(*arguments: object) -> Path:
        remove_store(store.path)
        return write(*arguments)

    monkeypatch.setattr("tier4k.cache.writer.write_shard", remove_first)
    with pytest.raises(StoreError, match="removed while it was written to"), store.writer() as writer:
        writer.add(text_keys("a"), np.zeros((1, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_reading_a_store_that_is_removed_meanwhile_is_an_error(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    with store.writer(shard_rows=1) as writer:
        for name in "abc":
            writer.add(text_keys(name), np.zeros((1, 3), np.float32))
    with pytest.raises(StoreError, match="removed while it was read: run `tier extract` again"):
        for _ in FeatureStore.open(store.path).blocks():
            remove_store(store.path)


@pytest.mark.parametrize("text", ["[" * 200_000, "{}", "null", "\xff"])
def test_a_signature_file_without_a_signature_is_an_error(tmp_path: Path, text: str) -> None:
    store = create_store(tmp_path)
    (store.path / "signature.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(store.path)


def read_whole(store: FeatureStore) -> dict[bytes, float]:
    """The first value of each row, by key."""
    values: dict[bytes, float] = {}
    for keys, features in store.blocks():
        for key, row in zip(keys, features, strict=True):
            assert bytes(key) not in values
            values[bytes(key)] = row[0]
    return values


WHOLE = {bytes(text_keys(text)[0]): number for number, text in enumerate("abcde")}


@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(0, 11), max_size=30), shard_rows=st.integers(1, 13))
def test_reading_by_key_is_indexing_in_numpy(numbers: list[int], shard_rows: int) -> None:
    table = np.random.default_rng(0).random((12, 3), np.float32)
    names = text_keys(*"abcdefghijkl")
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder))
        with store.writer(shard_rows) as writer:
            for row in range(12):
                writer.add(names[row : row + 1], table[row : row + 1])
        picked = np.array(numbers, int)
        np.testing.assert_array_equal(store.read(names[picked]), table[picked])


def test_keys_with_equal_first_bytes_are_distinguished(tmp_path: Path) -> None:
    values = [0, 1, 128, 255]
    keys = np.zeros((4**4, 32), np.uint8)
    keys[:, [0, 7, 8, 31]] = np.stack(np.meshgrid(values, values, values, values), axis=-1).reshape(-1, 4)
    np.random.default_rng(0).shuffle(keys)
    store = create_store(tmp_path)
    table = np.arange(200, dtype=np.float32).reshape(-1, 1)
    with store.writer(shard_rows=100) as writer:
        for start in (0, 100):
            writer.add(keys[start : start + 100], table[start : start + 100])
    store = FeatureStore.open(store.path)
    assert (store.holds(keys) == (np.arange(256) < 200)).all()
    np.testing.assert_array_equal(store.read(keys[:200]), table)
    assert sorted(map(bytes, keys[:200])) == list(map(bytes, store.keys))


def test_only_the_shards_with_wanted_rows_are_read(tmp_path: Path) -> None:
    store = filled(tmp_path)
    shard = store.shards[store.index.find(text_keys("e"))["shard"][0]]
    shard.path.write_bytes(b"")
    np.testing.assert_array_equal(store.read(text_keys("a", "d"))[:, 0], [0, 3])
    with pytest.raises(ShardError, match=shard.path.name):
        store.read(text_keys("e"))
    with pytest.raises(ShardError, match=shard.path.name):
        read_whole(store)


def test_all_rows_stream_in_blocks(tmp_path: Path) -> None:
    assert read_whole(filled(tmp_path)) == WHOLE
    assert not list(FeatureStore.create(tmp_path, replace(SIGNATURE, encoder="other"), {}).blocks())


def test_wide_rows_are_published_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tier4k.cache.writer.SHARD_BYTES", 100)
    store = create_store(tmp_path)
    with store.writer() as writer:
        for text in "abcde":
            writer.add(text_keys(text), np.zeros((1, 10), np.float32))
    assert sorted(len(shard.keys) for shard in store.shards) == [2, 3]


def test_publishing_a_shard_does_not_list_the_shards_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each shard of a large store takes longer than the one before."""
    store = create_store(tmp_path)

    listed: list[object] = []

    def recorded(name: str) -> Callable[..., object]:
        original = getattr(os, name)
        return lambda *folder: listed.extend(folder) or original(*folder)

    with store.writer(shard_rows=1) as writer, monkeypatch.context() as patch:
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, recorded(name))
        for text in "abc":
            writer.add(text_keys(text), np.zeros((1, 3), np.float32))
    assert listed and store.path not in listed  # the temporary folders were
    assert len(store.files()) == 3


def test_a_writer_without_rows_publishes_no_shard(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    with store.writer() as writer:
        writer.add(text_keys(), np.zeros((0, 3), np.float32))
    assert not store.files()


def test_rows_whose_shards_were_deleted_are_an_error(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.holds(text_keys("a")).all()
    for path in store.files():
        path.unlink()
    with pytest.raises(StoreError, match=r"1 of 1 inputs .*tier extract"):
        store.read(text_keys("a"))


def test_one_broken_signature_file_leaves_the_other_stores_usable(tmp_path: Path) -> None:
    sound = filled(tmp_path)
    broken = FeatureStore.create(tmp_path, replace(SIGNATURE, encoder="another"), {}).path
    (broken / "signature.json").write_text("{")
    assert [store.path for store in stores(tmp_path)] == [sound.path]
    assert [store.path for store in require_stores(tmp_path)] == [sound.path]
    reasons = broken_stores(tmp_path)
    assert list(reasons) == [broken]
    assert "signature.json" in reasons[broken]
    shutil.rmtree(sound.path)
    with pytest.raises(StoreError, match=r"no feature stores(.|\n)*another.*is not a feature store"):
        require_stores(tmp_path)


def test_a_missing_folder_has_no_stores(tmp_path: Path) -> None:
    assert not list(stores(tmp_path / "none"))
    assert not broken_stores(tmp_path / "none")
