"""A shard gives back exactly what was written, or says that it is damaged; it never follows a link and never allocates for a lie."""

import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cache.keys import KEY_BYTES, key_array, text_key
from cache.shard import Shard, ShardError, UnreadableShardError, checksum, write_shard

KEYS = key_array(map(text_key, "abc"))
FEATURES = np.arange(6, dtype=np.float32).reshape(3, 2)
ROWS = 2**40

finite = st.floats(allow_nan=False, allow_infinity=False, width=16)
shapes = arrays.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5)
tables = st.sampled_from(["float16", "float32", "float64"]).flatmap(lambda dtype: arrays.arrays(dtype, shapes, elements=finite))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shard(tmp_path, "signature", KEYS, FEATURES)


def content(path: Path) -> tuple:
    shard = Shard.open(path)
    features = shard.read()
    return shard.signature, shard.checksum, shard.keys.tobytes(), features.shape, features.dtype.str, features.tobytes()


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


@settings(max_examples=60, deadline=None)
@given(features=tables, data=st.data())
def test_what_is_written_is_read(features: np.ndarray, data: st.DataObject) -> None:
    keys = data.draw(arrays.arrays(np.uint8, (len(features), KEY_BYTES)))
    with tempfile.TemporaryDirectory() as folder:
        path = write_shard(Path(folder), "signature", keys, features)
        shard = Shard.open(path)
        assert (shard.signature, shard.shape, shard.dtype) == ("signature", features.shape[1:], features.dtype)
        assert shard.keys.tobytes() == keys.tobytes()
        read = shard.read()
        assert (read.shape, read.dtype, read.tobytes()) == (features.shape, features.dtype, features.tobytes())


def test_writing_the_same_rows_twice_is_writing_one_file(tmp_path: Path, shard: Path) -> None:
    assert write_shard(tmp_path, "signature", KEYS, FEATURES) == shard
    assert os.listdir(tmp_path) == [shard.name]


def test_rows_that_are_not_contiguous_are_written_as_they_read(tmp_path: Path, shard: Path) -> None:
    wide = np.repeat(np.asfortranarray(FEATURES), 2, axis=1)[:, ::2]
    assert write_shard(tmp_path, "signature", np.asfortranarray(KEYS), wide) == shard
    assert content(shard)[-1] == FEATURES.tobytes()


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
    assert checksum(keys, features) != checksum(KEYS, FEATURES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(3, 2), (3, 4, 2)])
def test_what_is_not_finite_is_refused_and_nothing_is_written(tmp_path: Path, value: float, shape: tuple[int, ...]) -> None:
    features = np.zeros(shape, np.float32)
    features[1, ..., 1] = value
    with pytest.raises(ShardError, match="1 of 3 inputs, nothing"):
        write_shard(tmp_path, "signature", KEYS, features)
    assert not os.listdir(tmp_path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path, shard: Path) -> None:
    sound = shard.read_bytes()
    cut = tmp_path / "cut.h5"
    for length in range(0, len(sound), 17):
        cut.write_bytes(sound[:length])
        with pytest.raises(ShardError, match="cut.h5"):
            content(cut)


def test_every_flipped_byte_is_refused_or_changes_nothing(shard: Path) -> None:
    sound, wanted = shard.read_bytes(), content(shard)
    for position in range(len(sound)):
        shard.write_bytes(flipped(sound, position))
        assert content_or_refusal(shard) in (None, wanted), position


def test_every_flipped_byte_of_keys_and_features_is_refused(shard: Path) -> None:
    sound = shard.read_bytes()
    for array in (KEYS, FEATURES):
        start = sound.index(array.tobytes())
        for position in range(start, start + array.nbytes):
            shard.write_bytes(flipped(sound, position))
            with pytest.raises(ShardError, match="checksum"):
                content(shard)


def test_a_text_of_variable_length_is_refused_as_a_damaged_one_can_hang_its_reader(shard: Path) -> None:
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
        with pytest.raises(UnreadableShardError, match=path.name):
            Shard.open(path)


def test_a_shard_that_is_damaged_after_opening_is_refused(shard: Path) -> None:
    opened = Shard.open(shard)
    shard.write_bytes(b"")
    with pytest.raises(ShardError, match="damaged"):
        opened.read()


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
    file["elsewhere"] = FEATURES if name == "features" else KEYS
    file[name] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("sound.h5", name)


def virtual(file: h5py.File, name: str) -> None:
    like = FEATURES if name == "features" else KEYS
    layout = h5py.VirtualLayout(like.shape, like.dtype)
    layout[...] = h5py.VirtualSource("sound.h5", name, like.shape)
    file.create_virtual_dataset(name, layout)


def external_storage(file: h5py.File, name: str) -> None:
    like = FEATURES if name == "features" else KEYS
    file.create_dataset(name, like.shape, like.dtype, external=[("/etc/passwd", 0, like.nbytes)])


def scalar(file: h5py.File, name: str) -> None:
    file[name] = np.float32(1)


def texts(file: h5py.File, name: str) -> None:
    file[name] = ["a", "b", "c"]


def too_many_rows(file: h5py.File, name: str) -> None:
    like = FEATURES if name == "features" else KEYS
    file[name] = np.concatenate([like, like])


def without_data(file: h5py.File, name: str) -> None:
    like = FEATURES if name == "features" else KEYS
    file.create_dataset(name, like.shape, like.dtype)


@pytest.mark.parametrize("name", ["keys", "features"])
@pytest.mark.parametrize(
    "make",
    [nothing, group, soft_link, external_link, virtual, external_storage, scalar, texts, too_many_rows, without_data],
)
def test_what_is_no_plain_dataset_is_refused(shard: Path, name: str, make: Callable[[h5py.File, str], None]) -> None:
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
        file.create_dataset("features", (ROWS, 4), np.float32, chunks=chunks)
    assert_refused_without_allocating(path)


def test_data_that_unpack_to_far_more_than_the_file_holds_are_refused(shard: Path) -> None:
    with h5py.File(shard, "a") as file:
        del file["features"]
        file.create_dataset("features", data=np.zeros((3, 2**20), np.float32), compression="gzip")
    assert shard.stat().st_size < 2**20
    assert_refused_without_allocating(shard)
