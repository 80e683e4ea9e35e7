"""A shard returns exactly what was written, or an error.

It follows no link, and a false declaration of its size allocates no memory.
"""

import io
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tier4k.cache.keys import KEY_BYTES
from tier4k.cache.new_shard import NewRows, write_blocks, write_shard
from tier4k.cache.shard import Shard
from tier4k.cache.shard_content import (
    ShardError,
    UnreadableShardError,
    VanishedShardError,
    checksum,
    row_checks,
)
from tier4k.tests.builders.stores import text_keys

KEYS = text_keys(*"abc")
FEATURES = np.arange(6, dtype=np.float32).reshape(3, 2)
LIKE = {"keys": KEYS, "features": FEATURES, "row_checks": row_checks(FEATURES)}
ROWS = 2**40

finite = st.floats(allow_nan=False, allow_infinity=False, width=16)
shapes = arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5)
tables = st.sampled_from(["float16", "float32", "float64"]).flatmap(
    lambda dtype: arrays.arrays(dtype, shapes, elements=finite)
)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(tmp_path, "signature", KEYS, FEATURES)


def everything(shard: Shard) -> np.ndarray:
    """All features, read in two ways."""
    keys_of_blocks, features_of_blocks = zip(*shard.blocks(2), strict=True)
    features = np.concatenate(features_of_blocks)
    assert np.concatenate(keys_of_blocks).tobytes() == shard.keys.tobytes()
    assert shard.rows(np.arange(len(features))).tobytes() == features.tobytes()
    return features


def assert_identical(read: np.ndarray, written: np.ndarray) -> None:
    assert read.shape == written.shape
    assert read.dtype == written.dtype
    assert read.tobytes() == written.tobytes()


def content(path: Path) -> tuple:
    shard = Shard.open(path)
    features = everything(shard)
    return (
        shard.signature,
        shard.checksum,
        shard.keys.tobytes(),
        features.shape,
        features.dtype.str,
        features.tobytes(),
    )


def content_or_refusal(path: Path) -> tuple | None:
    try:
        return content(path)
    except ShardError:
        return None


def flipped(sound: bytes, position: int) -> bytes:
    return sound[:position] + bytes([sound[position] ^ 255]) + sound[position + 1 :]


def assert_refused_without_allocating(path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ShardError, match=path.name):
            content(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# The strategy drops few inputs, but a busy random generator may drop many in a row.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(features=tables, data=st.data())
def test_a_shard_returns_the_rows_that_were_written(features: np.ndarray, data: st.DataObject) -> None:
    keys = data.draw(arrays.arrays(np.uint8, (len(features), KEY_BYTES)))
    with tempfile.TemporaryDirectory() as folder:
        path = write_shard(Path(folder), "signature", keys, features)
        shard = Shard.open(path)
        assert shard.signature == "signature"
        assert shard.shape == features.shape[1:]
        assert shard.keys.tobytes() == keys.tobytes()
        assert_identical(everything(shard), features)


def test_writing_the_same_rows_twice_is_writing_one_file(tmp_path: Path, shard: Path) -> None:
    assert write_shard(tmp_path, "signature", KEYS, FEATURES) == shard
    assert os.listdir(tmp_path) == [shard.name]


def test_rows_that_are_not_contiguous_are_written_as_they_read(tmp_path: Path, shard: Path) -> None:
    wide = np.repeat(np.asfortranarray(FEATURES), 2, axis=1)[:, ::2]
    assert write_shard(tmp_path, "signature", np.asfortranarray(KEYS), wide) == shard
    assert content(shard)[-1] == FEATURES.tobytes()


def whole_checksum(keys: np.ndarray, features: np.ndarray) -> str:
    return checksum(features.shape, features.dtype, [keys], [row_checks(features)])


@pytest.mark.parametrize(
    ("keys", "features"),
    [
        (KEYS[::-1], FEATURES),
        (KEYS, FEATURES[::-1]),
        (KEYS, FEATURES.astype(np.float64)),
        (KEYS, FEATURES.reshape(3, 1, 2)),
        (KEYS, FEATURES.view(np.int32)),
        (KEYS, FEATURES.byteswap().view(">f4")),
    ],
    ids=["keys", "features", "precision", "shape", "kind", "byte order"],
)
def test_other_rows_have_another_checksum(keys: np.ndarray, features: np.ndarray) -> None:
    assert whole_checksum(keys, features) != whole_checksum(KEYS, FEATURES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(3, 2), (3, 4, 2)])
