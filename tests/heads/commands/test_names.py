"""Folders and files may have names of any bytes: every command works on them, and shows them escaped."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tier4k.tests.builders.commands import ENCODERS, on_one_line, read_scores, succeed, tier

NAME = os.fsdecode(b"caf\xe9")

RIDGE = ["--head", "ridge", "--split", "random", "--repeats", "1"]


@pytest.fixture
def folder(fitted_copy: Path) -> str:
    """The data set, its features and a run in a folder whose name is not UTF-8."""
    os.mkdir(NAME)
    for name in ("Dataset", "features", "runs"):
        shutil.move(name, Path(NAME) / name)
    return NAME


@pytest.mark.slow
def test_commands_work_in_a_folder_whose_name_is_not_utf_8(folder: str) -> None:
    data, features, run = f"{folder}/Dataset", ["-F", f"{folder}/features"], f"{folder}/runs/nr"
    assert r"caf\xe9/features" in succeed("extract", data, *features, *ENCODERS)
    fitted = succeed("fit-head", data, *features, *ENCODERS, *RIDGE, "--out", f"{folder}/fitted")
    assert r"caf\xe9/fitted" in on_one_line(fitted)
    (fitted_run,) = Path(folder, "fitted").iterdir()
    config = json.loads((fitted_run / "config.json").read_text())
    assert r"caf\xe9/Dataset" in config["environment"]["data"]
    succeed("predict", run, data, *features, "-o", f"{folder}/scores.csv")
    assert len(read_scores(f"{folder}/scores.csv"))
    succeed("table", run, "-o", f"{folder}/table.csv")
    succeed("report", run, "-o", f"{folder}/report.html", "--data", data)
    succeed("split", data, "--split", "random", "-o", f"{folder}/splits.json")
    code, output = tier("fit-head", data, *features, *ENCODERS, *RIDGE, "--target", folder)
    assert code == 2
    assert r"caf\xe9" in output


@pytest.mark.slow
def test_the_features_of_a_data_set_in_such_a_folder_are_not_garbage(folder: str) -> None:
    features = f"{folder}/features"
    succeed("extract", f"{folder}/Dataset", "-F", features, *ENCODERS)
    gone = [
        line for line in succeed("store", "gc", "-F", features).splitlines() if "no longer exists" in line
    ]
    assert not [line for line in gone if r"caf\xe9" in line]
    shutil.rmtree(f"{folder}/Dataset")
    assert rf"{folder}/Dataset".replace(NAME, r"caf\xe9") in succeed("store", "gc", "-F", features)
