"""Published data sets are read in their authors' form: rows, groups, generators, scores, errors, split.

Each is written anew by `tests/builders/layouts.py`, whose result says what must be found.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io

from tier4k.extract.datasets.check import CheckedDataset, check
from tier4k.extract.datasets.choices import LayoutName
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.ratings import ERROR_OF
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.tests.builders.data import save_table, table_rows, write_agiqa, write_pku, write_table
from tier4k.tests.builders.layouts import (
    AIGCIQA_GENERATORS,
    AIGCIQA_TARGETS,
    save_sheet,
    write_agiqa1k,
    write_aigciqa2023,
    write_aigiqa20k,
    write_evalmuse,
    write_i2iqa,
)

SMALL_SETS: list[tuple[LayoutName, Callable[[Path], pd.DataFrame], tuple[str, ...]]] = [
    ("aigiqa20k", write_aigiqa20k, ("mos",)),
    ("agiqa1k", write_agiqa1k, ("MOS",)),
    ("i2iqa", write_i2iqa, ("MOS_q", "MOS_a", "MOS_c")),
    ("evalmuse", write_evalmuse, ("total_score",)),
]


def require_rows(checked: CheckedDataset, truth: pd.DataFrame, targets: tuple[str, ...]) -> None:
    """Every row of a data set was read as it was written, and no other row."""
    table = checked.manifest.table
    assert not checked.problems
    assert checked.manifest.targets == targets
    for column in ("name", "prompt", "generator"):
        assert table[column].tolist() == truth[column].tolist()
    assert [Path(path).name for path in table["image_prompt"]] == truth["image_prompt"].tolist()
    np.testing.assert_array_equal(table[[*targets]].to_numpy(float), truth[[*targets]].to_numpy(float))
    # The images differ, so that the rows of a group are those of one prompt.
    groups, prompts = pd.factorize(table["group"])[0], pd.factorize(truth["prompt"])[0]
    np.testing.assert_array_equal(groups, prompts)


@pytest.fixture(scope="module")
def aigciqa(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """The whole data set with tiny images, which tests only read."""
    root = tmp_path_factory.mktemp("published") / "AIGCIQA2023"
    return root, write_aigciqa2023(root)


@pytest.fixture(scope="module")
def written_scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scores")
    write_aigciqa2023(root, index=False, images=False)
    (root / "Image" / "allimg").mkdir(parents=True)
    return root


@pytest.fixture
def scores(written_scores: Path, tmp_path: Path) -> Path:
    """AIGCIQA2023 with an empty folder of images, which a test may change."""
    return shutil.copytree(written_scores, tmp_path / "AIGCIQA2023")


@pytest.mark.parametrize(("layout", "write", "targets"), SMALL_SETS)
def test_a_published_data_set_is_recognised_and_its_rows_are_those_of_its_authors(
    tmp_path: Path,
    layout: LayoutName,
    write: Callable[[Path], pd.DataFrame],
    targets: tuple[str, ...],
) -> None:
    root = tmp_path / "their name"
    truth = write(root)
    recognised = check(root)
    assert recognised.manifest.name == "their name"
    require_rows(recognised, truth, targets)
    forced = check(root, TableChoice(layout=layout))
    assert forced.manifest.digest == recognised.manifest.digest


def test_aigciqa2023_is_recognised_and_its_2400_rows_are_those_of_its_authors(
    aigciqa: tuple[Path, pd.DataFrame],
) -> None:
    root, truth = aigciqa
    checked = check(root, raters=28)
    require_rows(checked, truth, AIGCIQA_TARGETS)
    table = checked.manifest.table
    assert table["generator"].value_counts().to_dict() == dict.fromkeys(AIGCIQA_GENERATORS, 400)
    assert set(table["group"].value_counts()) == {24}  # four images by each of six generators
    assert checked.sources[0].frame["line"].tolist() == list(range(1, 2401))  # of the arrays
    for row in (0, 399, 400, 2399):
        assert Path(table["image"][row]) == root / "Image" / "allimg" / f"{row}.png"
    for target in AIGCIQA_TARGETS:
        expected = truth[f"std_{target}"] / np.sqrt(28)
        np.testing.assert_allclose(table[ERROR_OF + target], expected, rtol=1e-12)


def test_every_layout_can_be_named_and_none_is_without_a_name() -> None:
    assert set(LAYOUTS) == set(get_args(LayoutName))
    assert {name: layout.name for name, layout in LAYOUTS.items()} == {name: name for name in LAYOUTS}


@pytest.mark.parametrize(("workbook", "header"), [("prompts.xlsx", True), ("DATA/any name.xlsx", False)])
def test_the_prompts_of_aigciqa2023_are_found_in_any_workbook_with_or_without_a_header(
    tmp_path: Path, workbook: str, header: bool
) -> None:
    truth = write_aigciqa2023(tmp_path, workbook, header, index=False, images=False)
    (tmp_path / "Image" / "allimg").mkdir(parents=True)
    (tmp_path / "~$prompts.xlsx").write_bytes(b"lock file of a spreadsheet program")
    assert read_source(tmp_path).frame["prompt"].tolist() == truth["prompt"].tolist()


def test_aigciqa2023_without_standard_deviations_is_read_without_errors_of_its_scores(scores: Path) -> None:
    shutil.rmtree(scores / "DATA" / "STD")
    source = read_source(scores)
    assert source.targets == AIGCIQA_TARGETS
    assert not [column for column in source.frame if column.startswith("standard deviation")]
    with pytest.raises(DataError, match="the table has no standard deviations"):
        read_source(scores, raters=28)


def test_standard_deviations_of_aigciqa2023_may_have_any_name_if_they_are_alone(scores: Path) -> None:
    path = scores / "DATA" / "STD" / "SD2.mat"
    values = np.linspace(5, 20, 2400)
    scipy.io.savemat(path, {"spread": values[None]})
    cells = read_source(scores).frame["standard deviation of authenticity"]
    np.testing.assert_array_equal(cells, values)
    scipy.io.savemat(path, {"spread": values, "n": 28})
    with pytest.raises(DataError, match="SD2.mat contains spread, n, but must contain SD, the standard dev"):
        read_source(scores)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


def save_hdf5(path: Path) -> None:
    # MATLAB 7.3 writes HDF5 after a block of 512 bytes, which begins with the name and version of the format.
    with h5py.File(path, "w", userblock_size=512) as file:
        file["MOSz"] = np.ones((1, 2400))
    content = bytearray(path.read_bytes())
    content[:128] = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    path.write_bytes(content)


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("DATA/MOS/mosz2.mat", Path.unlink, "mosz2.mat is missing.*authenticity scores.*restore it"),
    ("DATA/STD/SD3.mat", Path.unlink, "SD3.mat is missing.*standard deviations of the correspondence scores"),
    ("Image/allimg", Path.rmdir, "allimg is missing: the images of AIGCIQA2023 are in it; restore it"),
    (
        "AIGCIQA2023_Prompts.xlsx",
        Path.unlink,
        "no workbook .*100 prompts.*put the authors' AIGCIQA2023_Prompts",
    ),
    (
        "DATA/MOS/mosz1.mat",
        lambda path: scipy.io.savemat(path, {"mos": np.ones((2400, 1)), "n": 3}),
        "mosz1.mat contains mos, n, but must contain MOSz, the quality scores: restore it",
    ),
    (
        "DATA/MOS/mosz3.mat",
        lambda path: scipy.io.savemat(path, {"MOSz": np.ones((2399, 1))}),
        "mosz3.mat: MOSz, the correspondence scores, has 2399 × 1 numbers, but AIGCIQA2023 has 2,400",
    ),
    (
        "DATA/MOS/mosz3.mat",
        lambda path: scipy.io.savemat(path, {"MOSz": np.ones((48, 50))}),
        "has 48 × 50 numbers",
    ),
    (
        "DATA/MOS/mosz1.mat",
        lambda path: scipy.io.savemat(path, {"MOSz": np.array([["a"], ["b"]], object)}),
        "mosz1.mat: MOSz, the quality scores, is not an array of numbers",
    ),
    ("DATA/MOS/mosz1.mat", cut, "mosz1.mat cannot be read as a file of MATLAB.*restore it"),
    (
        "DATA/MOS/mosz1.mat",
        lambda path: path.write_text("<html>Log in</html>"),
        "mosz1.mat cannot be read as",
    ),
    ("DATA/STD/SD1.mat", lambda path: path.write_bytes(b""), "SD1.mat cannot be read as a file of MATLAB"),
    ("DATA/STD/SD1.mat", save_hdf5, "SD1.mat is a file of MATLAB 7.3: save it in MATLAB with the option -v7"),
    ("AIGCIQA2023_Prompts.xlsx", cut, "AIGCIQA2023_Prompts.xlsx is no workbook.*; or restore it"),
    (
        "AIGCIQA2023_Prompts.xlsx",
        lambda path: save_sheet(path, [("a", "b", f"prompt {row}") for row in range(99)]),
        "no workbook.*AIGCIQA2023_Prompts.xlsx, sheet Sheet1 has 99 rows and 3 columns",
    ),
    (
        "second.xlsx",
        lambda path: save_sheet(path, [("a", "b", f"other {row}") for row in range(100)]),
        "several lists of 100 prompts.*AIGCIQA2023_Prompts.xlsx.*second.xlsx.*remove all but",
    ),
]


@pytest.mark.parametrize(("file", "damage", "message"), FAULTS)
def test_a_missing_or_odd_file_of_aigciqa2023_is_named_in_one_paragraph(
    scores: Path, file: str, damage: Callable[[Path], object], message: str
) -> None:
    damage(scores / file)
    with pytest.raises(DataError, match=message) as error:
        read_source(scores)
    assert "\n" not in str(error.value)


def test_the_parts_of_aigiqa20k_are_its_official_split(tmp_path: Path) -> None:
    truth = write_aigiqa20k(tmp_path, {"train": 6, "val": 4, "test": 5})
    save_table(truth[["name", "prompt", "mos"]], tmp_path / "data.csv")  # of all parts, as a mirror has it
    checked = check(tmp_path)
    require_rows(checked, truth, ("mos",))
    assert checked.manifest.columns["split"].tolist() == ["train"] * 6 + ["val"] * 4 + ["test"] * 5
    for path, part, name in zip(checked.manifest.table["image"], truth["split"], truth["name"], strict=True):
        assert Path(path) == tmp_path / part / name
    (unread,) = checked.sources[0].report.left_out
    assert unread.startswith("data.csv ")


def test_a_part_of_aigiqa20k_without_scores_is_reported_row_by_row_and_costs_no_other_row(
    tmp_path: Path,
) -> None:
    truth = write_aigiqa20k(tmp_path, {"train": 6, "val": 3, "test": 4}, unscored=("val", "test"))
    checked = check(tmp_path)
    assert (checked.rows, checked.skipped) == (13, 7)
    assert checked.manifest.table["name"].tolist() == truth["name"][:6].tolist()
    places = [(problem.file, problem.line, problem.name, problem.message) for problem in checked.problems]
    files = ["info_val.csv"] * 3 + ["info_test.csv"] * 4
    lines = [2, 3, 4, 2, 3, 4, 5]
    assert places == list(zip(files, lines, truth["name"][6:], ["mos is empty"] * 7, strict=True))


def test_a_row_of_aigiqa20k_without_a_name_is_reported(tmp_path: Path) -> None:
    truth = write_aigiqa20k(tmp_path, {"train": 4})
    frame = pd.read_csv(tmp_path / "info_train.csv")
    frame.loc[2, "name"] = None
    save_table(frame, tmp_path / "info_train.csv")
    checked = check(tmp_path)
    assert [str(problem) for problem in checked.problems] == [
        "line 4, (no name): the name of the image is empty"
    ]
    assert checked.manifest.table["name"].tolist() == truth["name"][[0, 1, 3]].tolist()


def test_one_table_of_aigiqa20k_is_its_part_only(tmp_path: Path) -> None:
    truth = write_aigiqa20k(tmp_path)
    checked = check(tmp_path / "info_val.csv")
    require_rows(checked, truth[truth["split"] == "val"], ("mos",))
    assert set(checked.manifest.columns["split"]) == {"val"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "info_val.csv is missing: it has the prompts and scores of the images in .*restore it"),
        ("name,text,mos\na.png,b,1\n", "info_val.csv lacks prompt, but has name, text, mos"),
        ("", "info_val.csv is empty"),
    ],
)
def test_a_table_of_aigiqa20k_that_is_missing_or_odd_is_named(
    tmp_path: Path, table: str | None, message: str
) -> None:
    write_aigiqa20k(tmp_path)
    (tmp_path / "info_val.csv").unlink()
    if table is not None:
        (tmp_path / "info_val.csv").write_text(table)
    with pytest.raises(DataError, match=message) as error:
        read_source(tmp_path)
    assert "\n" not in str(error.value)


def test_a_users_table_that_is_called_as_in_aigiqa20k_is_their_own(tmp_path: Path) -> None:
    path = write_table(tmp_path / "info_train.csv")
    (tmp_path / "train").mkdir()
    for data in (tmp_path, path):
        source = read_source(data)
        assert source.name == "info_train"
        assert source.frame["name"].tolist() == ["MJ_0.png", "MJ_1.png", "SD_2.png"]


def test_aigiqa20k_with_fewer_parts_is_a_data_set_and_without_any_an_error(tmp_path: Path) -> None:
    truth = write_aigiqa20k(tmp_path / "two", {"train": 6, "test": 3})
    require_rows(check(tmp_path / "two"), truth, ("mos",))
    with pytest.raises(DataError, match="none of the tables of AIGIQA-20K, such as info_train.csv"):
        read_source(tmp_path, TableChoice(layout="aigiqa20k"))


def test_a_name_that_occurs_twice_in_agiqa1k_is_reported_in_both_lines(tmp_path: Path) -> None:
    # The authors' own table has one such pair.
    frame = write_agiqa1k(tmp_path).rename(columns={"name": "Image", "prompt": "Prompt"})
    frame.loc[5, "Image"] = frame.loc[4, "Image"]
    save_table(frame[["Image", "Prompt", "MOS"]], tmp_path / "AIGC_MOS_Zscore.xlsx")
    checked = check(tmp_path)
    assert [problem.line for problem in checked.problems] == [6, 7]
    assert len(checked.manifest) == len(frame) - 2


def test_the_other_table_of_agiqa1k_is_reported_and_its_own_one_can_be_named(tmp_path: Path) -> None:
    truth = write_agiqa1k(tmp_path)
    (unread,) = read_source(tmp_path).report.left_out
    assert unread.startswith("AIGC_all.csv ")
    require_rows(check(tmp_path / "AIGC_MOS_Zscore.xlsx"), truth, ("MOS",))


def test_a_users_table_with_the_columns_of_agiqa1k_keeps_all_its_scores(tmp_path: Path) -> None:
    frame = table_rows(second=[1.5, 2.5, 3.5])
    path = write_table(tmp_path / "mine.csv", frame)
    save_table(frame.rename(columns={"image": "Image", "prompt": "Prompt", "mos": "MOS"}), path)
    assert read_source(path).targets == ("MOS", "second")


@pytest.mark.parametrize("table", ["I2IQA_annotation.xlsx", "annotation.xlsx", "I2IQA_annotation.csv"])
def test_i2iqa_and_pku_have_the_same_columns_and_are_told_apart_by_their_folders(
    tmp_path: Path, table: str
) -> None:
    truth = write_i2iqa(tmp_path / "i2iqa", table)
    for data in (tmp_path / "i2iqa", tmp_path / "i2iqa" / table):
        checked = check(data)
        require_rows(checked, truth, ("MOS_q", "MOS_a", "MOS_c"))
        assert set(checked.manifest.table["benchmark"]) == {"I2I"}
        folder = Path(checked.manifest.table["image_prompt"][0]).parent
        assert folder == tmp_path / "i2iqa" / "Image_prompt"
    write_pku(tmp_path / "pku")
    assert read_source(tmp_path / "pku").image_folder == tmp_path / "pku" / "All"


def test_scores_of_evalmuse_are_means_of_ratings_with_their_standard_errors(tmp_path: Path) -> None:
    write_evalmuse(tmp_path, ((4, 3, 3), (5, 5, 5), (2, 3), (5,)))
    checked = check(tmp_path)
    table = checked.manifest.table
    np.testing.assert_allclose(table["total_score"], [10 / 3, 5, 2.5, 5], rtol=1e-15)
    # 4, 3, 3 deviate by 2/3, -1/3, -1/3 from their mean: s^2 = (6/9)/2 = 1/3, and 2, 3 have s^2 = 1/2.
    np.testing.assert_allclose(
        table[ERROR_OF + "total_score"], [np.sqrt(1 / 3 / 3), 0, np.sqrt(1 / 2 / 2), np.nan], rtol=1e-12
    )
    assert table["generator"].tolist() == ["SDXL-Turbo", "LCM-SDXL"] * 2
    with pytest.raises(DataError, match="--raters 3: the table has the number of ratings"):
        read_source(tmp_path, raters=3)


def test_what_evalmuse_has_besides_scores_is_no_target_and_reported(tmp_path: Path) -> None:
    write_evalmuse(tmp_path)
    for data in (tmp_path, tmp_path / "train_list.json"):
        source = read_source(data)
        assert source.targets == ("total_score",)
        assert "texts" in source.report.unused["element_score"]
        assert {"type", "prompt_id", "element_score", "promt_meaningless"} <= {*source.others}
    unread = read_source(tmp_path).report.left_out
    assert [line.split(" ")[0] for line in unread] == ["prompt_t2i.json", "test.json"]


def test_images_of_evalmuse_may_also_lie_beside_the_list(tmp_path: Path) -> None:
    truth = write_evalmuse(tmp_path)
    for folder in ("SDXL-Turbo", "LCM-SDXL"):
        shutil.move(tmp_path / "images" / folder, tmp_path)
    require_rows(check(tmp_path), truth, ("total_score",))


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ([4, "good"], "not a finite number"),
        ([4, None], "not a finite number"),
        ([True, 4], "not a finite number"),
        ([4, 10**400], "not a finite number"),
        ("4, 3", "not a finite number"),
        ({"a": 3}, "not a finite number"),
        ([], "total_score is empty"),
        (None, "total_score is empty"),
    ],
)
def test_ratings_of_evalmuse_that_are_no_numbers_cost_their_row_only(
    tmp_path: Path, ratings: object, message: str
) -> None:
    truth = write_evalmuse(tmp_path, total_score=ratings)
    checked = check(tmp_path)
    (problem,) = checked.problems
    assert (problem.row, problem.name) == (0, truth["name"][0])
    assert message in problem.message
    assert checked.manifest.table["name"].tolist() == truth["name"][1:].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "train_list.json is missing"),
        ("", "train_list.json"),
        ('[{"img_path": "a/b.png", "total_', "train_list.json"),
        (
            json.dumps([{"img_path": "a.png", "caption": "b"}]),
            "train_list.json lacks prompt and total_score, but",
        ),
    ],
)
def test_a_list_of_evalmuse_that_is_missing_or_odd_is_named(
    tmp_path: Path, content: str | None, message: str
) -> None:
    write_evalmuse(tmp_path)
    (tmp_path / "train_list.json").unlink()
    if content is not None:
        (tmp_path / "train_list.json").write_text(content)
    with pytest.raises(DataError, match=message) as error:
        read_source(tmp_path, TableChoice(layout="evalmuse"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "table"])
def test_a_folder_of_another_data_set_is_refused_where_a_layout_is_named(
    tmp_path: Path, layout: LayoutName
) -> None:
    (write_pku if layout == "agiqa3k" else write_agiqa)(tmp_path)
    if layout == "agiqa3k":
        (tmp_path / "annotation.xlsx").rename(tmp_path / "data.xlsx")
    with pytest.raises(DataError, match=str(tmp_path)):
        read_source(tmp_path, TableChoice(layout=layout))
