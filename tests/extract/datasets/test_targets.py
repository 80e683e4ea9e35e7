"""Which columns are scores, and why others are none."""

from pathlib import Path

import pandas as pd
import pytest

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.table_choice import TableChoice
from tier4k.extract.datasets.tables.cells import Formula
from tier4k.extract.datasets.targets import OWN_COLUMNS, ScoreColumns, choose_targets, require_free_names

ROWS = 20


def choose(used: tuple[str, ...] = ("image",), **columns: list[object]) -> ScoreColumns:
    """The choice for a table of 20 rows, in lines 2 to 21; shorter columns are repeated."""
    frame = pd.DataFrame({"image": [f"{row}.png" for row in range(ROWS)]}, dtype=object)
    for name, cells in columns.items():
        frame[name] = pd.Series((cells * ROWS)[:ROWS], dtype=object)
    return choose_targets(frame.set_axis(range(2, ROWS + 2)), used)


def test_every_column_of_numbers_is_a_target_and_says_why() -> None:
    chosen = choose(
        mos=["1.5", ""],
        second=[3],
        third=["1,5", "2,25"],
        fourth=["85 %"],
        text=["a fox"],
        empty=[None],
        flags=[True, False],
    )
    assert dict(chosen.columns) == {name: name for name in ("mos", "second", "third", "fourth")}
    assert dict(chosen.reasons) == {
        "mos": "numbers in 10 of 20 rows",
        "second": "numbers in 20 of 20 rows",
        "third": "numbers in 20 of 20 rows, with decimal commas",
        "fourth": "numbers in 20 of 20 rows, in per cent",
    }
    assert dict(chosen.unused) == {}


def test_a_comma_that_may_stand_between_thousands_is_reported() -> None:
    assert choose(mos=["1,234"]).reasons["mos"].endswith("with decimal commas (1,234 is 1.234)")


@pytest.mark.parametrize(
    "name",
    [
        "width",
        "Height",
        "image_width",
        "size",
        "seed",
        "index",
        "idx",
        "id",
        "prompt_id",
        "Year",
        "file size",
    ],
)
def test_properties_of_an_image_are_no_scores(name: str) -> None:
    chosen = choose(mos=[1], **{name: [512]})
    assert list(chosen.columns) == ["mos"]
    assert chosen.unused[name] == f"reserved name (to use it all the same: --columns mos={name})"


@pytest.mark.parametrize("name", ["std_x", "x_std", "sd_x", "Y_SD", "SD1", "x-stddev", "std x"])
def test_standard_deviations_are_no_scores(name: str) -> None:
    chosen = choose(mos=[1], **{name: [0.5]})
    assert list(chosen.columns) == ["mos"]
    assert chosen.unused[name].startswith("by its name it has standard deviations (to use it")


@pytest.mark.parametrize("name", ["2024", "idea", "stdout", "sd1.5 quality", "widths of lines ", "X2"])
def test_names_that_only_resemble_those_are_scores(name: str) -> None:
    assert list(choose(**{name: [0.5]}).columns) == [name]


def test_ratings_of_a_target_are_used_and_not_listed() -> None:
    chosen = choose(mos=[1], std_mos=[0.5], raters=[20], std_other=[1])
    assert list(chosen.columns) == ["mos"] and list(chosen.unused) == ["std_other"]


def test_columns_with_names_of_the_programs_own_are_no_scores() -> None:
    chosen = choose(mos=[1], position=[3], line=[4])
    assert list(chosen.columns) == ["mos"]
    assert chosen.unused["line"].endswith("(to use it all the same: --columns mos.score=line)")
    require_free_names(["mos", "score"])
    for name in ("line", "image", "raters", "standard error of mos"):
        with pytest.raises(DataError, match=f"no score can be called '{name}'"):
            require_free_names([name])


@pytest.mark.parametrize("name", sorted(OWN_COLUMNS))
def test_a_table_with_any_column_of_the_programs_own_is_read(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"img_path": ["a.png", "b.png"], "mos": [1.5, 2.5]}).assign(**{name: [3.0, 4.0]})
    table.to_csv(tmp_path / "t.csv", index=False)
    source = read_source(tmp_path / "t.csv", TableChoice(columns="image=img_path,prompt="))
    assert source.targets == ("mos",)
    assert source.frame.columns.is_unique


def test_a_saved_index_is_no_score_and_other_columns_without_a_name_are_reported() -> None:
    chosen = choose(mos=[1], **{"Unnamed: 0": list(range(ROWS)), "Unnamed: 5": [1.5]})
    assert list(chosen.columns) == ["mos"]
    assert list(chosen.unused) == ["Unnamed: 5"] and "it has no name" in chosen.unused["Unnamed: 5"]


def test_numbers_in_less_than_a_tenth_of_the_rows_are_no_scores() -> None:
    one = [1.5] + [None] * (ROWS - 1)
    two = [1.5, 2.5] + ["n/a"] * (ROWS - 2)
    chosen = choose(one=one, two=two)
    assert dict(chosen.reasons) == {"two": "numbers in 2 of 20 rows"}
    assert chosen.unused["one"].startswith("it is mostly empty: numbers in 1 of 20 rows (to use it")


@pytest.mark.parametrize(
    "name", ["mos", "MOS_q", "zmos", "Overall Score", "image_quality", "alignment", "mos 2"]
)
def test_a_column_with_the_name_of_a_score_is_never_left_out_in_silence(name: str) -> None:
    for cells, reason in (
        ([None], "it has no numbers"),
        (["n/a"], "it has no numbers"),
        (["", "good"], "it is not mostly numbers: 'good' in line 3"),
        ([True], "it is not mostly numbers: True in line 2"),
        ([Formula("=A1")], "20 of its cells are formulas whose values the workbook does not contain: save"),
    ):
        chosen = choose(**{name: cells})
        assert dict(chosen.columns) == {}
        assert chosen.unused[name].startswith(reason)
        assert chosen.unused[name].endswith(f"--columns mos={name})")


def test_a_column_with_a_fifth_of_numbers_looks_like_scores() -> None:
    chosen = choose(
        some=["5", "a", "b", "c", "d"], few=["5", "a", "b", "c", "d", "e", "f", "g"], half=["5", "a"]
    )
    assert dict(chosen.columns) == {}
    assert list(chosen.unused) == ["some", "half"]
    assert chosen.unused["some"].startswith("it is not mostly numbers: 'a' in line 3")
    assert list(choose(most=["5", "6", "a"]).columns) == ["most"]  # its bad cells are reported as such


def test_a_long_bad_value_is_cut() -> None:
    assert len(choose(mos=["x" * 10_000]).unused["mos"]) < 150


@pytest.mark.parametrize("name", ["mosaic", "almost", "photos", "prompt"])
def test_words_that_contain_mos_are_no_names_of_scores(name: str) -> None:
    assert dict(choose(**{name: ["text"]}).unused) == {}