def test_nan_and_infinity_are_refused_and_nothing_is_written(
    tmp_path: Path, value: float, shape: tuple[int, ...]
) -> None:
    features = np.zeros(shape, np.float32)
    features[1, ..., 1] = value
    with pytest.raises(ShardError, match="1 of 3 inputs, so none"):
        write_shard(tmp_path, "signature", KEYS, features)
    assert not os.listdir(tmp_path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path, shard: Path) -> None:
    sound = shard.read_bytes()
    cut = tmp_path / "cut.h5"
    for length in range(0, len(sound), 17):
        cut.write_bytes(sound[:length])
        with pytest.raises(ShardError, match="cut.h5"):
            content(cut)


@pytest.mark.slow
def test_every_flipped_byte_is_refused_or_changes_nothing(shard: Path) -> None:
    sound, wanted = shard.read_bytes(), content(shard)
    for position in range(len(sound)):
        shard.write_bytes(flipped(sound, position))
        assert content_or_refusal(shard) in (None, wanted), position


def test_every_flipped_byte_of_keys_features_and_checks_is_refused(shard: Path) -> None:
    sound = shard.read_bytes()
    for array in (KEYS, FEATURES, row_checks(FEATURES)):
        start = sound.index(array.tobytes())
        for position in range(start, start + array.nbytes):
            shard.write_bytes(flipped(sound, position))
            with pytest.raises(ShardError, match="checksum"):
                content(shard)


def test_a_text_of_variable_length_is_refused_because_a_damaged_one_hangs_the_reader(shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        file.attrs["signature"] = "signature"
    with pytest.raises(ShardError, match="fixed length"):
        content(shard)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=4096), signed=st.booleans())
def test_random_bytes_are_refused(data: bytes, signed: bool) -> None:
    with tempfile.NamedTemporaryFile(suffix=".h5") as file:
        file.write(b"\x89HDF\r\n\x1a\n" * signed + data)
        file.flush()
        assert content_or_refusal(Path(file.name)) is None


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.h5", tmp_path):
        with pytest.raises(UnreadableShardError, match=path.name) as caught:
            Shard.open(path)
        assert isinstance(caught.value, VanishedShardError) == (not path.exists())


def test_a_shard_that_is_damaged_after_opening_is_refused(shard: Path) -> None:
    opened = Shard.open(shard)
    shard.write_bytes(b"")
    with pytest.raises(ShardError, match="damaged"):
        list(opened.blocks())
    with pytest.raises(ShardError, match="damaged"):
        opened.rows(np.array([1]))


@pytest.mark.parametrize("name", ["signature", "checksum"])
def test_a_missing_attribute_is_refused(shard: Path, name: str) -> None:
    with h5py.File(shard, "a") as file:
        del file.attrs[name]
    with pytest.raises(ShardError, match=shard.name):
        Shard.open(shard)


def test_a_changed_checksum_is_refused(shard: Path) -> None:
    with h5py.File(shard, "a") as file:
        file.attrs["checksum"] = np.bytes_("0" * 64)
    with pytest.raises(ShardError, match="checksum"):
        content(shard)


def nothing(file: h5py.File, name: str) -> None:
    pass


def group(file: h5py.File, name: str) -> None:
    file.create_group(name)


def soft_link(file: h5py.File, name: str) -> None:
    file["elsewhere"] = LIKE[name]
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("sound.h5", name)


def virtual(file: h5py.File, name: str) -> None:
    like = LIKE[name]
    layout = h5py.VirtualLayout(like.shape, like.dtype)
    layout[...] = h5py.VirtualSource("sound.h5", name, like.shape)
    file.create_virtual_dataset(name, layout)


def external_storage(file: h5py.File, name: str) -> None:
    like = LIKE[name]
    file.create_dataset(name, like.shape, like.dtype, external=[("/etc/passwd", 0, like.nbytes)])


def scalar(file: h5py.File, name: str) -> None:
    file[name] = np.float32(1)


def texts(file: h5py.File, name: str) -> None:
    file[name] = ["a", "b", "c"]


def too_many_rows(file: h5py.File, name: str) -> None:
    file[name] = np.concatenate([LIKE[name], LIKE[name]])


def without_data(file: h5py.File, name: str) -> None:
    file.create_dataset(name, LIKE[name].shape, LIKE[name].dtype)


def chunked(file: h5py.File, name: str) -> None:
    file.create_dataset(name, data=LIKE[name], chunks=LIKE[name].shape)


