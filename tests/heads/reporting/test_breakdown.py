"""Results within parts of the test rows equal scipy's."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from typer.testing import CliRunner

from tier4k import cli
from tier4k.extract.datasets.check import check
from tier4k.heads.reporting.breakdown import breakdown, breakdown_notes, breakdown_table
from tier4k.heads.reporting.parts import within_parts
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.reports import Sample, make_sample, random_features
from tier4k.tests.builders.screens import cells_by_heading, headings


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("breakdown"))


@pytest.fixture(scope="module")
def run(sample: Sample) -> Path:
    return sample.mlp


@pytest.mark.parametrize("by", ["generator", "benchmark"])
def test_correlations_within_each_part_equal_scipys(run: Path, by: str) -> None:
    table, found = pd.read_csv(run / "predictions.csv"), breakdown([run], by)  # type: ignore[arg-type]
    assert len(found) == len(table[["target", by]].drop_duplicates())
    for line in found.to_dict("records"):
        its = table[(table["target"] == line["target"]) & (table[by] == line[by])]
        parts = [part for _, part in its.groupby("repeat")]
        for name, correlation in (("srcc", spearmanr), ("plcc", pearsonr)):
            expected = [correlation(part["truth"], part["prediction"]).statistic for part in parts]
            assert line[name] == pytest.approx(np.nanmean(expected), nan_ok=True)
        assert line["images"] == its["name"].nunique()


def test_the_benchmark_of_a_row_is_i2i_if_it_has_an_image_prompt(sample: Sample) -> None:
    features = random_features(check(sample.data).manifest)
    table = pd.read_csv(sample.ridge / "predictions.csv")
    guided = dict(zip(features.name, features.has_image_prompt, strict=True))
    assert (table["benchmark"] == table["name"].map(guided).map({True: "I2I", False: "T2I"})).all()


def test_within_a_part_there_is_no_metric_after_a_logistic(run: Path) -> None:
    frame = breakdown([run], "generator")
    assert not [name for name in frame.columns if "logistic" in name]
    assert headings(breakdown_table(frame, [run]))[-2:] == ["SRCC", "PLCC"]


def test_a_part_without_a_correlation_in_any_repeat_has_a_note() -> None:
    truth = np.random.default_rng(0).uniform(1, 5, 8)
    rounding = 3 + np.arange(8) * 1e-15
    rows = pd.DataFrame({"target": "q", "truth": truth, "name": list("abcdefgh"), "repeat": [0, 1] * 4})
    rows["generator"] = ["A"] * 4 + ["B"] * 4
    rows["prediction"] = np.where(rows["generator"] == "A", rounding, truth)
    constant, sound = within_parts(rows, "generator").to_dict("records")
    assert constant["repeats"] == 0 and np.isnan([constant["srcc"], constant["plcc"]]).all()
    assert sound["repeats"] == 2 and sound["srcc"] == pytest.approx(1)
    (note,) = breakdown_notes(pd.DataFrame([constant, sound]))
    assert "equal predictions" in note.plain
    assert not list(breakdown_notes(pd.DataFrame([sound])))


def test_runs_that_differ_in_options_alone_are_labelled_on_the_terminal(run: Path, tmp_path: Path) -> None:
    other = tmp_path / run.name
    shutil.copytree(run, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"stages": ["head"]}))
    table = breakdown_table(breakdown([run, other], "generator"), [run, other])
    assert set(cells_by_heading(table)["setting"]) == {"stages all", "stages head"}
    assert "setting" not in headings(breakdown_table(breakdown([run], "generator"), [run]))


def test_a_breakdown_is_printed_and_written(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli.app, ["table", str(run), "--by", "generator", "-o", str(tmp_path / "by.csv")]
    )
    assert result.exit_code == 0 and "generator" in result.output, result.output
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "by.csv"), breakdown([run], "generator"), check_dtype=False
    )
    for wrong in (["--by", "generator", "-o", "t.tex"], ["--by", "prompt"]):
        assert CliRunner().invoke(cli.app, ["table", str(run), *wrong]).exit_code == 2


def test_predictions_without_the_benchmark_of_a_row_are_refused(sample: Sample, tmp_path: Path) -> None:
    run = shutil.copytree(sample.ridge, tmp_path / "run")
    pd.read_csv(run / "predictions.csv").drop(columns="benchmark").to_csv(
        run / "predictions.csv", index=False
    )
    with pytest.raises(
        ResultError,
        match=f"predictions.csv cannot be read .*benchmark.*: delete {re.escape(str(run))} and run the",
    ):
        breakdown([run], "benchmark")
