"""An image is read once while its file stays the same, and an edited one always gets its new key."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tier4k.extract.datasets.hashes import hasher as hasher_module
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import HashedImages, ImageHasher
from tier4k.extract.images import file_state
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.file_state import FileState
from tier4k.extract.images.place_names import parquet_place
from tier4k.tests.builders.data import make_picture, save_picture


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read; files that were written just now count as old."""
    names: list[str] = []
    read_bytes = hasher_module.read_bytes

    def read(place: str) -> bytes:
        names.append(Path(place).name)
        return read_bytes(place)

    monkeypatch.setattr(hasher_module, "read_bytes", read)
    monkeypatch.setattr(file_state, "STAMP_RESOLUTION_NS", -1)
    return names


def hash_again(folder: Path, images: list[str], rehash: bool = False) -> HashedImages:
    """Hash images as a new process does, and publish the hashes."""
    hasher = ImageHasher(KeyCache(folder / "hashes"), rehash)
    hashed = hasher.hash(images)
    hasher.publish()
    return hashed


def sha256(path: Path | str, mark: bytes = b"") -> bytes:
    return hashlib.sha256(Path(path).read_bytes() + mark).digest()


def keys(hashed: HashedImages) -> list[bytes]:
    return [key.tobytes() for key in hashed.keys]


def image(folder: Path, seed: int = 0) -> Path:
    """A file that can be replaced by an image of the same size in bytes."""
    path = folder / "a.bmp"
    save_picture(path, seed)
    return path


def turned_and_transparent(folder: Path) -> list[str]:
    """A plain image, one that is turned, one that is transparent, and one that is both."""
    orientation = Image.Exif()
    orientation[0x0112] = 8
    save_picture(folder / "plain.png", 0)
    make_picture(1).save(folder / "turned.jpg", exif=orientation)
    make_picture(2).convert("RGBA").save(folder / "transparent.png")
    both = make_picture(3)
    both.putalpha(100)
    both.save(folder / "both.webp", exif=orientation)
    return [str(folder / name) for name in ("plain.png", "turned.jpg", "transparent.png", "both.webp")]


def test_keys_and_flags_from_the_cache_are_those_from_the_file(tmp_path: Path, reads: list[str]) -> None:
    images = turned_and_transparent(tmp_path)
    mark = b"upright-on-white-1"
    expected = [sha256(images[0]), *(sha256(path, mark) for path in images[1:])]
    for expected_reads in (4, 4):
        hashed = hash_again(tmp_path, images)
        assert keys(hashed) == expected
        assert hashed.is_turned.tolist() == [False, True, False, True]
        assert hashed.is_transparent.tolist() == [False, False, True, True]
        assert not hashed.problems and not len(hashed.missing)
        assert len(reads) == expected_reads


def edit_in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def edit_and_keep_the_time(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_another_file(path: Path, content: bytes) -> None:
    other = path.with_name("b.bmp")
    other.write_bytes(content)
    other.replace(path)


def replace_by_an_older_file(path: Path, content: bytes) -> None:
    other = path.with_name("b.bmp")
    other.write_bytes(content)
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "edit", [edit_in_place, edit_and_keep_the_time, replace_by_another_file, replace_by_an_older_file]
)
def test_an_edited_image_of_the_same_size_gets_a_new_key(
    tmp_path: Path, reads: list[str], edit: Callable[[Path, bytes], None]
) -> None:
    path = image(tmp_path)
    (tmp_path / "other").mkdir()
    content = image(tmp_path / "other", seed=1).read_bytes()
    (first,) = keys(hash_again(tmp_path, [str(path)]))
    time.sleep(0.05)  # longer than a tick of the file system's clock
    edit(path, content)
    assert keys(hash_again(tmp_path, [str(path)])) == [sha256(path)] != [first]
    assert len(reads) == 2


def test_a_touched_image_is_read_again_and_keeps_its_key(tmp_path: Path, reads: list[str]) -> None:
    path = image(tmp_path)
    first = keys(hash_again(tmp_path, [str(path)]))
    os.utime(path, ns=(1, 1))
    assert keys(hash_again(tmp_path, [str(path)])) == first
    assert len(reads) == 2


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_state, "STAMP_RESOLUTION_NS", 2_000_000_000)
    path = image(tmp_path)
    hash_again(tmp_path, [str(path)])
    hash_again(tmp_path, [str(path)])
    assert len(reads) == 2


def test_a_file_that_is_written_while_it_is_read_is_read_again(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path)
    read_header = hasher_module.read_header

    def read_and_write(data: bytes) -> object:
        path.write_bytes(b"edited")
        return read_header(data)

    with monkeypatch.context() as patch:
        patch.setattr(hasher_module, "read_header", read_and_write)
        hash_again(tmp_path, [str(path)])
    assert keys(hash_again(tmp_path, [str(path)])) == [hashlib.sha256(b"edited").digest()]


