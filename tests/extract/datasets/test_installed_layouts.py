"""A package that declares a layout makes its data sets known; faults of the package name it."""

from pathlib import Path

import pandas as pd
import pytest

import tier4k
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.plugins.find import PluginError
from tier4k.tests.builders.data import save_picture, write_agiqa

MODULE = """
from tier4k import Layout

OURSET = Layout(
    name="ourset",
    columns={"name": "name", "prompt": "prompt"},
    targets=("mos_align",),
    image_folder=lambda root, names: root / "pixels",
    is_in=lambda data: (data / "ourset.txt").exists(),
)
NOTHING = 3
"""


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str = "ourset",
    value: str = "their_layouts:OURSET",
) -> None:
    """Put a distribution with an entry point on the module search path."""
    about = folder / "their_package-1.5.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text(f"[tier4k.layouts]\n{name} = {value}\n")
    (folder / "their_layouts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set in the layout AGIQA-3K, with other images in the folder `pixels`."""
    folder = tmp_path / "data"
    frame = write_agiqa(folder)
    for name in frame["name"]:
        save_picture(folder / "pixels" / name, 99)
    return folder


def test_the_layout_of_a_package_is_tried_before_ours_where_it_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch)
    assert tier4k.load_manifest(data, tmp_path).targets == ("mos_quality", "mos_align")
    (data / "ourset.txt").touch()
    manifest = tier4k.load_manifest(data, tmp_path)
    assert manifest.targets == ("mos_align",)
    assert manifest.packages == ("their-package 1.5",)
    assert {Path(place).parent.name for place in manifest.table["image"]} == {"pixels"}
    assert pd.read_csv(data / "data.csv")["name"].tolist() == manifest.table["name"].tolist()
    assert "Layout ourset of the package their-package 1.5" in read_source(data).report.lines()
    ours = read_source(data, TableChoice(layout="agiqa3k"))
    assert (ours.targets, ours.package) == (("mos_quality", "mos_align"), "")


def test_the_layout_of_a_package_has_a_name_for_the_option(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="no layout 'ourset'.*use one of.*agiqa3k"):
        read_source(data, TableChoice(layout="ourset"))
    install(tmp_path / "site", monkeypatch)
    assert read_source(data, TableChoice(layout="ourset")).targets == ("mos_align",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pku", "their_layouts:OURSET", "their-package 1.5 declares the layout 'pku', which is a name of"),
        ("bad", "their_layouts:MISSING", "'bad' of the package their-package 1.5 is of no use.*MISSING"),
        ("bad", "their_layouts:NOTHING", "their-package 1.5 .their_layouts:NOTHING. is int, not a"),
    ],
)
def test_a_layout_that_is_of_no_use_is_refused_with_its_package(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    message: str,
) -> None:
    install(tmp_path / "site", monkeypatch, name, value)
    with pytest.raises(PluginError, match=message):
        read_source(data)
