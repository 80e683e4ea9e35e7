"""A folder of stores records which data sets it holds, and how the last extraction went."""

import io
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tier4k.cache.errors import StoreError
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.pipeline.listener import StreamSummary, Timing
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.records import DatasetRecord, records, write_extraction
from tier4k.extract.pipeline.versions import library_versions
from tier4k.extract.stores.listing import store_table
from tier4k.tests.builders.data import write_pku, write_table
from tier4k.tests.builders.signatures import signature


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_pku(tmp_path / "PKU-AIGIQA-4K")
    manifest = check(tmp_path).manifest
    DatasetRecord.of(manifest).write(tmp_path / "f")
    (record,) = records(tmp_path / "f")
    assert (record.name, record.data, record.rows) == ("PKU-AIGIQA-4K", str(tmp_path / "PKU-AIGIQA-4K"), 8)
    assert {bytes(key).hex() for key in record.keys["image"]} == set(manifest.images().index)
    assert {bytes(key).hex() for key in record.keys["text"]} == set(manifest.prompts().index)


def test_writing_again_renews_and_another_data_set_of_the_same_name_is_another_record(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        DatasetRecord.of(check(write_table(tmp_path / folder / "mine.csv")).manifest).write(tmp_path / "f")
    assert len(list(records(tmp_path / "f"))) == 2
    DatasetRecord.of(check(tmp_path / "a" / "mine.csv").manifest).write(tmp_path / "f")
    assert sorted(record.data for record in records(tmp_path / "f")) == [
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_record_is_an_error_with_its_remedy(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "datasets" / "x-12345678.npz"
    path.parent.mkdir()
    np.savez(path, about=np.array("[]")) if content is None else path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x-12345678.npz is damaged.*delete the file"):
        list(records(tmp_path))


def test_the_list_of_stores_distinguishes_complete_from_partial_data_sets(tmp_path: Path) -> None:
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


def read_extraction(root: Path) -> dict:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads((root / "extract.json").read_text(encoding="utf-8"), parse_constant=refuse)


def test_an_extraction_leaves_its_rates_shares_options_and_versions(tmp_path: Path) -> None:
    options = ExtractionOptions(2, device="cpu", part=(1, 4))
    summaries = [
        StreamSummary(
            "image", "resnet18", tmp_path / "store-a", 100, 80, 16, Timing(read=1.0, encode=2.5, write=0.5)
        ),
        StreamSummary("text", "minilm", tmp_path / "store-b", 50, 0),
    ]
    write_extraction(tmp_path, [Path("Daten/größe")], ["tier", "extract", "Daten/größe"], options, summaries)
    found = read_extraction(tmp_path)
    image, text = found["encoders"]
    assert (image["store"], image["inputs"], image["encoded"], image["batch_size"]) == (
        "store-a",
        100,
        80,
        16,
    )
    assert image["inputs_per_second"] == 20 and image["seconds"] == {"read": 1.0, "encode": 2.5, "write": 0.5}
    assert text["encoded"] == 0 and text["inputs_per_second"] is None and text["batch_size"] is None
    assert found["command"] == ["tier", "extract", "Daten/größe"] and found["data"] == "Daten/größe"
    assert (found["options"]["device"], found["options"]["batch_size"], found["options"]["part"]) == (
        "cpu",
        None,
        [1, 4],
    )
    assert found["versions"] == library_versions()
    assert datetime.fromisoformat(found["finished"]).tzinfo is not None


def test_the_next_extraction_renews_the_record(tmp_path: Path) -> None:
    for encoded in (80, 3):
        summary = StreamSummary("image", "resnet18", tmp_path / "store", 100, encoded, 16, Timing(encode=1.0))
        write_extraction(tmp_path, [tmp_path], ["tier"], ExtractionOptions(0), [summary])
    assert [one["encoded"] for one in read_extraction(tmp_path)["encoders"]] == [3]
    assert [path.name for path in tmp_path.iterdir()] == ["extract.json"]