def inside_the_header(file: h5py.File, name: str) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    kind = h5py.h5t.py_create(LIKE[name].dtype)
    space = h5py.h5s.create_simple(LIKE[name].shape)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, LIKE[name])


@pytest.mark.parametrize("name", LIKE)
@pytest.mark.parametrize(
    "make",
    [
        nothing,
        group,
        soft_link,
        external_link,
        virtual,
        external_storage,
        scalar,
        texts,
        too_many_rows,
        without_data,
        chunked,
        inside_the_header,
    ],
)
def test_a_dataset_that_is_not_plain_is_refused(
    shard: Path, name: str, make: Callable[[h5py.File, str], None]
) -> None:
    (shard.parent / "sound.h5").write_bytes(shard.read_bytes())
    with h5py.File(shard, "a") as file:
        del file[name]
        make(file, name)
    assert_refused_without_allocating(shard)


@pytest.mark.parametrize("chunks", [None, True], ids=["contiguous", "chunked"])
def test_a_huge_shape_without_data_is_refused_without_allocating(tmp_path: Path, chunks: bool | None) -> None:
    path = tmp_path / "huge.h5"
    with h5py.File(path, "w") as file:
        file.attrs["signature"] = file.attrs["checksum"] = np.bytes_("x")
        file.create_dataset("keys", (ROWS, KEY_BYTES), np.uint8, chunks=chunks)
        file.create_dataset("row_checks", (ROWS,), np.uint64, chunks=chunks)
        file.create_dataset("features", (ROWS, 4), np.float32, chunks=chunks)
    assert_refused_without_allocating(path)


def test_compressed_data_larger_than_the_file_are_refused(shard: Path) -> None:
    with h5py.File(shard, "a") as file:
        del file["features"]
        file.create_dataset("features", data=np.zeros((3, 2**20), np.float32), compression="gzip")
    assert shard.stat().st_size < 2**20
    assert_refused_without_allocating(shard)


def test_a_huge_shape_whose_data_are_a_hole_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hole.h5"
    rows = 2**36  # the usual file systems limit a file to 16 TiB
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        file.attrs["signature"] = file.attrs["checksum"] = np.bytes_("x")
        for name, shape, dtype in (
            ("keys", (rows, KEY_BYTES), "u1"),
            ("row_checks", (rows,), "<u8"),
            ("features", (rows, 1), "<f4"),
        ):
            kind = h5py.h5t.py_create(np.dtype(dtype))
            space = h5py.h5s.create_simple(shape)
            h5py.h5d.create(file.id, name.encode(), kind, space, plist)
    assert path.stat().st_size > 2**40
    assert_refused_without_allocating(path)


