"""One function decides the form of a data set: published layouts and other tables stay tables."""

from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows.files import expand_braces
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.rows.parquet import ParquetRows
from tier4k.extract.datasets.rows.table import TableRows
from tier4k.extract.datasets.rows.tar import TarRows
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.tests.builders.forms import Pictures, pairs_of, tar_members, write_pictures, write_tar


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def table_of(pictures: Pictures) -> pd.DataFrame:
    names = [file.name for file in pictures.files]
    return pd.DataFrame({"image": names, "prompt": pictures.prompts, "mos": range(len(names))})


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet", "metadata.csv", "metadata.jsonl"])
def test_a_table_of_files_gives_the_keys_of_the_folder(tmp_path: Path, pictures: Pictures, name: str) -> None:
    for file in pictures.files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    frame = table_of(pictures)
    if name.startswith("metadata"):
        frame = frame.rename(columns={"image": "file_name", "prompt": "text"})
    writers: dict[str, Callable] = {
        ".csv": lambda path: frame.to_csv(path, index=False),
        ".jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        ".parquet": frame.to_parquet,
    }
    path = tmp_path / name
    writers[path.suffix](path)
    for data in (path, tmp_path, str(path)):
        source = open_rows(data, RECOGNISED, True)
        assert isinstance(source, ParquetRows if path.suffix == ".parquet" else TableRows)
        assert pairs_of(source) == pictures.pairs


def test_a_parquet_table_in_a_published_layout_is_read_in_that_layout(
    tmp_path: Path, pictures: Pictures
) -> None:
    (tmp_path / "images").mkdir()
    for file in pictures.files:
        (tmp_path / "images" / file.name).write_bytes(file.read_bytes())
    frame = table_of(pictures).rename(columns={"image": "name", "mos": "mos_quality"})
    frame.assign(mos_align=1.0).to_parquet(tmp_path / "data.parquet")
    source = open_rows(tmp_path, RECOGNISED, True)
    assert isinstance(source, TableRows)  # agiqa3k, whose images are in the folder with most names
    assert pairs_of(source) == pictures.pairs


def test_of_several_tables_the_one_with_images_is_streamed(tmp_path: Path, pictures: Pictures) -> None:
    pq.write_table(pa.table({"image": pictures.contents, "prompt": pictures.prompts}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    source = open_rows(tmp_path, RECOGNISED, True)
    assert isinstance(source, ParquetRows)
    assert pairs_of(source) == pictures.pairs
    assert "b.csv (it lacks the column image)" in source.report.left_out
    pq.write_table(pa.table({"image": pictures.contents}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="contains 2 tables with the columns of a data set"):
        open_rows(tmp_path, RECOGNISED, True)
    with pytest.raises(DataError, match="has no sheet 'final'"):
        open_rows(tmp_path, TableChoice(sheet="final"), True)


def test_archives_beside_a_table_are_not_the_data_set(tmp_path: Path, pictures: Pictures) -> None:
    write_tar(tmp_path / "a.tar", tar_members(pictures))
    assert isinstance(open_rows(tmp_path, RECOGNISED, True), TarRows)
    for file in pictures.files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    table_of(pictures).to_csv(tmp_path / "t.csv", index=False)
    assert isinstance(open_rows(tmp_path, RECOGNISED, True), TableRows)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{8..10}.tar", ["8.tar", "9.tar", "10.tar"]),
        ("{008..010}.tar", ["008.tar", "009.tar", "010.tar"]),
        ("{2..1}/{a,b}", ["2/a", "2/b", "1/a", "1/b"]),
        ("{0..0}", ["0"]),
        ("{x}.tar", ["{x}.tar"]),
    ],
)
def test_braces_are_expanded_as_a_shell_does_it(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("memory://d", "has archives and Parquet tables: pass memory://"),
        ("memory://t", r"has several tables \(a.parquet, b.parquet\): pass the one that is meant"),
        ("memory://e", "has neither .tar archives nor .parquet tables"),
        ("memory://nowhere", "cannot be listed: there is no such object"),
        ("memory://d/t.csv", "only .tar archives and .parquet tables are read at URLs"),
        ("memory://d/{a.tar,b.parquet}", "names files of several kinds"),
        ("d/{1..2}.csv", "names files of several kinds"),
        ("nowhere.tar", "does not exist"),
    ],
)
def test_what_is_no_data_set_is_refused_with_a_remedy(pictures: Pictures, data: str, message: str) -> None:
    system = fsspec.filesystem("memory")
    for name in ("d/a.tar", "d/b.parquet", "t/a.parquet", "t/b.parquet", "e/x.png"):
        system.pipe(f"/{name}", b"")
    with pytest.raises(DataError, match=message):
        open_rows(data, RECOGNISED, True)
    system.rm("/", recursive=True)


def test_the_shards_below_a_url_are_one_table(pictures: Pictures, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for number, rows in enumerate((slice(0, 2), slice(2, 5))):
        path = tmp_path / f"train-0000{number}-of-00002.parquet"
        pq.write_table(pa.table({"image": pictures.contents[rows], "prompt": pictures.prompts[rows]}), path)
        system.pipe(f"/d/{path.name}", path.read_bytes())
    system.pipe("/d/README.md", b"text")
    for url in ("memory://d", "memory://d/train-{00000..00001}-of-00002.parquet"):
        source = open_rows(url, RECOGNISED, True)
        assert pairs_of(source) == pictures.pairs
        assert (source.path, source.folder, source.name) == (url, Path.cwd(), "d")
    system.rm("/", recursive=True)
