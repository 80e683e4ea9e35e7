"""A folder of stores records which data sets it holds."""

import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.inputs import record
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import records, write_record
from tier4k.extract.stores.garbage import review
from tier4k.extract.stores.listing import store_table
from tier4k.tests.builders.data import table_rows, write_pku, write_table
from tier4k.tests.builders.screens import printed
from tier4k.tests.builders.signatures import signature


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_pku(tmp_path / "PKU-AIGIQA-4K")
    manifest = check(tmp_path).manifest
    write_record(tmp_path / "f", DatasetInputs.of(manifest))
    (found,) = records(tmp_path / "f").sound
    assert (found.about.name, found.about.data, found.about.rows) == (
        "PKU-AIGIQA-4K",
        str(tmp_path / "PKU-AIGIQA-4K"),
        8,
    )
    assert {bytes(key).hex() for key in found.keys_of("image")} == set(manifest.images().index)
    assert {bytes(key).hex() for key in found.keys_of("text")} == set(manifest.prompts().index)


def test_writing_again_renews_and_another_data_set_of_the_same_name_is_another_record(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_record(
            tmp_path / "f", DatasetInputs.of(check(write_table(tmp_path / folder / "mine.csv")).manifest)
        )
    assert len(records(tmp_path / "f").sound) == 2
    write_record(tmp_path / "f", DatasetInputs.of(check(tmp_path / "a" / "mine.csv").manifest))
    assert sorted(one.about.data for one in records(tmp_path / "f").sound) == [
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]


@pytest.mark.parametrize("content", [b"", b"no object", b"[]", b'{"format": 0}'])
def test_a_damaged_record_is_an_error_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "datasets" / "x-12345678" / "about.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (reason,) = records(tmp_path).damaged.values()
    assert re.search(r"x-12345678 is damaged.*delete the folder", reason)


def test_the_list_of_stores_distinguishes_complete_from_partial_data_sets(tmp_path: Path) -> None:
    manifest = check(write_table(tmp_path / "d" / "mine.csv")).manifest
    write_record(tmp_path / "f", DatasetInputs.of(manifest))
    for name, rows in (("resnet18", 3), ("resnet50", 2)):
        with FeatureStore.create(tmp_path / "f", signature(name), {}).writer() as writer:
            writer.add(manifest.keys("image")[:rows], np.ones((rows, 4), np.float32))
    shown = printed(store_table(tmp_path / "f", records(tmp_path / "f").sound), width=250).splitlines()
    lines = {name: next(line for line in shown if name in line) for name in ("resnet18", "resnet50")}
    assert "mine" in lines["resnet18"] and "of 3" not in lines["resnet18"]
    assert "mine (2 of 3)" in lines["resnet50"]
    with pytest.raises(StoreError, match="no feature stores.*tier extract"):
        store_table(tmp_path / "nowhere", ())


def damage_array(folder: Path, name: str, change: Callable[[np.ndarray], object]) -> None:
    (file,) = folder.glob(f"{name}-*.npy")
    np.save(file, change(np.load(file)), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image", lambda keys: keys[:, :31]),
        ("text", lambda keys: keys.astype(np.int64)),
        ("image", lambda keys: keys[:-1]),
        ("rows", lambda numbers: numbers + 1),
        ("rows", lambda numbers: numbers - 1),
        ("rows", lambda numbers: numbers[:2]),
        ("rows", lambda numbers: numbers.astype(float)),
        ("text", lambda _: np.array([None])),
    ],
)
def test_a_damaged_record_does_not_hide_the_others(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], object]
) -> None:
    sound = DatasetInputs.of(check(write_table(tmp_path / "d" / "mine.csv")).manifest)
    for dataset in (sound, replace(sound, name="other")):
        written = write_record(tmp_path / "f", dataset)
    damage_array(written.path, name, change)
    found = records(tmp_path / "f")
    assert [record.name for record in found.sound] == ["mine"]
    assert list(found.damaged) == [written.path]


def test_while_a_record_is_damaged_no_store_is_garbage(tmp_path: Path) -> None:
    root = tmp_path / "f"
    FeatureStore.create(root, signature("resnet18"), {})
    assert [finding.kept for finding in review(root, (), hours=0)] == [False]
    (root / "datasets" / "x-1").mkdir(parents=True)
    (root / "datasets" / "x-1" / "about.json").write_text("{}")
    assert all(finding.kept for finding in review(root, (), hours=0))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04, as a zip archive begins",
        b"\x93NUMPY\x01\x00\x06\x00{'a':(",  # Python's tokenizer refuses the header
    ],
)
def test_a_file_that_is_no_array_is_damage_of_the_record(tmp_path: Path, content: bytes) -> None:
    manifest = check(write_table(tmp_path / "d" / "mine.csv")).manifest
    written = write_record(tmp_path / "f", DatasetInputs.of(manifest))
    for file in written.path.glob("rows-*.npy"):
        file.write_bytes(content)
    with pytest.raises(StoreError, match=r"mine-.* is damaged.*delete the folder"):
        written.inputs()


def test_writers_at_the_same_time_leave_a_record_with_its_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one begins when the arrays of the first one are written, and no record names them yet."""
    path = write_table(tmp_path / "mine.csv")
    first = DatasetInputs.of(check(path).manifest)
    write_table(path, table_rows().iloc[:2])
    second = DatasetInputs.of(check(path).manifest)
    publish = record.publish_text
    writers: list[threading.Thread] = []

    def publish_later(file: Path, text: str) -> None:
        if not writers:
            writers.append(threading.Thread(target=write_record, args=(tmp_path / "f", second)))
            writers[0].start()
            writers[0].join(1)
        publish(file, text)

    monkeypatch.setattr(record, "publish_text", publish_later)
    write_record(tmp_path / "f", first)
    writers[0].join()
    (found,) = records(tmp_path / "f").sound
    assert len(found.inputs().rows) == found.about.rows == 2


def test_a_record_that_is_replaced_while_it_is_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "mine.csv")
    write_record(tmp_path / "f", DatasetInputs.of(check(path).manifest))
    write_table(path, table_rows().iloc[:2])
    fewer = DatasetInputs.of(check(path).manifest)
    require_sound = record.DatasetRecord.require_sound

    def after_a_writer(found: record.DatasetRecord) -> None:
        write_record(tmp_path / "f", fewer)
        require_sound(found)

    monkeypatch.setattr(record.DatasetRecord, "require_sound", after_a_writer)
    found = records(tmp_path / "f")
    assert not found.damaged
    assert [one.about.rows for one in found.sound] == [2]


@pytest.mark.parametrize("name", [".hidden", "+".join(f"part_{number:03d}" for number in range(80))])
def test_a_record_is_found_whatever_the_name_of_its_data_set(tmp_path: Path, name: str) -> None:
    inputs = DatasetInputs.of(check(write_table(tmp_path / "mine.csv")).manifest)
    written = write_record(tmp_path / "f", replace(inputs, name=name))
    assert records(tmp_path / "f").sound == (written,)
    assert written.name == name


def test_a_record_in_a_folder_whose_name_is_not_utf_8_comes_back(tmp_path: Path) -> None:
    inputs = DatasetInputs.of(check(write_table(tmp_path / "mine.csv")).manifest)
    written = write_record(tmp_path / os.fsdecode(b"caf\xe9"), inputs)
    assert len(written.inputs().images) == len(inputs.images)
