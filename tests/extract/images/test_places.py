"""Images are read from files and from rows of Parquet tables, in any order, thread and process."""

import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader, Dataset

from tier4k.extract.images import parquet_rows
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.place_names import ParquetRow, parquet_place, parse_parquet_place
from tier4k.extract.images.places import read_bytes, reading_order, size, state

ROWS = 40
ROWS_PER_GROUP = 7
GROUPS = 6  # of 7 rows, the last of 5
IMAGES = [bytes([row]) * (row + 1) for row in range(ROWS)]
COLUMNS = ("image", "a/b", "a.b", "50 % off", "图片", "[3]", "..")


def write_structs(
    path: Path,
    images: Sequence[bytes | None] = tuple(IMAGES),
    column: str = "image",
) -> list[str]:
    """Write a table as Hugging Face's data sets do, and return the places of its images."""
    structs = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    table = pa.table({"prompt": ["a fox"] * len(images), column: structs})
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP)
    return [parquet_place(path, column, row) for row in range(len(images))]


def write_binary(
    path: Path,
    images: Sequence[bytes | None] = tuple(IMAGES),
    column: str = "image",
) -> list[str]:
    """Write a table with a column of bytes, and return the places of its images."""
    table = pa.table({column: pa.array(images, pa.large_binary())})
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP)
    return [parquet_place(path, column, row) for row in range(len(images))]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the row groups that are read from now on, with nothing kept from earlier."""
    numbers: list[int] = []
    read = parquet_rows._read_row_group

    def count(group: parquet_rows._RowGroup, metadata: object) -> pa.ChunkedArray:
        numbers.append(group.number)
        return read(group, metadata)

    monkeypatch.setattr(parquet_rows, "_read_row_group", count)
    parquet_rows._row_groups.forget()
    return numbers


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("write", [write_structs, write_binary])
def test_every_row_of_a_table_gives_its_own_bytes(tmp_path: Path, write: Callable, column: str) -> None:
    images = [*IMAGES[:20], b""]
    found = write(tmp_path / "t.parquet", images, column)
    assert list(map(read_bytes, found)) == images
    assert list(map(size, found)) == list(map(len, images))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_place_survives_json_relative_paths_and_path_objects(tmp_path: Path, column: str) -> None:
    folder = tmp_path / "some [1] #folder"
    folder.mkdir()
    place = write_binary(folder / "t.parquet", column=column)[3]
    assert parse_parquet_place(place) == ParquetRow(str(folder / "t.parquet"), column, 3)
    relative = os.path.relpath(place, tmp_path / "x")
    for text in (os.path.join(tmp_path / "x", relative), json.loads(json.dumps(place)), str(Path(place))):
        assert read_bytes(os.path.normpath(text)) == IMAGES[3]
    assert read_bytes(Path(place)) == IMAGES[3]
    assert os.path.relpath(place, folder).startswith("t.parquet/#")


@pytest.mark.parametrize(
    "path", ["a.png", "t.parquet", "a#b[3].png", "x/#b", "x/b[3]", "#b[3]", "x/#b[three]", "x/#b[3]/a.png"]
)
def test_paths_of_files_are_not_rows(path: str) -> None:
    assert parse_parquet_place(path) is None


def test_rows_in_order_read_each_row_group_once(tmp_path: Path, loads: list[int]) -> None:
    for place in write_structs(tmp_path / "t.parquet"):
        read_bytes(place)
    assert loads == list(range(GROUPS))


def test_places_sorted_as_texts_return_to_the_order_of_their_rows(
    tmp_path: Path, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 0)
    found = write_structs(tmp_path / "t.parquet")
    other = write_structs(tmp_path / "u.parquet")
    assert sorted(found) != found
    assert reading_order(sorted([*other, *found])) == [*found, *other]
    assert reading_order(["b.png", "a.png"]) == ["a.png", "b.png"]
    for place in reading_order(sorted(found)):
        read_bytes(place)
    assert loads == list(range(GROUPS))


def test_rows_in_random_order_are_read_from_the_groups_that_are_kept(
    tmp_path: Path, loads: list[int]
) -> None:
    found = write_structs(tmp_path / "t.parquet")
    for row in np.random.default_rng(0).permutation(ROWS):
        assert read_bytes(found[row]) == IMAGES[row]
    assert sorted(loads) == list(range(GROUPS))


def test_what_is_kept_is_limited(tmp_path: Path, loads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found = write_structs(tmp_path / "t.parquet", [bytes(1000)] * ROWS)
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 2 * 7 * 1100)
    for row in (0, 7, 1, 8, 14, 9, 2):
        read_bytes(found[row])
    assert loads == [
        0,
        1,
        2,
        0,
    ]  # two groups are kept: the third pushes out the one that was not used for longest


def test_nothing_that_is_kept_grows_with_the_tables(
    tmp_path: Path, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = parquet_rows._row_groups
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 2000)
    monkeypatch.setattr(parquet_rows, "KEPT_SIZES", 2 * ROWS_PER_GROUP)
    monkeypatch.setattr(parquet_rows, "KEPT_TABLES", 2)
    tables = [write_structs(tmp_path / f"{number}.parquet") for number in range(4)]
    found = [place for table in tables for place in table]
    for row in np.random.default_rng(0).permutation(4 * ROWS):
        assert size(found[row]) == len(IMAGES[row % ROWS])
        assert read_bytes(found[row]) == IMAGES[row % ROWS]
        assert len(kept._footers) <= 2
        assert len(kept._images) == 1 or sum(images.nbytes for images in kept._images.values()) <= 2000
        assert sum(map(len, kept._sizes.values())) <= 2 * ROWS_PER_GROUP


def test_sizes_of_rows_that_were_read_need_no_second_reading(
    tmp_path: Path, loads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 0)
    found = write_structs(tmp_path / "t.parquet", [None, *IMAGES[1:]])
    for place in found[1:]:
        read_bytes(place)
    assert list(map(size, found)) == [0, *map(len, IMAGES[1:])]
    assert loads == list(range(GROUPS))


def test_threads_read_the_right_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "KEPT_BYTES", 0)
    found = write_structs(tmp_path / "t.parquet")
    order = np.random.default_rng(1).integers(ROWS, size=300)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(read_bytes, [found[row] for row in order]))
    assert read == [IMAGES[row] for row in order]


def test_a_child_process_reads_although_its_parent_held_the_lock(tmp_path: Path) -> None:
    found = write_structs(tmp_path / "t.parquet")
    read_bytes(found[0])
    with parquet_rows._row_groups._lock:
        child = os.fork()
        if not child:
            signal.alarm(60)  # a child that waits for the lock ends with this signal
            os._exit(0 if [read_bytes(found[row]) for row in (0, 39)] == [IMAGES[0], IMAGES[39]] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_worker_processes_of_a_loader_read_the_right_rows(tmp_path: Path) -> None:
    found = write_structs(tmp_path / "t.parquet")
    read_bytes(found[0])
    loader = DataLoader(_Rows(found), batch_size=3, num_workers=2, collate_fn=list)
    assert [image for batch in loader for image in batch] == IMAGES


class _Rows(Dataset[bytes]):
    def __init__(self, found: list[str]) -> None:
        self.found = found

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, row: int) -> bytes:
        return read_bytes(self.found[row])


def test_a_table_that_was_written_again_gives_its_new_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    found = write_structs(path)
    before = state(found[3])
    assert before == state(found[4])
    assert read_bytes(found[3]) == IMAGES[3]
    write_structs(tmp_path / "new.parquet", IMAGES[::-1])
    (tmp_path / "new.parquet").replace(path)
    assert state(found[3]) != before
    assert read_bytes(found[3]) == IMAGES[-4]


def damage_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def damage_the_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_the_end, damage_the_pages, Path.unlink])
def test_a_damaged_or_missing_table_is_an_error_of_its_images(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "t.parquet"
    found = write_structs(path)
    damage(path)
    for look in (read_bytes, size):
        with pytest.raises(ImageError, match="cannot be read"):
            look(found[0])


@pytest.mark.parametrize(
    ("column", "row", "message"),
    [
        ("image", ROWS, "the table has only 40 rows"),
        ("picture", 0, "the table has no column 'picture'"),
        ("prompt", 0, "the column 'prompt' of the table holds no bytes"),
        ("image", 1, "the row has no bytes in the column 'image'"),
    ],
)
def test_a_row_without_an_image_is_an_error(tmp_path: Path, column: str, row: int, message: str) -> None:
    path = tmp_path / "t.parquet"
    write_structs(path, [IMAGES[0], None, *IMAGES[2:]])
    with pytest.raises(ImageError, match=re.escape(message)):
        read_bytes(parquet_place(path, column, row))


def test_a_file_is_read_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"image")
    assert read_bytes(path) == read_bytes(str(path)) == b"image"
    assert size(str(path)) == 5
    before = state(str(path))
    path.write_bytes(b"images")
    assert state(str(path)) != before
    path.unlink()
    for look in (read_bytes, state, size):
        with pytest.raises(
            ImageError, match=re.escape("the file cannot be read (No such file or directory)")
        ):
            look(str(path))
