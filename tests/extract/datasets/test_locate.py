"""The message about a missing image names the file that was probably meant."""

import unicodedata
from pathlib import Path

import pytest

from tier4k.extract.datasets.locate import Locator


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("existing", "named"),
    [
        ("fox.png", "Fox.PNG"),
        ("fox.png", "fox.jpg"),
        ("fox.png", "fox"),
        ("Images/fox.png", "images/fox.png"),
        ("images/deep/fox.png", "images\\deep\\fox.png"),
        ("images/deep/fox.png", ".\\Images\\deep\\FOX.webp"),
        (unicodedata.normalize("NFC", "Zürich/é.png"), unicodedata.normalize("NFD", "zürich/é.jpg")),
    ],
)
def test_the_nearest_file_is_named(tmp_path: Path, existing: str, named: str) -> None:
    make(tmp_path, existing, "other.png")
    locator = Locator(tmp_path)
    assert locator.place(named) is None
    assert locator.problem(named) == f"there is no file {tmp_path / named} (nearest: {tmp_path / existing})"


def test_a_name_that_looks_the_same_is_explained(tmp_path: Path) -> None:
    existing, named = (unicodedata.normalize(form, "Zürich/é.png") for form in ("NFD", "NFC"))
    make(tmp_path, existing)
    expected = f"(nearest: {tmp_path / existing}, in another Unicode form, NFC or NFD)"
    assert Locator(tmp_path).problem(named).endswith(expected)


def test_an_absolute_path_of_another_case_has_a_nearest_file_too(tmp_path: Path) -> None:
    make(tmp_path, "disk/fox.png")
    named = str(tmp_path / "Disk" / "FOX.png")
    assert Locator(tmp_path / "data").problem(named).endswith(f"(nearest: {tmp_path / 'disk' / 'fox.png'})")


@pytest.mark.parametrize("named", ["wolf.png", "nowhere/fox.png", "fox/fox.png", "../fox.png"])
def test_nothing_is_named_where_nothing_is_near(tmp_path: Path, named: str) -> None:
    make(tmp_path / "data", "fox.png")
    assert Locator(tmp_path / "data").problem(named) == f"there is no file {tmp_path / 'data' / named}"


def test_a_file_of_the_same_stem_goes_behind_one_of_the_same_name(tmp_path: Path) -> None:
    make(tmp_path, "fox.jpg", "FOX.png")
    assert "FOX.png)" in Locator(tmp_path).problem("fox.png")


def test_a_name_of_something_that_is_no_file_is_not_its_own_nearest_file(tmp_path: Path) -> None:
    make(tmp_path, "folder/fox.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    locator = Locator(tmp_path)
    link = tmp_path / "broken.png"
    assert locator.problem("broken.png") == (
        f"there is no file {link}: it is a link to nowhere.png, which does not exist"
    )
    assert locator.problem("folder") == f"{tmp_path / 'folder'} is a folder: name the file of an image"
    assert locator.problem("x" * 300).startswith("there is no file")


@pytest.mark.parametrize(
    "address", ["https://example.org/fox.png", "file:///tmp/fox.png", "s3://images/fox.png"]
)
def test_a_url_is_a_place_as_it_is_written(tmp_path: Path, address: str) -> None:
    locator = Locator(tmp_path)
    assert locator.place(address) == address
    assert locator.problem(address) == f"there is no object {address}"
