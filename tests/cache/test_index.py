"""A large store reads the same through its index file; a file that does not fit the shards is not used."""

import errno
import os
import pickle
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tier4k.cache.compact import compact
from tier4k.cache.index import INDEX_FILE
from tier4k.cache.new_shard import write_shard
from tier4k.cache.records import RecordFile
from tier4k.cache.shard_content import ShardError, map_array
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import set_aside, verify
from tier4k.tests.builders.stores import (
    SIGNATURE,
    assert_features_follow_from_keys,
    create_store,
    features_of,
    file_contents,
    number_keys,
    write_rows,
)


@pytest.fixture(autouse=True)
def small_limits(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every store of three shards or six rows is large, and is worked on a few rows at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tier4k.cache.index.SHARDS_IN_MEMORY", 2)
        patch.setattr("tier4k.cache.index.ROWS_IN_MEMORY", 5)
        patch.setattr("tier4k.cache.index.KEYS_AT_ONCE", 3)
        patch.setattr("tier4k.cache.index.ROWS_AT_ONCE", 4)
        yield


def large(root: Path) -> FeatureStore:
    """A store of 20 rows with an index file."""
    store = create_store(root)
    write_rows(store, range(20), 3)
    store = FeatureStore.open(store.path)
    assert store.holds(number_keys(range(20))).all()
    assert index_file(store).exists()
    return store


def index_file(store: FeatureStore) -> Path:
    return store.path / INDEX_FILE


def opened_again(store: FeatureStore) -> FeatureStore:
    return FeatureStore.open(store.path)


def assert_holds_only(store: FeatureStore, numbers: range) -> None:
    assert sorted(map(bytes, store.keys)) == sorted(map(bytes, number_keys(numbers)))
    assert_features_follow_from_keys(store)


Rows = list[tuple[int, int]]  # number of the key, value of the features
Model = dict[bytes, np.ndarray]


def put(model: Model, key: np.ndarray, row: np.ndarray) -> None:
    """Keep the row of a key with the lowest check."""
    before = model.get(bytes(key))
    if before is None or xxhash.xxh3_64_intdigest(row) < xxhash.xxh3_64_intdigest(before):
        model[bytes(key)] = row


def write(store: FeatureStore, model: Model, rows: Rows) -> None:
    keys = number_keys([number for number, _ in rows])
    features = np.array([[number, value] for number, value in rows], np.float32)
    write_shard(store.path, SIGNATURE.digest, keys, features)
    for key, row in zip(keys, features, strict=True):
        put(model, key, row)


def damage(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1
    path.write_bytes(content)


def assert_equals(store: FeatureStore, model: Model) -> None:
    keys = sorted(model)
    assert [bytes(key) for key in store.keys] == keys
    assert store.rows == len(keys)
    asked = np.concatenate([store.keys[::-1], number_keys(range(100, 107)), store.keys])
    assert [key in model for key in map(bytes, asked)] == store.holds(asked).tolist()
    np.testing.assert_array_equal(store.read(store.keys), np.array([model[key] for key in keys]))
    rows_of_blocks: set[tuple[bytes, bytes]] = set()
    for block_keys, features in store.blocks():
        rows_of_blocks.update(zip(map(bytes, block_keys), map(bytes, features), strict=True))
    assert {(key, bytes(row)) for key, row in model.items()} <= rows_of_blocks


rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=8)
steps = st.one_of(
    st.tuples(st.just("write"), rows),
    st.tuples(st.just("compact"), st.integers(1, 12)),
    st.tuples(st.just("damage"), st.integers(0, 10**4)),
    st.tuples(st.just("remove index"), st.none()),
)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(steps=st.lists(steps, min_size=1, max_size=7))
def test_a_store_is_a_dictionary_whatever_happens_to_its_index(steps: list) -> None:
    model: Model = {}
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder))
        write(store, model, [(0, 0)])
        opened_earlier = opened_again(store)
        before = dict(model)
        assert_equals(opened_earlier, before)
        for kind, value in steps:
            if kind == "write":
                write(store, model, value)
            elif kind == "compact":
                compact(store, range_bytes=value * 8)
            elif index_file(store).exists():
                damage(index_file(store), value) if kind == "damage" else index_file(store).unlink()
            assert_equals(opened_again(store), model)
            assert opened_earlier.holds(number_keys([0])).all()
            assert opened_earlier.read(number_keys([0]))[0, 0] == 0
        assert verify(store).damaged == {}


