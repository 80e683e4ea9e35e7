"""`--images` names the folder of a table's images, and is recorded so that they are found later."""

import os
import tarfile
from pathlib import Path

import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.tests.builders.data import save_picture, save_table, table_rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    frame = table_rows()
    for seed, name in enumerate(frame["image"]):
        save_picture(tmp_path / "pictures" / name, seed)
    return save_table(frame, tmp_path / "scores" / "t.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_images_are_found_in_the_folder_and_have_the_same_keys(table: Path, suffix: str) -> None:
    pictures = table.parent.parent / "pictures"
    beside = check(save_table(table_rows(), pictures / f"t{suffix}")).manifest.table
    elsewhere = save_table(table_rows(), table.parent / f"u{suffix}")
    apart = check(elsewhere, TableChoice(images=pictures)).manifest.table
    assert apart["image_key"].tolist() == beside["image_key"].tolist()
    (batch,) = open_rows(elsewhere, TableChoice(images=pictures), needs_prompts=True).batches()
    assert (len(batch), batch.problems) == (len(apart), ())
    assert all(Path(os.fsdecode(place)).is_file() for place in batch.rows["image"].to_pylist())


def test_the_recorded_folder_is_absolute(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(table.parent)
    choice = TableChoice(images=Path("../pictures"))
    recorded = TableChoice.of(choice.given)
    monkeypatch.chdir("/")
    assert len(check(table, recorded).manifest) == len(table_rows())


def test_a_folder_that_does_not_exist_and_data_without_names_of_files_are_refused(table: Path) -> None:
    with pytest.raises(DataError, match="--images: there is no folder nowhere"):
        check(table, TableChoice(images=Path("nowhere")))
    archive = table.parent / "a.tar"
    with tarfile.open(archive, "w") as file:
        file.add(table.parent.parent / "pictures" / "MJ_0.png", "MJ_0.png")
    with pytest.raises(DataError, match="is no table on this machine.*leave --images out"):
        open_rows(archive, TableChoice(images=table.parent), needs_prompts=True)