def test_rehashing_reads_all_and_corrects_wrong_keys(tmp_path: Path, reads: list[str]) -> None:
    images = turned_and_transparent(tmp_path)
    right = keys(hash_again(tmp_path, images))
    identities = hasher_module._identities(images)
    cache = KeyCache(tmp_path / "hashes")
    cache.add(identities[1:2], np.full((1, 32), 7, np.uint8), np.zeros(1, np.uint8))
    cache.publish()
    assert keys(hash_again(tmp_path, images)) != right
    reads.clear()
    assert keys(hash_again(tmp_path, images, rehash=True)) == right
    assert len(reads) == 4
    assert keys(hash_again(tmp_path, images)) == right
    assert len(reads) == 4
    before = {path.name for path in (tmp_path / "hashes").iterdir()}
    hash_again(tmp_path, images, rehash=True)
    assert {path.name for path in (tmp_path / "hashes").iterdir()} == before  # nothing was wrong


def test_images_that_cannot_be_read_are_problems_and_missing_ones_are_listed(tmp_path: Path) -> None:
    sound = image(tmp_path)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    gone, below_a_file, nul = str(tmp_path / "gone.png"), f"{sound}/b.png", f"{sound}\0"
    images = [gone, str(sound), str(folder), below_a_file, nul, gone]
    hashed = hash_again(tmp_path, images)
    assert keys(hashed) == [bytes(32), sha256(sound), *[bytes(32)] * 4]
    assert sorted(hashed.problems) == [0, 2, 3, 4, 5]
    assert hashed.problems[0] == "the file cannot be read (No such file or directory)"
    assert hashed.missing.tolist() == [0, 3, 5]


def test_a_repeated_place_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    path = str(image(tmp_path))
    seen: list[tuple[int, int]] = []
    hashed = ImageHasher(KeyCache(None)).hash([path] * 3, lambda done, total: seen.append((done, total)))
    assert keys(hashed) == [sha256(path)] * 3
    assert len(reads) == 1
    assert seen[-1] == (3, 3)


def test_a_path_need_not_be_utf_8(tmp_path: Path, reads: list[str]) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff.bmp")
    save_picture(tmp_path / "a.bmp", 3)
    os.rename(tmp_path / "a.bmp", path)
    for _ in range(2):
        assert keys(hash_again(tmp_path, [path])) == [sha256(path)]
    assert len(reads) == 1


def test_rows_of_a_table_are_remembered_until_the_table_changes(tmp_path: Path, reads: list[str]) -> None:
    paths = turned_and_transparent(tmp_path)
    contents = [Path(path).read_bytes() for path in paths] + [None]
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": contents}), table, row_group_size=2)
    rows = [parquet_place(table, "image", row) for row in (3, 0, 4, 2, 1, 5)]
    first = hash_again(tmp_path, rows)
    files = hash_again(tmp_path, [paths[row] for row in (3, 0, 2, 1)])
    assert keys(first) == [*keys(files)[:2], bytes(32), *keys(files)[2:], bytes(32)]
    assert sorted(first.problems) == [2, 5] and not len(first.missing)
    reads.clear()
    again = hash_again(tmp_path, rows)
    assert keys(again) == keys(first) and again.problems == first.problems
    assert len(reads) == 2  # only the rows that cannot be read
    pq.write_table(pa.table({"image": contents[::-1]}), table)
    assert keys(hash_again(tmp_path, rows[:2])) == [keys(first)[4], bytes(32)]
    gone = parquet_place(tmp_path / "gone.parquet", "image", 0)
    assert hash_again(tmp_path, [gone]).missing.tolist() == [0]


def test_an_object_at_a_url_is_read_again_when_its_version_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {f"s3://bucket/{number}.jpg": 1 for number in range(100)}
    reads: list[str] = []

    def state(place: str) -> FileState:
        if place not in versions:
            raise ImageError("there is no such object") from FileNotFoundError(place)
        return FileState(0, versions[place], 5, 0, 0)

    def read(place: str) -> bytes:
        reads.append(place)
        return f"{place} {versions[place]}".encode()

    monkeypatch.setattr(hasher_module, "state", state)
    monkeypatch.setattr(hasher_module, "read_bytes", read)
    images = ["s3://bucket/none.jpg", *versions]
    for _ in range(2):
        hashed = hash_again(tmp_path, images)
        expected = [hashlib.sha256(f"{place} 1".encode()).digest() for place in versions]
        assert keys(hashed) == [bytes(32), *expected]
        assert hashed.missing.tolist() == [0]
        assert sorted(reads) == sorted(versions)
    changed = images[7]
    versions[changed] = 2
    assert keys(hash_again(tmp_path, images))[7] == hashlib.sha256(f"{changed} 2".encode()).digest()
    assert reads[100:] == [changed]


def test_many_images_are_hashed_in_their_order(tmp_path: Path, reads: list[str]) -> None:
    images = []
    for number in range(700):
        path = tmp_path / f"{number * 7919 % 700}.jpg"
        path.write_bytes(b"content %d" % number)
        images.append(str(path))
    expected = [hashlib.sha256(b"content %d" % number).digest() for number in range(700)]
    seen: list[int] = []
    hasher = ImageHasher(KeyCache(None))
    assert keys(hasher.hash(images, lambda done, _: seen.append(done))) == expected
    assert seen == sorted(seen) and seen[-1] == 700
    Path(images[5]).write_bytes(b"edited")
    reads.clear()
    expected[5] = hashlib.sha256(b"edited").digest()
    assert keys(hasher.hash(images)) == expected
    assert len(reads) == 1
