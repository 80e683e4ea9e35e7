"""A folder of stores remembers which data sets it holds completely."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cache.store import FeatureStore, StoreError
from extract.check import check
from extract.progress import store_table
from extract.records import DatasetRecord, records
from tests.data_builders import write_pku, write_table
from tests.test_stored import signature


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_pku(tmp_path / "PKU-AIGIQA-4K")
    manifest = check(tmp_path).manifest
    DatasetRecord.of(manifest).write(tmp_path / "f")
    (record,) = records(tmp_path / "f")
    assert (record.name, record.data, record.rows) == ("PKU-AIGIQA-4K", str(tmp_path / "PKU-AIGIQA-4K"), 8)
    assert {bytes(key).hex() for key in record.keys["image"]} == set(manifest.pictures().index)
    assert {bytes(key).hex() for key in record.keys["text"]} == set(manifest.prompts().index)


def test_writing_again_renews_and_another_data_set_of_the_same_name_is_another_record(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        DatasetRecord.of(check(write_table(tmp_path / folder / "mine.csv")).manifest).write(tmp_path / "f")
    assert len(list(records(tmp_path / "f"))) == 2
    DatasetRecord.of(check(tmp_path / "a" / "mine.csv").manifest).write(tmp_path / "f")
    assert sorted(record.data for record in records(tmp_path / "f")) == [str(tmp_path / "a"), str(tmp_path / "b")]


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_record_is_an_error_with_its_remedy(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "datasets" / "x-12345678.npz"
    path.parent.mkdir()
    np.savez(path, about=np.array("[]")) if content is None else path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x-12345678.npz is damaged.*delete it"):
        list(records(tmp_path))


def test_the_list_of_stores_tells_complete_from_partly_extracted(tmp_path: Path) -> None:
    manifest = check(write_table(tmp_path / "d" / "mine.csv")).manifest
    DatasetRecord.of(manifest).write(tmp_path / "f")
    for name, rows in (("resnet18", 3), ("resnet50", 2)):
        with FeatureStore.create(tmp_path / "f", signature(name), {}).writer() as writer:
            writer.add(manifest.keys("image")[:rows], np.ones((rows, 4), np.float32))
    console = Console(file=io.StringIO(), width=250)
    console.print(store_table(tmp_path / "f"))
    shown = console.file.getvalue().splitlines()
    lines = {name: next(line for line in shown if name in line) for name in ("resnet18", "resnet50")}
    assert "mine" in lines["resnet18"] and "of 3" not in lines["resnet18"]
    assert "mine (2 of 3)" in lines["resnet50"]
    with pytest.raises(StoreError, match="no feature stores.*tier extract"):
        store_table(tmp_path / "nowhere")
