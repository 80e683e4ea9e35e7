"""Parquet tables are streamed: images by bytes, paths and URLs, with the columns that tables have."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.rows import batch, parquet
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.rows.parquet import ParquetRows
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.images.places import read_bytes
from tier4k.tests.builders.forms import Pictures, pairs_of, problems_of, rows_of, write_pictures

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def write(path: Path, row_group_size: int = 2, **columns: pa.Array | Sequence[object]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def opened(path: Path | str, columns: str = "", needs_prompts: bool = True) -> RowSource:
    return open_rows(path, TableChoice(columns=columns), needs_prompts)


def structs(pictures: Pictures) -> pa.Array:
    rows = zip(pictures.contents, pictures.files, strict=True)
    return pa.array([{"bytes": data, "path": file.name} for data, file in rows], IMAGE)


def image_columns(pictures: Pictures, folder: Path) -> dict[str, pa.Array]:
    """The images in every form that a column may have; files lie in the folder."""
    paths = [str(file.relative_to(folder)) for file in pictures.files]
    nested = pa.array([{"bytes": data} for data in pictures.contents])
    return {
        "structs": structs(pictures),
        "structs without paths": nested,
        "structs of paths": pa.array([{"bytes": None, "path": path} for path in paths], IMAGE),
        "bytes": pa.array(pictures.contents),
        "large bytes": pa.array(pictures.contents, pa.large_binary()),
        "relative paths": pa.array([f" {path}\n" for path in paths]),
        "absolute paths": pa.array(list(map(str, pictures.files)), pa.large_string()),
        "categories": pa.array(paths).dictionary_encode(),
        "paths as bytes": pa.array([path.encode() for path in paths]),
        "URLs": pa.array([file.as_uri() for file in pictures.files]),
    }


def test_a_column_of_images_in_any_form_gives_the_keys_of_the_folder(
    tmp_path: Path, pictures: Pictures
) -> None:
    folder = pictures.files[0].parent.parent
    for form, column in image_columns(pictures, folder).items():
        path = write(folder / "t.parquet", image=column, prompt=pictures.prompts)
        source = opened(path)
        assert isinstance(source, ParquetRows), form
        assert pairs_of(source) == pictures.pairs, form
        assert problems_of(source) == []
        assert [row["line"] for row in rows_of(source)] == [2, 3, 4, 5, 6]


def test_names_and_places_are_those_of_the_same_table_read_whole(tmp_path: Path, pictures: Pictures) -> None:
    folder = pictures.files[0].parent.parent
    for form, column in image_columns(pictures, folder).items():
        path = write(folder / "t.parquet", image=column, prompt=pictures.prompts, mos=[1.0] * 5)
        table = read_source(path).frame
        rows = rows_of(opened(path))
        assert [row["name"] for row in rows] == table["name"].tolist(), form
        assert [row["prompt"] for row in rows] == table["prompt"].tolist(), form
        if not any(word in form for word in ("path", "categor")):
            assert [row["image"] for row in rows] == table["image"].tolist(), form


def test_rows_with_and_without_images_and_prompts_stay_in_their_order(
    tmp_path: Path, pictures: Pictures
) -> None:
    data = pictures.contents
    column = pa.array(
        [
            {"bytes": data[0], "path": None},
            None,
            {"bytes": None, "path": "x.png"},
            {"bytes": None, "path": None},
            {"bytes": data[1], "path": "y.png"},
        ],
        IMAGE,
    )
    path = write(tmp_path / "t.parquet", image=column, caption=[" a", None, "b ", "", "c"])
    source = opened(path)
    rows = rows_of(source)
    assert [row["name"] for row in rows] == ["row 0", "", "x.png", "", "y.png"]
    assert [row["image"] for row in rows][1:4] == ["", str(tmp_path / "x.png"), ""]
    assert [read_bytes(rows[number]["image"]) for number in (0, 4)] == data[:2]
    assert [row["prompt"] for row in rows] == ["a", "", "b", "", "c"]
    assert source.report.recognised == {"prompt": "caption"}
    (tmp_path / "X.PNG").touch()
    assert source.why_missing(rows[2]["image"]).endswith(f"(nearest: {tmp_path / 'X.PNG'})")


def test_columns_are_named_and_image_prompts_are_places_too(tmp_path: Path, pictures: Pictures) -> None:
    path = write(
        tmp_path / "t.parquet",
        a=structs(pictures),
        b=pa.array(pictures.contents[::-1]),
        alt=pictures.prompts,
        caption=["no"] * 5,
    )
    source = opened(path, "image=a,image_prompt=b,prompt=alt")
    assert pairs_of(source) == pictures.pairs
    assert [read_bytes(row["image_prompt"]) for row in rows_of(source)] == pictures.contents[::-1]
    assert not opened(path, "image=a,prompt=").has_prompts
    with pytest.raises(DataError, match="lacks columns of the table layout"):
        opened(path)


def test_the_shards_of_one_table_are_read_and_a_broken_one_is_a_problem(
    tmp_path: Path, pictures: Pictures
) -> None:
    column = structs(pictures)
    for number, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, 5))):
        name = f"train-0000{number}-of-00003.parquet"
        write(tmp_path / name, image=column[rows], prompt=pictures.prompts[rows])
    for data in (
        tmp_path,
        tmp_path / "train-00001-of-00003.parquet",
        tmp_path / "train-{00000..00002}-of-00003.parquet",
    ):
        source = opened(data)
        assert pairs_of(source) == pictures.pairs
        assert [row["file"][6:11] for row in rows_of(source)] == ["00000"] * 2 + ["00001"] + ["00002"] * 2
    broken = tmp_path / "train-00001-of-00003.parquet"
    broken.write_bytes(broken.read_bytes()[:-9])
    source = opened(tmp_path / "train-{00000..00003}-of-00003.parquet")
    assert [name[6:11] for name, _ in problems_of(source)] == ["00001", "00003"]
    assert all("cannot be read as .parquet" in message for _, message in problems_of(source))
    keys = [hashlib.sha256(read_bytes(row["image"])).hexdigest() for row in rows_of(source) if row["image"]]
    assert keys == [key for key, _ in pictures.pairs[:2] + pictures.pairs[3:]]


def test_small_batches_are_merged_and_large_tables_come_in_batches(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.parquet", row_group_size=1, image=structs(pictures), prompt=pictures.prompts)
    monkeypatch.setattr(parquet, "ROWS_PER_BATCH", 1)
    monkeypatch.setattr(batch, "ROWS_PER_BATCH", 3)
    assert [len(rows) for rows in opened(path).batches()] == [3, 2]
    assert pairs_of(opened(path)) == pictures.pairs


def test_the_bytes_of_images_are_not_read_to_list_the_rows(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.parquet", image=structs(pictures), prompt=pictures.prompts)
    read: list[object] = []
    original = pq.ParquetFile.iter_batches

    def note(file: pq.ParquetFile, *args: object, **options: object) -> object:
        read.append(options["columns"])
        return original(file, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", note)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    assert len(rows_of(opened(path))) == 5
    assert read == [["image.path", "prompt"]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [[1]], "prompt": ["a"]}, "the column image holds neither texts nor images, but list"),
        ({"image": ["a.png"], "prompt": [["a", "b"]]}, "the column prompt holds neither texts nor images"),
    ],
)
def test_cells_that_are_neither_texts_nor_images_are_a_problem(
    tmp_path: Path, columns: dict[str, list], message: str
) -> None:
    ((_, problem),) = problems_of(opened(write(tmp_path / "t.parquet", **columns)))
    assert message in problem


def test_an_empty_table_and_one_that_is_damaged_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", image=pa.array([], pa.string()))
    with pytest.raises(DataError, match="has a header but no rows"):
        opened(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as .parquet"):
        opened(tmp_path)
