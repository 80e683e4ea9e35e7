"""Errors and commands say what to do next with the user's own data and options."""

from pathlib import Path

import pytest

from tier4k.tests.builders.commands import on_one_line, succeed, tier
from tier4k.tests.builders.data import save_picture

COLUMNS = ("--columns", "image=file")


@pytest.fixture
def ratings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table whose column of images has a name of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my images").mkdir()
    lines = ["file,prompt,quality"]
    for number in range(4):
        save_picture(tmp_path / "my images" / f"{number}.png", number)
        lines.append(f"my images/{number}.png,a fox {number},{number}.5")
    (tmp_path / "my ratings.csv").write_text("\n".join(lines))
    return "my ratings.csv"


def failure(*arguments: str) -> str:
    code, output = tier(*arguments)
    assert code == 2, output
    return on_one_line(output)


def test_an_error_names_the_column_with_names_of_files_that_exist(ratings: str) -> None:
    output = failure("fit-head", ratings)
    assert "Pass --columns image=file: its cells are names of files that exist." in output
    assert "mos=…" not in output


def test_an_error_about_a_score_lists_the_columns_of_numbers(ratings: str) -> None:
    assert "Its columns of numbers are: quality." in failure(
        "fit-head", ratings, "--columns", "image=file,mos=Q"
    )


def test_the_command_of_an_error_has_the_data_and_their_options(ratings: str) -> None:
    output = failure("fit-head", ratings, *COLUMNS, "--image-encoder", "clip", "--on-error", "skip")
    options = "--columns image=file --on-error skip --image-encoder clip"
    assert f"Run `tier extract 'my ratings.csv' {options}` first" in output
    output = failure("fit-head", ratings, *COLUMNS, "--features", "elsewhere")
    assert "`tier extract 'my ratings.csv' --columns image=file --features elsewhere`" in output


def test_a_check_without_problems_prints_the_next_command(ratings: str) -> None:
    output = succeed("data", "check", ratings, *COLUMNS)
    assert output.endswith("next: tier extract 'my ratings.csv' --columns image=file\n")
    assert "next:" not in succeed("data", "check", ratings, *COLUMNS, "--quiet")


def test_the_next_command_has_the_options_of_a_file_of_options(ratings: str) -> None:
    Path("tier.toml").write_text('[data.check]\ncolumns = "image=file"\n')
    output = succeed("data", "check", ratings, "--config", "tier.toml")
    assert output.endswith("next: tier extract 'my ratings.csv' --columns image=file\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--hidden", "3"], "so pass --set hidden=VALUE"),
        (["--method", "NR"], "'NR' is not one of nr, fr, pr (nearest: nr)."),
        (["--split", "promt"], "'promt' is no rule and no file (nearest: prompt"),
    ],
)
def test_a_misspelt_option_or_value_gets_the_nearest(ratings: str, options: list[str], expected: str) -> None:
    output = failure("fit-head", ratings, *COLUMNS, *options)
    assert expected in output
    assert "Value error" not in output


def test_a_misspelt_folder_of_runs_gets_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    assert "there is no run runz (nearest: runs)" in failure("table", "runz")


def test_the_printed_options_have_the_defaults_of_those_without_a_value(tmp_path: Path) -> None:
    lines = succeed("config", "fit-head", "x").splitlines()
    assert "# repeats = … (default: 10, or one per part)" in lines
    assert "# feature = … (default: pooled)" in lines
