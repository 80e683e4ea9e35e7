"""Results within parts of the test rows equal scipy's; the 5-parameter logistic is the published formula."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from typer.testing import CliRunner

from tier4k import cli
from tier4k.extract.datasets.check import load_manifest
from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.metrics.logistic import logistic5, logistic5_mapping, logistic_mapping
from tier4k.heads.reporting.breakdown import breakdown, breakdown_notes, breakdown_table, within_parts
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.reports import Sample, make_sample, random_features


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
    features = random_features(load_manifest(sample.data).manifest)
    table = pd.read_csv(sample.ridge / "predictions.csv")
    guided = dict(zip(features.name, features.has_image_prompt, strict=True))
    assert (table["benchmark"] == table["name"].map(guided).map({True: "I2I", False: "T2I"})).all()


def test_after_a_logistic_no_repeat_is_left_out_without_a_note() -> None:
    truth = np.random.default_rng(0).uniform(1, 5, 80)
    rows = pd.DataFrame(
        {"target": "q", "truth": truth, "prediction": truth + np.random.default_rng(1).normal(0, 0.5, 80)}
    )
    rows = rows.assign(
        generator=np.repeat(["A", "B"], 40), repeat=np.tile([0, 1], 40), name=[str(row) for row in range(80)]
    )
    backwards = (rows["generator"] == "A") & (
        rows["repeat"] == 0
    )  # the 4-parameter logistic has no monotonic fit there
    rows["prediction"] = rows["prediction"].where(~backwards, -rows["prediction"])
    turned, sound = within_parts(rows, "generator").to_dict("records")
    assert (
        abs(turned["srcc"]) < 0.2
        and turned["repeats"] == 2
        and np.isnan([turned["plcc_logistic"], turned["plcc_logistic_sd"]]).all()
    )
    assert sound["plcc_logistic"] > 0.9
    lost = int(np.isnan([turned["plcc_logistic"], turned["plcc_logistic5"]]).sum())
    (note,) = breakdown_notes(pd.DataFrame([turned, sound]))
    assert "no monotonic logistic fit" in note.plain and f"({lost} values)" in note.plain


def test_runs_that_differ_in_options_alone_are_labelled_on_the_terminal(run: Path, tmp_path: Path) -> None:
    other = tmp_path / run.name
    shutil.copytree(run, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"stages": ["head"]}))
    table = breakdown_table(breakdown([run, other], "generator"), [run, other])
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert set(columns["setting"]) == {"stages all", "stages head"}
    assert "setting" not in [
        column.header for column in breakdown_table(breakdown([run], "generator"), [run]).columns
    ]


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
        match=f"predictions.csv cannot be read .*benchmark.*: delete {run} and run the command that",
    ):
        breakdown([run], "benchmark")


def test_the_5_parameter_logistic_is_the_published_formula_and_is_recovered() -> None:
    x = np.linspace(-2, 3, 80)
    truth = 3 * (0.5 - 1 / (1 + np.exp(2.5 * (x - 0.4)))) + 0.3 * x + 2.6
    np.testing.assert_allclose(logistic5(x, 3, 2.5, 0.4, 0.3, 2.6), truth)
    np.testing.assert_allclose(logistic5_mapping(truth, 10 * x - 4), truth, atol=1e-3)


def test_the_5_parameter_logistic_rises_and_fits_no_worse_than_a_line() -> None:
    random = np.random.default_rng(0)
    prediction = random.normal(size=60)
    truth = prediction + random.normal(0, 0.7, 60)
    mapped = logistic5_mapping(truth, prediction)
    assert (np.diff(mapped[np.argsort(prediction)]) >= 0).all()
    assert rmse(truth, mapped) <= rmse(truth, np.polyval(np.polyfit(prediction, truth, 1), prediction)) + 1e-6
    four = rmse(truth, logistic_mapping(truth, prediction))
    assert rmse(truth, mapped) <= four + 1e-3  # the 4-parameter logistic is a special case
    assert np.isnan(
        logistic5_mapping(-truth, prediction)
    ).all()  # a falling curve would reward a reversed ranking
