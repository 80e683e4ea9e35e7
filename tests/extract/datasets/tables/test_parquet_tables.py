"""Parquet tables: images with their bytes, categories, other types."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.cells import PlacedImage
from tier4k.extract.datasets.tables.read import part_headers, read_part
from tier4k.extract.images.place_names import parquet_place
from tier4k.extract.images.places import read_bytes

PNG = b"\x89PNG\r\n\x1a\n"
IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def write(path: Path, row_group_size: int = 2, **columns: pa.Array | Sequence[object]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def cells(path: Path, column: str) -> list[object]:
    (header,) = part_headers(path)
    return read_part(header).frame[column].tolist()


def images(*rows: tuple[bytes | None, str | None] | None) -> pa.Array:
    """A column of structs; None is a row without one."""
    return pa.array([row and {"bytes": row[0], "path": row[1]} for row in rows], IMAGE)


def test_images_with_bytes_are_named_by_their_paths_and_found_by_their_places(tmp_path: Path) -> None:
    column = images((PNG + b"0", "a.png"), (PNG + b"1", "b.png"), (PNG + b"2", None))
    path = write(tmp_path / "t.parquet", image=column, mos=[1.0, 2.0, 3.0])
    found = cells(path, "image")
    assert found == ["a.png", "b.png", "row 2"]
    for row, image in enumerate(found):
        assert isinstance(image, PlacedImage)
        assert image.place == parquet_place(path, "image", row)
        assert read_bytes(image.place) == PNG + str(row).encode()


def test_a_row_without_bytes_names_a_file(tmp_path: Path) -> None:
    column = images((PNG, "a.png"), (None, "b.png"), None, (None, None), (None, "e.png"), (None, "f.png"))
    found = cells(write(tmp_path / "t.parquet", image=column), "image")
    assert found == ["a.png", "b.png", None, None, "e.png", "f.png"]
    assert [isinstance(image, PlacedImage) for image in found] == [True] + 5 * [False]


def test_bytes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.parquet", image=images((PNG, "a.png"), (PNG, "b.png"), (PNG, "c.png")))
    read = []
    original = pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile,
        "read",
        lambda self, columns, **k: read.extend(columns) or original(self, columns, **k),
    )
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", None)
    assert cells(path, "image") == ["a.png", "b.png", "c.png"]
    assert read == ["image.path"]


def test_images_that_share_a_path_are_named_by_their_rows(tmp_path: Path) -> None:
    column = images((PNG, "image.png"), (PNG, "image.png"))
    assert cells(write(tmp_path / "t.parquet", image=column), "image") == ["row 0", "row 1"]
    shard = write(tmp_path / "t-00001-of-00002.parquet", image=column)
    assert cells(shard, "image") == ["t-00001-of-00002 row 0", "t-00001-of-00002 row 1"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_column_of_bytes_holds_images_or_texts(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(
        tmp_path / "t.parquet",
        image=pa.array([None, PNG, PNG], kind),
        prompt=pa.array([None, "füchse".encode(), b"dog"], kind),
    )
    assert cells(path, "image") == [None, "row 1", "row 2"]
    assert cells(path, "prompt") == [None, "füchse", "dog"]


def test_categories_are_ordinary_values(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": pd.Categorical(["b", "a", None, "b"]), "x": pd.Categorical([3, 1, 2, 3])})
    frame.to_parquet(tmp_path / "t.parquet")
    read = read_part(part_headers(tmp_path / "t.parquet")[0]).frame
    assert read["prompt"].tolist() == ["b", "a", None, "b"] and read["x"].tolist() == [3, 1, 2, 3]
    assert not any(isinstance(kind, pd.CategoricalDtype) for kind in read.dtypes)


def test_values_of_every_type_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.parquet",
        ints=pa.array([1, None], pa.int64()),
        floats=pa.array([1.5, None], pa.float32()),
        flags=[True, None],
        decimals=[Decimal("1.50"), None],
        lists=[[1, 2], None],
        structs=[{"a": 1}, None],
        maps=pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        days=[date(2026, 1, 2), None],
        far=pa.array([2**60, None], pa.timestamp("us")),
        zones=pa.array([0, None], pa.timestamp("ns", "Nowhere/City")),
        moments=[datetime(2026, 1, 2, tzinfo=UTC), None],
        times=[time(3, 4), None],
        spans=[timedelta(seconds=5), None],
        nothing=pa.array([None, None], pa.null()),
    )
    frame = read_part(part_headers(path)[0]).frame
    assert frame.shape == (2, 14)
    assert frame["ints"].tolist() == [1, None] and frame["flags"].tolist() == [True, None]
    assert frame["decimals"].tolist() == [Decimal("1.50"), None]
    assert frame["floats"].iloc[0] == 1.5 and np.isnan(frame["floats"].iloc[1])
    assert list(frame["lists"].iloc[0]) == [1, 2] and frame["structs"].iloc[0] == {"a": 1}
    assert frame["days"].tolist() == ["2026-01-02", None]


def test_an_index_of_pandas_is_a_column_if_it_has_a_name_or_is_no_number(tmp_path: Path) -> None:
    frame = pd.DataFrame({"mos": [1, 2]})
    columns = []
    for index in ([5, 9], pd.Index([5, 9], name="number"), ["a.png", "b.png"]):
        frame.set_axis(index).to_parquet(tmp_path / "t.parquet")
        columns.append(part_headers(tmp_path / "t.parquet")[0].columns)
    assert columns == [("mos",), ("mos", "number"), ("mos", "__index_level_0__")]


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["mos", "x", "mos "])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="two columns called 'mos', at positions 1 and 3"):
        part_headers(tmp_path / "t.parquet")


def test_a_table_without_statistics_is_read(tmp_path: Path) -> None:
    table = pa.table({"image": images((PNG, "a.png"), (None, "b.png"))})
    pq.write_table(table, tmp_path / "t.parquet", write_statistics=False)
    found = cells(tmp_path / "t.parquet", "image")
    assert [isinstance(image, PlacedImage) for image in found] == [True, False]


def test_a_table_in_a_folder_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    path = write(tmp_path / "t.parquet", image=["a.png"]).rename(folder / "t.parquet")
    assert cells(path, "image") == ["a.png"]
