"""A plan has the inputs that the checked manifest has, whatever the size of the batches."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from tier4k.cache.errors import StoreError
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.rows import table
from tier4k.extract.datasets.rows.table import TableRows
from tier4k.extract.inputs.dataset import NONE, DatasetInputs
from tier4k.extract.inputs.inputs import Inputs, absolute_places
from tier4k.extract.inputs.plan import Plan, plan_inputs
from tier4k.extract.inputs.record import DatasetRecord, is_record, write_record
from tier4k.tests.builders.data import make_picture, write_pku, write_table


def plan(*data: Path) -> Plan:
    sources = [TableRows(read_source(path)) for path in data]
    return plan_inputs(sources, ImageHasher(KeyCache(None)))


def content(inputs: Inputs) -> list[tuple[bytes, str]]:
    return list(zip(map(bytes, inputs.keys), inputs.texts(np.arange(len(inputs))), strict=True))


def assert_equal_inputs(found: DatasetInputs, expected: DatasetInputs) -> None:
    assert (found.name, found.data, found.has_prompts) == (expected.name, expected.data, expected.has_prompts)
    assert content(found.images) == content(expected.images)
    assert content(found.prompts) == content(expected.prompts)
    for column in ("image", "prompt", "image_prompt"):
        np.testing.assert_array_equal(getattr(found.rows, column), getattr(expected.rows, column))


@pytest.fixture(params=[3, 2**16])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(table, "ROWS_PER_BATCH", request.param)
    return request.param


def test_a_plan_has_the_inputs_of_the_manifest(tmp_path: Path, batch: int) -> None:
    """Rows share prompts and image prompts, and one image is the image prompt of another row."""
    write_pku(tmp_path / "PKU-AIGIQA-4K", rows=10, image_to_image=6)
    folder = tmp_path / "PKU-AIGIQA-4K"
    (folder / "I2I" / "Image_prompt" / "0.png").write_bytes((folder / "All" / "MJ_1004_08.png").read_bytes())
    manifest = check(tmp_path).manifest
    found = plan(tmp_path)
    assert_equal_inputs(found.inputs, DatasetInputs.of(manifest))
    assert (found.rows, len(found.problems)) == (10, 0)
    assert (found.inputs.rows.image_prompt == NONE).sum() == 4


def test_equal_images_of_several_tables_are_one_input(tmp_path: Path, batch: int) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name / f"{name}.csv")
    both = plan(tmp_path / "a" / "a.csv", tmp_path / "b" / "b.csv")
    one = plan(tmp_path / "a" / "a.csv")
    assert content(both.inputs.images) == content(one.inputs.images)
    assert both.rows == 2 * one.rows
    assert both.inputs.name == "a+b"
    np.testing.assert_array_equal(both.inputs.rows.image, np.tile(one.inputs.rows.image, 2))


def test_problems_of_rows_are_those_of_the_manifest_and_cost_these_rows_only(
    tmp_path: Path, batch: int
) -> None:
    names = ["a.png", "b.png", "gone.png", "A.png", "c.png", ""]
    prompts = ["fox", "", "fox", "fox", "cat", "cat"]
    rows = {"image": names, "prompt": prompts, "mos": ["1", "2", "3", "4", "much", "5"]}
    path = write_table(tmp_path / "t.csv", pd.DataFrame(rows))
    for name in ("gone.png", "A.png"):
        (tmp_path / name).unlink()
    checked = check(path)
    found = plan(path)
    expected = [(one.row, one.line, one.name, one.message) for one in checked.problems]
    problems = [(one.row, one.line, one.name, one.message) for one in found.problems.first(99)]
    assert sorted(problems) == sorted(expected)
    assert [problem[0] for problem in problems] == sorted(problem[0] for problem in problems)
    assert found.problems.rows == 5
    assert_equal_inputs(found.inputs, DatasetInputs.of(checked.manifest))
    found.problems.write(tmp_path / "found.csv")
    checked.write_problems(tmp_path / "expected.csv")
    of_plan, of_check = (pd.read_csv(tmp_path / name).fillna("") for name in ("found.csv", "expected.csv"))
    columns = list(of_check.columns)
    assert list(of_plan.columns) == columns
    pd.testing.assert_frame_equal(
        of_plan.sort_values(columns, ignore_index=True), of_check.sort_values(columns, ignore_index=True)
    )


def test_a_table_without_prompts_has_one_empty_prompt(tmp_path: Path) -> None:
    rows = {"image": ["a.png", "b.png"], "mos": [1.0, 2.0]}
    path = write_table(tmp_path / "t.csv", pd.DataFrame(rows))
    found = plan(path)
    assert_equal_inputs(found.inputs, DatasetInputs.of(check(path).manifest))
    assert not found.inputs.has_prompts


def test_turned_and_transparent_images_are_counted_once(tmp_path: Path) -> None:
    rows = {"image": ["a.png", "b.png", "c.jpg"], "prompt": ["x", "y", "z"], "mos": [1.0, 2.0, 3.0]}
    path = write_table(tmp_path / "t.csv", pd.DataFrame(rows))
    faded = make_picture(1).convert("RGBA")
    faded.putalpha(99)
    faded.save(tmp_path / "a.png")
    faded.save(tmp_path / "b.png")
    tags = Image.Exif()
    tags[0x0112] = 6
    make_picture(2).save(tmp_path / "c.jpg", exif=tags)
    found = plan(path)
    assert (found.turned, found.transparent) == (1, 1)


def test_a_record_is_read_as_the_plan_that_was_written(tmp_path: Path) -> None:
    write_pku(tmp_path / "PKU-AIGIQA-4K", rows=10, image_to_image=6)
    inputs = plan(tmp_path).inputs
    record = write_record(tmp_path / "f", inputs, ["a good photo"], inputs.pairs)
    assert is_record(record.path)
    read = DatasetRecord.read(record.path)
    assert_equal_inputs(read.inputs(), inputs)
    assert read.templates() == ["a good photo"]
    np.testing.assert_array_equal(read.keys_of("score"), inputs.pairs.keys)


def test_a_record_keeps_its_pairs_while_its_rows_are_the_same(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv")
    inputs = plan(path).inputs
    write_record(tmp_path / "f", inputs, pairs=inputs.pairs)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "f").rglob("*.*")}
    again = write_record(tmp_path / "f", inputs)
    assert len(again.keys_of("score")) == len(inputs.pairs)
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "f").rglob("*.*")} == before
    Image.new("RGB", (40, 40), "red").save(next(tmp_path.glob("*.png")))
    changed = write_record(tmp_path / "f", plan(path).inputs)
    assert len(changed.keys_of("score")) == 0
    assert len(list(changed.path.iterdir())) == len(changed.about.files) + 3 + 1  # three with values


def test_a_plan_of_relative_paths_holds_in_another_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "data" / "t.csv")
    monkeypatch.chdir(tmp_path)
    relative = [plan(Path("data/t.csv")).inputs, DatasetInputs.of(check(Path("data/t.csv")).manifest)]
    monkeypatch.chdir("/")
    whole = content(plan(tmp_path / "data" / "t.csv").inputs.images)
    assert [content(inputs.images) for inputs in relative] == [whole, whole]


def test_places_that_are_absolute_or_urls_stay() -> None:
    places = [b"/a b/\xff.png", b"s3://bucket/x.png", b"a/s3:x.png", b"nl\n/x.png", b"./\xff/./../x.png"]
    found = absolute_places(pa.array(places, pa.large_binary())).to_pylist()
    folder = os.getcwdb()
    below = [b"/a/s3:x.png", b"/nl\n/x.png", b"/\xff/./../x.png"]
    assert found == [*places[:2], *(folder + name for name in below)]


def test_a_full_temporary_folder_is_an_error_of_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "t.csv")
    full = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115, the plan closes it
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full)
    with pytest.raises(StoreError, match=f"cannot write to {tempfile.gettempdir()}: No space left"):
        plan(path)


def test_problems_are_written_to_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv")
    next(tmp_path.glob("*.png")).unlink()
    listing = tmp_path / os.fsdecode(b"caf\xe9") / "problems.csv"
    plan(path).problems.write(listing)
    assert len(listing.read_text().splitlines()) == 2
