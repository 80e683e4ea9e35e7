"""Standard deviations and numbers of ratings are found in a table, checked, and never taken for scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.ratings import spread_columns
from tier4k.extract.datasets.summary import summarize, summary_table
from tier4k.tests.builders.data import save_table, table_rows, write_agiqa, write_table
from tier4k.tests.builders.screens import printed


def summary_text(root: Path, raters: int | None = None) -> str:
    return printed(summary_table(summarize(check(root, raters=raters), None)))


@pytest.mark.parametrize(
    ("target", "column"),
    [
        ("mos_quality", "std_quality"),
        ("quality", "std_quality"),
        ("quality", "quality_std"),
        ("MOS_q", "std_q"),
        ("MOS_q", "STD_MOS_q"),
        ("mos_q", "mos_q_std"),
        ("mos", "std"),
        ("MOS", "MOS_std"),
        ("MOS_look", "SD_look"),
        ("MOS", "MOS_SD"),
        ("quality", "stddev_quality"),
    ],
)
def test_a_standard_deviation_is_found_by_its_name(target: str, column: str) -> None:
    assert spread_columns([target], ["image", target, "standard", "std_other", column]) == {target: column}


def test_other_columns_are_no_standard_deviations() -> None:
    columns = ["quality", "std", "std_align", "qualitystd", "sem_quality", "std_quality_2"]
    assert spread_columns(["quality"], columns) == {}


def test_columns_about_the_ratings_are_no_scores(tmp_path: Path) -> None:
    rows = table_rows(
        quality=[1.0, 2, 3], std_quality=[0.1, 0.2, 0.3], std_unknown=[1.0, 2, 3], raters=[5, 6, 7]
    )
    source = read_source(write_table(tmp_path / "t.csv", rows))
    assert source.targets == ("mos", "quality")
    assert list(source.report.unused) == ["std_unknown"]


def test_the_errors_of_agiqa_are_those_of_means_of_so_many_ratings(tmp_path: Path) -> None:
    frame = write_agiqa(tmp_path, rows=6)
    frame["std_quality"] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    frame["std_align"] = 0.25
    save_table(frame, tmp_path / "data.csv")
    assert np.isnan(check(tmp_path).manifest.score_errors("mos_quality")).all()
    assert check(tmp_path).manifest.ratings_digest == ""
    manifest = check(tmp_path, raters=16).manifest
    np.testing.assert_allclose(manifest.score_errors("mos_quality"), frame["std_quality"] / 4)
    np.testing.assert_allclose(manifest.select("T2I").score_errors("mos_align"), 0.25 / 4)
    scores = frame["mos_quality"].tolist()
    variance = sum((score - sum(scores) / 6) ** 2 for score in scores) / 5
    reliability = 1 - (0.01 + 0.04 + 0.09 + 0.16 + 0.25 + 0.36) / 16 / 6 / variance
    text = summary_text(tmp_path, raters=16)
    (line,) = [line for line in text.splitlines() if "reliability of mos_quality" in line]
    assert f"{reliability:.3f}" in line
    assert summary_text(tmp_path).count("unknown: pass the number of ratings with --raters") == 2


def test_a_data_set_without_standard_deviations_says_nothing_about_raters(tmp_path: Path) -> None:
    write_agiqa(tmp_path)
    assert "reliability" not in summary_text(tmp_path)


def test_the_number_of_ratings_can_differ_between_rows(tmp_path: Path) -> None:
    rows = table_rows(mos_std=[0.5, 0.6, 0.7], n_ratings=[4, 1, 9])
    errors = check(write_table(tmp_path / "t.csv", rows)).manifest.score_errors("mos")
    # A single rating has no standard deviation, whatever its cell holds.
    np.testing.assert_allclose(errors, [0.25, np.nan, 0.7 / 3])


def test_an_empty_cell_is_unknown_and_a_wrong_one_is_a_problem(tmp_path: Path) -> None:
    names = [f"MJ_{row}.png" for row in range(5)]
    rows = table_rows(names, std_mos=["0.5", "", "-1", "much", "0.2"], raters=[5, 5, 5, 5, 0])
    rows = rows.assign(other=rows["mos"], std_other=0.1)
    checked = check(write_table(tmp_path / "t.csv", rows))
    assert [(problem.line, problem.message) for problem in checked.problems] == [
        (4, "standard deviation of mos is '-1', not a number of 0 or more"),
        (5, "standard deviation of mos is 'much', not a number of 0 or more"),
        (6, "raters is '0', not a number of 1 or more"),
    ]
    assert checked.manifest.table["name"].tolist() == names[:2]
    np.testing.assert_allclose(checked.manifest.score_errors("mos"), [0.5 / np.sqrt(5), np.nan])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "--raters 21: the table has no standard deviations .* add a column std_mos, or leave out"),
        ({"std_mos": [1, 1, 1], "raters": [2, 2, 2]}, "--raters 21: .*in its column 'raters': leave out"),
    ],
)
def test_a_number_of_raters_that_cannot_be_used_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = write_table(tmp_path / "t.csv", table_rows(**columns))
    with pytest.raises(DataError, match=message):
        read_source(path, raters=21)


def test_the_ratings_change_their_own_digest_and_not_that_of_the_fit(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", table_rows(std_mos=[0.5, 0.6, 0.7]))
    without, some, more = (check(path, raters=raters).manifest for raters in (None, 5, 6))
    assert without.digest == some.digest == more.digest
    assert len({without.ratings_digest, some.ratings_digest, more.ratings_digest}) == 3
    assert some.ratings_digest == check(path, raters=5).manifest.ratings_digest
