"""The store gives back what was put in under a key, notices damage, and refuses what belongs elsewhere."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.shard import Shard, ShardError, write_shard
from tier4k.cache.signature import Signature, SignatureError
from tier4k.cache.store import FeatureStore, Index, StoreError, broken_stores, discard, require_stores, stores

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
            list(Shard.open(path).blocks())


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
        file["row_checks"] = np.zeros(1, np.uint64)
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
    monkeypatch.setattr("tier4k.cache.store.time.monotonic", lambda: now)
    with store.writer() as writer:
        for now in (0.0, 59.0, 61.0, 100.0):
            writer.add(keys(str(now)), np.zeros((1, 3), np.float32))
        assert FeatureStore.open(store.path).coverage(keys("0.0", "59.0", "61.0", "100.0")) == (3, 4)


def test_a_store_that_was_removed_while_it_was_written_to_is_an_error_and_is_not_made_again(
    tmp_path: Path,
) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    shutil.rmtree(store.path)
    with pytest.raises(StoreError, match="removed while it was written to"), store.writer() as writer:
        writer.add(keys("a"), np.zeros((1, 3), np.float32))
    assert not store.path.exists()


def test_a_writer_does_not_go_on_in_a_store_that_was_removed_and_made_again(tmp_path: Path) -> None:
    """Its earlier rows are gone, so that it must not end as if they were stored."""
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    removed = pytest.raises(StoreError, match="removed while it was written to")
    with removed, store.writer(shard_rows=1) as writer:
        writer.add(keys("a"), np.zeros((1, 3), np.float32))
        discard(store.path)
        FeatureStore.create(tmp_path, SIGNATURE, {})
        writer.add(keys("b"), np.zeros((1, 3), np.float32))
    assert not FeatureStore.open(store.path).files()


def test_a_write_into_a_removed_store_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    written = write_shard

    def removed_before(*arguments: object) -> Path:
        discard(store.path)
        return written(*arguments)

    monkeypatch.setattr("tier4k.cache.store.write_shard", removed_before)
    with pytest.raises(StoreError, match="removed while it was written to"), store.writer() as writer:
        writer.add(keys("a"), np.zeros((1, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_a_reader_of_a_store_that_is_removed_does_not_take_a_part_for_the_whole(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    with store.writer(shard_rows=1) as writer:
        for name in "abc":
            writer.add(keys(name), np.zeros((1, 3), np.float32))
    with pytest.raises(StoreError, match="removed while it was read: run `tier extract` again"):
        for _ in FeatureStore.open(store.path).blocks():
            discard(store.path)


@pytest.mark.parametrize("text", ["[" * 200_000, "{}", "null", "\xff"])
def test_a_signature_file_of_another_content_is_an_error(tmp_path: Path, text: str) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    (store.path / "signature.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(store.path)


def read_whole(store: FeatureStore) -> dict[bytes, float]:
    pairs = [
        (bytes(key), row[0])
        for block, features in store.blocks()
        for key, row in zip(block, features, strict=True)
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


WHOLE = {bytes(keys(text)[0]): number for number, text in enumerate("abcde")}


@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(0, 11), max_size=30), shard_rows=st.integers(1, 13))
def test_reading_by_key_is_indexing_in_numpy(numbers: list[int], shard_rows: int) -> None:
    table, names = np.random.default_rng(0).random((12, 3), np.float32), keys(*"abcdefghijkl")
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore.create(Path(folder), SIGNATURE, {})
        with store.writer(shard_rows) as writer:
            for row in range(12):
                writer.add(names[row : row + 1], table[row : row + 1])
        picked = np.array(numbers, int)
        np.testing.assert_array_equal(store.read(names[picked]), table[picked])


def test_keys_with_equal_beginnings_are_told_apart() -> None:
    many = np.zeros((4**4, 32), np.uint8)
    many[:, [0, 7, 8, 31]] = np.stack(np.meshgrid(*[[0, 1, 128, 255]] * 4), axis=-1).reshape(-1, 4)
    np.random.default_rng(0).shuffle(many)

    class Half:
        def __init__(self, part: slice) -> None:
            self.keys, self.row_checks = many[part], np.zeros(len(many[part]), np.uint64)

    index = Index.of([Half(slice(0, 100)), Half(slice(100, 200))])  # type: ignore[list-item]
    position = index.find(many)
    assert (position[200:] == -1).all() and (position[:200] >= 0).all()
    assert (index.shard[position[:200]] * 100 + index.row[position[:200]] == np.arange(200)).all()


def test_only_the_shards_with_wanted_rows_are_read(tmp_path: Path) -> None:
    store = filled(tmp_path)
    shard = store.shards[store.index.shard[store.index.find(keys("e"))][0]]
    shard.path.write_bytes(b"")
    np.testing.assert_array_equal(store.read(keys("a", "d"))[:, 0], [0, 3])
    with pytest.raises(ShardError, match=shard.path.name):
        store.read(keys("e"))
    with pytest.raises(ShardError, match=shard.path.name):
        read_whole(store)


def test_all_rows_stream_in_blocks(tmp_path: Path) -> None:
    assert read_whole(filled(tmp_path)) == WHOLE
    assert not list(FeatureStore.create(tmp_path, replace(SIGNATURE, encoder="other"), {}).blocks())


def test_wide_rows_are_published_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tier4k.cache.store.SHARD_BYTES", 100)
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    with store.writer() as writer:
        for text in "abcde":
            writer.add(keys(text), np.zeros((1, 10), np.float32))
    assert sorted(len(shard.keys) for shard in store.shards) == [2, 3]


def test_no_rows_are_no_shard(tmp_path: Path) -> None:
    store = FeatureStore.create(tmp_path, SIGNATURE, {})
    with store.writer() as writer:
        writer.add(keys(), np.zeros((0, 3), np.float32))
    assert not store.files()


def test_rows_that_are_really_gone_are_a_store_error(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.holds(keys("a")).all()
    for path in store.files():
        path.unlink()
    with pytest.raises(StoreError, match=r"1 of 1 inputs .*tier extract"):
        store.read(keys("a"))


def test_one_broken_signature_file_leaves_the_other_stores_usable(tmp_path: Path) -> None:
    sound = filled(tmp_path)
    broken = FeatureStore.create(tmp_path, replace(SIGNATURE, encoder="another"), {}).path
    (broken / "signature.json").write_text("{")
    assert (
        [store.path for store in stores(tmp_path)]
        == [store.path for store in require_stores(tmp_path)]
        == [sound.path]
    )
    assert list(broken_stores(tmp_path)) == [broken] and "signature.json" in broken_stores(tmp_path)[broken]
    shutil.rmtree(sound.path)
    with pytest.raises(StoreError, match=r"no feature stores(.|\n)*another.*is not a feature store"):
        require_stores(tmp_path)


def test_a_folder_that_is_not_there_has_no_stores(tmp_path: Path) -> None:
    assert not list(stores(tmp_path / "none")) and not broken_stores(tmp_path / "none")
