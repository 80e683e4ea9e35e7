"""An unknown image is decoded once, and its defect is reported for each of its places."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tier4k.cache.keys import file_key
from tier4k.extract.datasets import image_files
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.image_files import ExaminedImage, examine_images
from tier4k.extract.datasets.progress import Progress
from tier4k.extract.images import file_state
from tier4k.extract.images.place_names import parquet_place
from tier4k.tests.builders.data import make_picture, save_picture
from tier4k.tests.builders.known_keys import Known


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that are decoded."""
    contents: list[bytes] = []
    inspect = image_files.inspect

    def note(data: bytes) -> None:
        contents.append(data)
        inspect(data)

    monkeypatch.setattr(image_files, "inspect", note)
    return contents


def examine(
    paths: list[str],
    known: Known | None = None,
    progress: Progress | None = None,
    decode: bool = True,
) -> dict[str, ExaminedImage]:
    return examine_images(paths, ImageHasher(KeyCache(None)), known, progress, decode)


def test_an_unknown_image_is_decoded_and_a_known_one_is_not(tmp_path: Path, decoded: list[bytes]) -> None:
    path = tmp_path / "a.bmp"
    save_picture(path, 0)
    key = file_key(path).hex()
    assert examine([str(path)], Known([key]))[str(path)] == ExaminedImage(key, "")
    assert decoded == []
    assert examine([str(path)])[str(path)] == ExaminedImage(key, "")
    assert decoded == [path.read_bytes()]


def test_what_was_examined_is_found_in_the_cache_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_state, "STAMP_RESOLUTION_NS", -1)
    path = tmp_path / "a.bmp"
    save_picture(path, 0)
    first = examine_images([str(path)], ImageHasher(KeyCache(tmp_path / "hashes")))
    with monkeypatch.context() as patch:
        patch.setattr("tier4k.extract.datasets.hashes.hasher.read_bytes", None)  # cannot be called
        known = Known([first[str(path)].key])
        assert examine_images([str(path)], ImageHasher(KeyCache(tmp_path / "hashes")), known) == first


def test_without_decoding_only_a_file_that_cannot_be_read_has_a_defect(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    missing = tmp_path / "missing.png"
    images = examine([str(damaged), str(missing)], decode=False)
    assert images[str(damaged)] == ExaminedImage(file_key(damaged).hex(), "")
    assert images[str(missing)] == ExaminedImage("", "the file cannot be read (No such file or directory)")


def test_an_image_that_changes_while_it_is_examined_has_a_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bmp"
    save_picture(path, 0)
    monkeypatch.setattr(image_files, "read_bytes", lambda _: b"edited")
    assert "changed" in examine([str(path)])[str(path)].defect


def test_equal_contents_are_decoded_once_and_each_place_has_the_defect(
    tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "AT_ONCE", 2)
    paths = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"no image")
        paths.append(str(path))
    found = examine(paths)
    assert len(decoded) == 1
    assert len({image.defect for image in found.values()} - {""}) == 1


def test_results_keep_the_order_of_the_paths_and_progress_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "AT_ONCE", 2)
    paths = []
    for seed in range(5):
        path = tmp_path / f"{seed}.png"
        save_picture(path, seed)
        paths.append(str(path))
    seen: list[tuple[int, int]] = []
    found = examine(paths[::-1], progress=lambda done, total: seen.append((done, total)))
    assert list(found) == paths[::-1]
    assert [image.key for image in found.values()] == [file_key(Path(path)).hex() for path in paths[::-1]]
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


def test_turned_and_transparent_images_are_reported_whether_or_not_their_keys_are_known(
    tmp_path: Path,
) -> None:
    paths = turned_and_transparent(tmp_path)
    first = examine(paths)
    assert [image.is_turned for image in first.values()] == [False, True, False, True]
    assert [image.is_transparent for image in first.values()] == [False, False, True, True]
    for path, image in first.items():
        mark = b"" if path == paths[0] else b"upright-on-white-1"
        assert image.key == hashlib.sha256(Path(path).read_bytes() + mark).hexdigest()
    assert examine(paths, Known(image.key for image in first.values())) == first


def test_images_in_a_parquet_table_are_examined_like_files(tmp_path: Path) -> None:
    paths = turned_and_transparent(tmp_path)
    contents = [Path(path).read_bytes() for path in paths] + [b"no image"] * 8
    table = pa.table({"image": [{"bytes": content, "path": None} for content in contents]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    found = examine([parquet_place(tmp_path / "t.parquet", "image", row) for row in range(13)])
    rows = list(found.values())
    assert rows[:4] == list(examine(paths).values())
    assert all("not an image of the formats" in row.defect for row in rows[4:12])
    assert rows[12] == ExaminedImage("", "the table has only 12 rows")
