"""Folders of `save_to_disk` of Hugging Face's datasets: Arrow streams whose images are parts of files."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows import arrow
from tier4k.extract.datasets.rows.arrow import ArrowRows
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.images.places import read_bytes, size
from tier4k.tests.builders.forms import Pictures, pairs_of, problems_of, rows_of, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def save(
    folder: Path,
    tables: Sequence[pa.Table],
    compression: str | None = None,
    **more: object,
) -> Path:
    """Write the files that `Dataset.save_to_disk` of datasets 5 writes, with batches of 2 rows."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with (
            (folder / name).open("wb") as file,
            pa.ipc.new_stream(file, table.schema, options=options) as stream,
        ):
            stream.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], **more}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def table_of(pictures: Pictures, kind: pa.DataType | None = None) -> pa.Table:
    kind = kind or pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells: list[object] = list(pictures.contents)
    if pa.types.is_struct(kind):
        rows = zip(pictures.contents, pictures.files, strict=True)
        cells = [{"bytes": data, "path": file.name} for data, file in rows]
    return pa.table({"text": pictures.prompts, "image": pa.array(cells, kind)})


def opened(data: Path) -> RowSource:
    return open_rows(data, RECOGNISED, True)


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        pa.struct({"bytes": pa.large_binary()}),
        pa.binary(),
        pa.large_binary(),
    ],
)
def test_a_saved_data_set_gives_the_keys_and_prompts_of_the_folder(
    tmp_path: Path, pictures: Pictures, kind: pa.DataType
) -> None:
    table = table_of(pictures, kind)
    source = opened(save(tmp_path / "d", [table.slice(0, 3), table.slice(3)]))
    assert isinstance(source, ArrowRows)
    assert pairs_of(source) == pictures.pairs
    rows = rows_of(source)
    assert [row["line"] for row in rows] == [1, 2, 3, 1, 2]
    assert [row["file"][:10] for row in rows] == ["data-00000"] * 3 + ["data-00001"] * 2
    assert [size(row["image"]) for row in rows] == list(map(len, pictures.contents))
    assert source.has_prompts and source.name == "d"


def test_large_batches_are_cut_and_small_ones_merged(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(save(tmp_path / "d", [table_of(pictures)]))
    assert [len(batch) for batch in source.batches()] == [5]
    monkeypatch.setattr(arrow, "ROWS_PER_BATCH", 1)
    assert pairs_of(source) == pictures.pairs


def test_rows_without_bytes_name_files_and_rows_without_anything_name_none(
    tmp_path: Path, pictures: Pictures
) -> None:
    cells = [None, {"bytes": None, "path": "x.png"}, {"bytes": pictures.contents[0], "path": None}]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(cells, kind), "text": ["a", None, "c"]})
    rows = rows_of(opened(save(tmp_path / "d", [table])))
    assert [row["image"] for row in rows][:2] == ["", str(tmp_path / "d" / "x.png")]
    assert read_bytes(rows[2]["image"]) == pictures.contents[0]
    assert [row["name"] for row in rows] == ["", "x.png", "row 2"]
    assert [row["prompt"] for row in rows] == ["a", "", "c"]


def test_a_single_split_is_read_and_named_and_several_splits_are_refused(
    tmp_path: Path, pictures: Pictures
) -> None:
    save(tmp_path / "train", [table_of(pictures)])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    source = opened(tmp_path)
    assert pairs_of(source) == pictures.pairs
    assert "The rows are those of the only split, train" in source.report.lines()
    save(tmp_path / "test", [table_of(pictures)])
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=rf"several splits \(train, test\): pass .*{tmp_path}/train"):
        opened(tmp_path)
    assert pairs_of(opened(tmp_path / "test")) == pictures.pairs


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("state.json", "null", "Expected `object`, got `null`"),
        ("state.json", '{"_data_files": [3]}', "Expected `object`, got `int`"),
        ("state.json", '{"_data_files": [{"filename": null}]}', "Expected `str`, got `null`"),
        (
            "state.json",
            '{"_data_files": [{"filename": "../x.arrow"}]}',
            r"'\.\./x\.arrow'.*must be beside it",
        ),
        ("state.json", "[" * 100_000, "recursion"),
        ("dataset_dict.json", '{"splits": 1}', "Expected `array | null`, got `int`"),
        ("dataset_dict.json", "[]", "Expected `object`, got `array`"),
    ],
)
def test_wrong_values_of_a_saved_data_set_are_refused_with_the_file(
    tmp_path: Path, pictures: Pictures, file: str, content: str, message: str
) -> None:
    folder = save(tmp_path / "d", [table_of(pictures)])
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=f"{file}.*{message}.*: save the data set again"):
        opened(folder)


def test_files_that_cannot_be_read_are_problems_and_the_others_are_read(
    tmp_path: Path, pictures: Pictures
) -> None:
    table = table_of(pictures)
    folder = save(tmp_path / "d", [table, table.drop_columns("image"), table, table])
    third, last = (folder / f"data-0000{number}-of-00004.arrow" for number in (2, 3))
    third.write_bytes(third.read_bytes()[:-2000])
    last.unlink()
    problems = problems_of(opened(folder))
    assert [name for name, _ in problems] == [f"data-0000{number}-of-00004.arrow" for number in (1, 2, 3)]
    assert "lacks columns" in problems[0][1]
    assert "cannot be read as an Arrow stream" in problems[1][1]
    assert "No such file" in problems[2][1]
    read = [row for row in rows_of(opened(folder)) if row["image"]]
    assert [read_bytes(row["image"]) for row in read][:5] == pictures.contents


def test_offsets_that_point_outside_of_a_file_are_a_problem_of_it(tmp_path: Path, pictures: Pictures) -> None:
    """Arrow itself would read whatever lies there, or end the process."""
    table = table_of(pictures).slice(0, 1)
    folder = save(tmp_path / "d", [table.set_column(0, "text", pa.array(["x" * 7777]))])
    file = folder / "data-00000-of-00001.arrow"
    begin, found, end = file.read_bytes().rpartition(np.array([0, 7777], np.int32).tobytes())
    assert found
    file.write_bytes(begin + np.array([-(2**26), 7777], np.int32).tobytes() + end)
    ((name, problem),) = problems_of(opened(folder))
    assert name == file.name and "negative offset" in problem


def test_compressed_streams_and_orders_of_rows_that_are_kept_apart_are_refused(
    tmp_path: Path, pictures: Pictures
) -> None:
    folder = save(tmp_path / "c", [table_of(pictures, pa.large_binary())], compression="zstd")
    ((_, message),) = problems_of(opened(folder))
    assert "is compressed: save the data set again without compression" in message
    folder = save(tmp_path / "i", [table_of(pictures)], _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match="save it again"):
        opened(folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match="names no files"):
        opened(folder)


def test_columns_are_named_as_in_tables(tmp_path: Path, pictures: Pictures) -> None:
    table = table_of(pictures).rename_columns(["alt", "picture"])
    folder = save(tmp_path / "d", [table])
    with pytest.raises(DataError, match="lacks columns of the table layout"):
        opened(folder)
    source = open_rows(folder, TableChoice(columns="image=picture,prompt=alt"), True)
    assert pairs_of(source) == pictures.pairs


def test_a_folder_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path / os.fsdecode(b"caf\xe9"), [pa.table({"image": ["a.png"], "prompt": ["fox"]})])
    rows = rows_of(open_rows(folder, RECOGNISED, needs_prompts=True))
    assert [row["prompt"] for row in rows] == ["fox"]