def test_a_small_store_has_no_index_file(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    write_rows(store, range(4), 2)
    before = file_contents(store.path)
    assert_holds_only(opened_again(store), range(4))
    assert file_contents(store.path) == before


def test_opening_and_reading_through_the_index_needs_no_hdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = large(tmp_path)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a shard was opened with HDF5")

    monkeypatch.setattr(h5py, "File", refuse)
    store = opened_again(store)
    assert_holds_only(store, range(20))
    assert sum(len(keys) for keys, _ in store.blocks()) == 20


def test_shards_that_are_newer_than_the_index_file_are_found_and_later_added(tmp_path: Path) -> None:
    store = large(tmp_path)
    first = index_file(store).read_bytes()
    write_rows(store, range(20, 23), 2)
    assert_holds_only(opened_again(store), range(23))
    assert index_file(store).read_bytes() == first
    write_rows(store, range(23, 33), 2)
    assert_holds_only(opened_again(store), range(33))
    assert index_file(store).read_bytes() != first


def test_a_store_that_was_open_before_its_index_file_was_replaced_continues(tmp_path: Path) -> None:
    store = large(tmp_path)
    write_rows(store, range(20, 40), 2)
    assert opened_again(store).holds(number_keys(range(40))).all()
    assert_holds_only(store, range(20))


def test_every_flipped_byte_and_every_length_of_an_index_file_is_noticed(tmp_path: Path) -> None:
    path = index_file(large(tmp_path))
    sound = path.read_bytes()
    assert RecordFile.open(path)
    for position in [*range(64), *range(64, len(sound), 31)]:
        damage(path, position)
        assert RecordFile.open(path) is None, position
        path.write_bytes(sound)
    for length in range(0, len(sound), 211):
        path.write_bytes(sound[:length])
        assert RecordFile.open(path) is None


def test_an_index_file_that_a_share_no_longer_gives_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = large(tmp_path)
    stale = [OSError(errno.ESTALE, os.strerror(errno.ESTALE))]

    def fail_once(*arguments: Any) -> np.ndarray:
        if stale:
            raise stale.pop()
        return map_array(*arguments)

    monkeypatch.setattr("tier4k.cache.records.map_array", fail_once)
    assert_holds_only(store, range(20))
    assert not stale


def test_an_index_file_that_is_cut_while_it_is_open_is_made_again(tmp_path: Path) -> None:
    store = large(tmp_path)
    with index_file(store).open("r+b") as file:
        file.truncate(100)
    assert_holds_only(store, range(20))


def test_an_index_file_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    store = large(tmp_path)
    sound = index_file(store).read_bytes()
    for content in (sound[:-9], b"", b"other", sound[:70] + b"\xff" + sound[71:]):
        index_file(store).write_bytes(content)
        assert_holds_only(opened_again(store), range(20))
        assert index_file(store).read_bytes() == sound


def test_an_index_file_of_a_shard_that_is_gone_is_not_used(tmp_path: Path) -> None:
    store = large(tmp_path)
    path = store.files()[0]
    with h5py.File(path) as file:
        keys = file["keys"][()]
    path.unlink()
    store = opened_again(store)
    assert not store.holds(keys).any()
    assert store.rows == 20 - len(keys)
    assert_features_follow_from_keys(store)


def test_rows_are_right_where_shards_have_the_names_of_others(tmp_path: Path) -> None:
    """The names are all that an index compares with the folder; what it reads shows the rest."""
    store = large(tmp_path)
    first, *_, last = store.files()
    first.rename(tmp_path / "first")
    last.rename(first)
    (tmp_path / "first").rename(last)
    assert_holds_only(opened_again(store), range(20))
    assert sum(len(keys) for keys, _ in opened_again(store).blocks()) == 20


def test_a_damaged_row_behind_an_index_is_an_error_that_names_its_shard(tmp_path: Path) -> None:
    store = large(tmp_path)
    shard = store.shards[2]
    keys = shard.keys
    damage(shard.path, shard.offset)
    store = opened_again(store)
    assert store.holds(keys).all()
    with pytest.raises(ShardError, match=f"{shard.path.name}(.|\n)*verify --repair"):
        store.read(keys)
    with pytest.raises(ShardError, match=shard.path.name):
        list(store.blocks())
    assert index_file(store).exists()
    set_aside(verify(store))
    assert not opened_again(store).holds(keys).any()


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path / "features")
    write_rows(store, range(20), 3)
    before = file_contents(store.path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tier4k.cache.index.publish_beside", refuse)
    assert_holds_only(opened_again(store), range(20))
    assert file_contents(store.path) == before
    assert not os.listdir(tmp_path / "tmp")


def test_an_index_file_makes_no_store_younger(tmp_path: Path) -> None:
    store = create_store(tmp_path)
    write_rows(store, range(20), 3)
    os.utime(store.path / "signature.json", (1000, 1000))
    assert opened_again(store).holds(number_keys(range(20))).all()
    assert index_file(store).stat().st_mtime == 1000


def test_a_pickled_store_reads_what_is_there_when_it_is_loaded(tmp_path: Path) -> None:
    store = large(tmp_path)
    pickled = pickle.dumps(store)
    write_rows(store, range(20, 23), 2)
    assert_holds_only(pickle.loads(pickled), range(23))


def test_an_index_file_is_no_shard_and_no_damage(tmp_path: Path) -> None:
    store = large(tmp_path)
    found = verify(opened_again(store))
    assert (found.sound, found.rows, found.damaged) == (7, 20, {})


def test_equal_content_gives_equal_features_in_any_distribution_over_shards(tmp_path: Path) -> None:
    """Also where the index file has one of two rows of a key, and a newer shard the other."""
    doubles = [(number, value) for number in range(5) for value in range(3)]
    read = []
    for seed in range(2):
        random.Random(seed).shuffle(doubles)
        store, model = create_store(tmp_path / str(seed)), {}
        for start in range(0, len(doubles), 2):
            write(store, model, doubles[start : start + 2])
            assert_equals(opened_again(store), model)
        read.append(opened_again(store).read(number_keys(range(5))))
    np.testing.assert_array_equal(read[1], read[0])


def test_the_keys_of_a_large_shard_are_mapped_and_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create_store(tmp_path)
    write_rows(store, range(20))
    monkeypatch.setattr("tier4k.cache.shard.MAPPED_BYTES", 1)
    assert_holds_only(opened_again(store), range(20))
    keys, features = next(iter(opened_again(store).blocks()))
    np.testing.assert_array_equal(features, features_of(keys))
    compact(store)
    assert_holds_only(opened_again(store), range(20))