@settings(max_examples=40, deadline=None)
@given(features=tables, data=st.data())
def test_rows_are_read_in_any_order_with_repeats_as_in_numpy(
    features: np.ndarray, data: st.DataObject
) -> None:
    numbers = np.array(data.draw(st.lists(st.integers(0, len(features) - 1), max_size=20)), int)
    keys = np.zeros((len(features), KEY_BYTES), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        shard = Shard.open(write_shard(Path(folder), "signature", keys, features))
        read = shard.rows(numbers)
    assert_identical(read, features[numbers])


@pytest.mark.parametrize("width", [1, 2**9, 2**18], ids=["narrow", "usual", "wider than a block"])
def test_many_rows_are_read_in_several_pieces(tmp_path: Path, width: int) -> None:
    rows = max(3, 2**19 // width // 100)
    keys = np.zeros((rows, KEY_BYTES), np.uint8)
    features = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    shard = Shard.open(write_shard(tmp_path, "signature", keys, features))
    in_order = np.arange(rows)
    at_random = np.random.default_rng(0).integers(0, rows, rows)
    for numbers in (in_order, in_order[::-1], at_random):
        np.testing.assert_array_equal(shard.rows(numbers), features[numbers])
    blocks = [block for _, block in shard.blocks()]
    np.testing.assert_array_equal(np.concatenate(blocks), features)


def test_a_damaged_row_is_noticed_where_it_is_read_and_nowhere_else(shard: Path) -> None:
    opened, sound = Shard.open(shard), shard.read_bytes()
    for position in range(opened.offset, opened.offset + FEATURES.nbytes):
        shard.write_bytes(flipped(sound, position))
        damaged = (position - opened.offset) // opened.row_bytes
        others = np.delete(np.arange(3), damaged)
        np.testing.assert_array_equal(Shard.open(shard).rows(others), FEATURES[others])
        with pytest.raises(ShardError, match=f"{shard.name}.*checksum"):
            opened.rows(np.array([damaged]))
        with pytest.raises(ShardError, match=f"{shard.name}.*checksum"):
            list(opened.blocks())


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_nan_with_a_valid_checksum_is_refused_by_every_reader(tmp_path: Path, value: float) -> None:
    features = FEATURES.copy()
    features[1, 1] = value
    path = write_blocks(tmp_path, "signature", NewRows.of(KEYS, row_checks(features), features))
    opened = Shard.open(path)
    np.testing.assert_array_equal(opened.rows(np.array([0, 2])), FEATURES[[0, 2]])
    for read in (lambda: opened.rows(np.array([1])), lambda: list(opened.blocks())):
        with pytest.raises(ShardError, match="NaN or infinite(?s:.)*store verify --repair"):
            read()


@pytest.mark.parametrize("missing", [1, 5, 20, 24, 1000])
def test_a_shard_that_is_cut_short_after_opening_is_refused(shard: Path, missing: int) -> None:
    opened = Shard.open(shard)
    end = opened.offset + FEATURES.nbytes
    with shard.open("r+b") as file:
        file.truncate(end - missing)
    for numbers in ([0, 1, 2], [0, 2]):
        with pytest.raises(ShardError, match="ends too early"):
            opened.rows(np.array(numbers))
    with pytest.raises(ShardError, match="ends too early"):
        list(opened.blocks())


def test_a_shard_that_vanishes_after_opening_is_reported(shard: Path) -> None:
    opened = Shard.open(shard)
    shard.unlink()
    with pytest.raises(VanishedShardError, match=shard.name):
        opened.rows(np.arange(3))
    with pytest.raises(VanishedShardError, match=shard.name):
        list(opened.blocks())


def test_a_link_to_nothing_is_not_a_vanished_shard(tmp_path: Path) -> None:
    (tmp_path / "link.h5").symlink_to(tmp_path / "none.h5")
    with pytest.raises(UnreadableShardError, match="cannot be read") as caught:
        Shard.open(tmp_path / "link.h5")
    assert not isinstance(caught.value, VanishedShardError)


def test_features_written_in_blocks_are_the_same_file(tmp_path: Path, shard: Path) -> None:
    (tmp_path / "blocks").mkdir()

    def rows_of(table: np.ndarray) -> Callable[[], Iterator[np.ndarray]]:
        return lambda: (table[start : start + 1] for start in range(3))

    rows = NewRows(3, (2,), FEATURES.dtype, rows_of(KEYS), rows_of(row_checks(FEATURES)), rows_of(FEATURES))
    path = write_blocks(tmp_path / "blocks", "signature", rows)
    assert path.name == shard.name
    assert path.read_bytes() == shard.read_bytes()


def test_a_shard_is_the_file_that_h5py_writes_of_whole_arrays(tmp_path: Path) -> None:
    """Files of equal rows stay equal from version to version, as their names do."""
    keys = np.random.default_rng(0).integers(0, 256, (4000, KEY_BYTES), np.uint8)
    features = np.random.default_rng(1).random((4000, 5), np.float32)
    path = write_shard(tmp_path, "signature", keys, features)
    checks = row_checks(features)
    whole = xxhash.xxh3_128(b"(4000, 5) <f4" + keys.tobytes() + checks.tobytes()).hexdigest()
    assert path.name == f"{whole[:16]}.h5"
    options = {"alignment_threshold": 2**16, "alignment_interval": 2**12}
    raw = io.BytesIO()
    with h5py.File(raw, "w", libver=("v110", "v110"), **options) as file:
        file.attrs["signature"] = np.bytes_("signature")
        file.attrs["checksum"] = np.bytes_(whole)
        file["keys"] = keys
        file["row_checks"] = checks
        file.create_dataset("features", features.shape, features.dtype)[:] = features
    assert path.read_bytes() == raw.getvalue()


def test_a_shard_that_vanishes_and_comes_back_while_it_is_opened_is_not_called_damaged(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_file(*arguments: object, **options: object) -> None:
        sound = shard.read_bytes()
        shard.rename(shard.with_suffix(".old"))
        shard.write_bytes(sound)
        raise OSError("can't retrieve stat info for file")

    with monkeypatch.context() as race:
        race.setattr(h5py, "File", replace_file)
        with pytest.raises(VanishedShardError):
            Shard.open(shard)
    assert content(shard)
