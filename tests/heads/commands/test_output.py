"""Tables reach programs, `--quiet` leaves results, COLUMNS is obeyed, and Ctrl-C says what is stored."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from tier4k import cli
from tier4k.heads.protocol import fit as fit_module
from tier4k.tests.builders.commands import ENCODERS, succeed

FIT = ["fit-head", "Dataset", *ENCODERS, "--split", "random", "--repeats", "2", "--head", "ridge"]


def run(*arguments: str) -> Result:
    """Run a command, and return its two outputs and its exit code."""
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.fixture
def runs(fitted_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's folder with runs as working directory; a test must not change it."""
    monkeypatch.chdir(fitted_project)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["table", "runs/nr", "runs/pr"], {"run", "target", "srcc", "srcc_low", "baseline_plcc"}),
        pytest.param(
            ["table", "runs/pr", "--by", "generator"], {"run", "generator", "srcc_sd"}, marks=pytest.mark.slow
        ),
        (["compare", "runs/nr", "runs/fr"], {"first", "second", "difference", "p_holm"}),
        (["store", "ls"], {"store", "rows", "bytes", "age_seconds"}),
        pytest.param(["data", "check", "Dataset"], {"finding", "count"}, marks=pytest.mark.slow),
        pytest.param(["predict", "runs/pr", "Dataset"], {"name", "target", "score"}, marks=pytest.mark.slow),
    ],
)
def test_csv_and_json_have_the_same_raw_values_and_nothing_else(arguments: list[str], names: set) -> None:
    csv, objects = run(*arguments, "--format", "csv"), run(*arguments, "--format", "json")
    assert csv.exit_code == objects.exit_code == 0, csv.output
    frame, records = pd.read_csv(io.StringIO(csv.stdout)), json.loads(objects.stdout)
    assert names <= set(frame.columns)
    assert len(frame) == len(records) > 0
    assert list(records[0]) == list(frame.columns)


def test_a_fit_has_one_table_for_programs_and_its_notes_on_standard_error(project: Path) -> None:
    result = run(*FIT, "--format", "json")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert {record["target"] for record in records} == {"MOS_q", "MOS_a", "MOS_c"}
    assert sum(record["is_result"] for record in records) == 3
    assert {"srcc", "plcc_low", "prompt_srcc", "folder"} <= set(records[0])
    assert "seen in training" in result.stderr and records[0]["folder"] in result.stderr


@pytest.mark.slow
def test_markdown_has_both_tables_of_a_run(project: Path) -> None:
    result = run(*FIT, "--format", "md")
    assert "| target | selection |" in result.stdout and "seen in training" not in result.stdout


def test_quiet_leaves_tables_paths_and_warnings(project: Path) -> None:
    quiet = run(*FIT, "--quiet").output
    assert "│ MOS_q" in quiet and "runs/nr-" in quiet
    assert "this split leaks" in " ".join(quiet.split())  # a warning
    assert "mean ± sd" not in quiet
    assert "mean ± sd" in run(*FIT).output


@pytest.mark.usefixtures("runs")
def test_a_pipe_obeys_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = succeed("table", "runs/nr", "runs/pr").splitlines()
        assert width - 20 <= max(map(len, lines)) <= width


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("columns", ["", "0", "wide"])
def test_without_a_width_a_pipe_has_room_for_the_usual_tables(
    columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert "left out" not in succeed("store", "ls")


def test_an_interrupted_fit_says_that_no_run_was_written(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit_module, "fit_head", interrupt)
    result = run(*FIT)
    assert result.exit_code == 130
    assert "the fit was interrupted" in result.stderr and "no run was written" in result.stderr
    assert "epoch" not in result.stderr


def test_a_command_without_enough_memory_ends_with_a_message() -> None:
    app = Typer(cls=cli.TierGroup)

    @app.command()
    def fill() -> None:
        raise MemoryError("Unable to allocate 7.00 EiB")

    app.callback()(lambda: None)
    ended = CliRunner().invoke(app, ["fill"])
    assert ended.exit_code == cli.EXIT_ERROR
    assert "the memory is too small for this command (Unable to allocate 7.00 EiB)" in " ".join(
        ended.stderr.split()
    )


@pytest.mark.usefixtures("project")
def test_a_name_that_the_system_does_not_take_ends_with_a_message() -> None:
    ended = run("store", "gc", "--runs", "a" * 300)
    assert ended.exit_code == cli.EXIT_ERROR
    assert "File name too long: 'aaaa" in ended.stderr and "run the command again" in ended.stderr
