"""An image file is hashed once while it stays the same, and an edited one always gets its new key."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tier4k.cache.keys import file_key
from tier4k.extract.datasets import image_files
from tier4k.extract.datasets.image_files import ExaminedImage, examine_images
from tier4k.extract.images import places
from tier4k.extract.images.places import parquet_place
from tier4k.tests.builders.data import make_picture, save_picture


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read; files that were written just now count as old."""
    names: list[str] = []
    read_bytes = image_files.read_bytes

    def read(place: str) -> bytes:
        names.append(Path(place).name)
        return read_bytes(place)

    monkeypatch.setattr(image_files, "read_bytes", read)
    monkeypatch.setattr(places, "STAMP_RESOLUTION_NS", -1)
    monkeypatch.setattr(image_files, "_hashed", {})
    return names


def key_of(path: Path, known: frozenset[str] = frozenset()) -> str:
    return examine_images([str(path)], known)[str(path)].key


def image(folder: Path, seed: int = 0) -> Path:
    """A file that can be replaced by an image of the same size in bytes."""
    path = folder / "a.bmp"
    save_picture(path, seed)
    return path


def test_a_known_image_is_read_once_and_an_unknown_one_is_decoded_from_the_same_bytes(
    tmp_path: Path, reads: list[str]
) -> None:
    path = image(tmp_path)
    key = key_of(path)
    assert key == file_key(path).hex()
    assert reads == ["a.bmp"]
    assert key_of(path, frozenset([key])) == key
    assert reads == ["a.bmp"]
    assert key_of(path) == key  # not known any more, so it is decoded again
    assert reads == ["a.bmp", "a.bmp"]


def test_without_decoding_only_a_file_that_cannot_be_read_has_a_defect(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    missing = tmp_path / "missing.png"
    images = examine_images([str(damaged), str(missing)], decode=False)
    assert images[str(damaged)] == ExaminedImage(file_key(damaged).hex(), "")
    assert images[str(missing)].defect


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


@pytest.mark.parametrize("edit", [edit_in_place, edit_and_keep_the_time, replace_by_another_file])
def test_an_edited_image_of_the_same_size_gets_a_new_key(
    tmp_path: Path, reads: list[str], edit: Callable[[Path, bytes], None]
) -> None:
    path = image(tmp_path)
    (tmp_path / "other").mkdir()
    content = image(tmp_path / "other", seed=1).read_bytes()
    key = key_of(path)
    time.sleep(0.05)  # longer than a tick of the file system's clock
    edit(path, content)
    assert key_of(path, frozenset([key])) == file_key(path).hex() != key
    assert len(reads) == 2


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "STAMP_RESOLUTION_NS", 2_000_000_000)
    path = image(tmp_path)
    key = key_of(path)
    assert key_of(path, frozenset([key])) == key
    assert len(reads) == 2


def test_a_file_that_disappears_has_no_key(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.png")
    found = examine_images([path])[path]
    assert found == ExaminedImage("", "the file cannot be read (No such file or directory)")


def test_results_keep_the_order_of_the_paths_and_progress_counts_them(tmp_path: Path) -> None:
    paths = []
    for seed in range(5):
        path = tmp_path / f"{seed}.png"
        save_picture(path, seed)
        paths.append(str(path))
    seen: list[tuple[int, int]] = []
    found = examine_images(paths[::-1], progress=lambda done, total: seen.append((done, total)))
    assert list(found) == paths[::-1]
    assert seen == [(done, 5) for done in range(1, 6)]


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


def test_turned_and_transparent_images_are_told_whether_or_not_their_keys_are_known(
    tmp_path: Path, reads: list[str]
) -> None:
    paths = turned_and_transparent(tmp_path)
    first = examine_images(paths)
    assert [image.is_turned for image in first.values()] == [False, True, False, True]
    assert [image.is_transparent for image in first.values()] == [False, False, True, True]
    for path, image in first.items():
        mark = b"" if path == paths[0] else b"upright-on-white-1"
        assert image.key == hashlib.sha256(Path(path).read_bytes() + mark).hexdigest()
    known = [image.key for image in first.values()]
    reads.clear()
    assert examine_images(paths, known) == first
    assert not reads  # remembered
    image_files._hashed.clear()
    assert examine_images(paths, known) == first


def test_images_in_a_parquet_table_are_examined_like_files(tmp_path: Path) -> None:
    paths = turned_and_transparent(tmp_path)
    contents = [Path(path).read_bytes() for path in paths] + [b"no image"] * 8
    table = pa.table({"image": [{"bytes": content, "path": None} for content in contents]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    found = examine_images([parquet_place(tmp_path / "t.parquet", "image", row) for row in range(13)])
    rows = list(found.values())
    assert rows[:4] == list(examine_images(paths).values())
    assert all("not an image of the formats" in row.defect for row in rows[4:12])
    assert rows[12] == ExaminedImage("", "the table has only 12 rows")
