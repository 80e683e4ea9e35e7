"""A comparison is paired, corrected for multiple tests, and refused where the test rows differ."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, spearmanr
from typer.testing import CliRunner

from tier4k import cli
from tier4k.heads.metrics.significance import holm
from tier4k.heads.reporting.comparison import compare, comparison_frame
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.terminal.comparison import comparison_notes
from tier4k.heads.results.run_format import ResultError
from tier4k.tests.builders.results import write_results

PROMPTS, REPEATS = 20, 2
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the predictions of a run: the truth plus noise of a given size."""

    def predictions(
        run: str, noise: float, seed: int = 0, targets: tuple[str, ...] = ("MOS_q",), **columns: object
    ) -> Path:
        rows = [
            (repeat, target, row)
            for target in targets
            for repeat in range(REPEATS)
            for row in range(PROMPTS * 4)
        ]
        frame = pd.DataFrame(rows, columns=["repeat", "target", "row"])
        frame["name"], frame["group"] = (
            frame["row"].map("G_{}.png".format),
            (frame["row"] // 4).map("{:03d}".format),
        )
        frame["generator"], frame["truth"] = (
            "NA",
            np.random.default_rng(9).uniform(0, 5, PROMPTS * 4)[frame["row"]],
        )
        frame["prediction"] = frame["truth"] + noise * np.random.default_rng(seed).normal(size=len(frame))
        frame["benchmark"] = "T2I"
        (tmp_path / run).mkdir()
        write_results(tmp_path / run, targets, REPEATS)
        frame.assign(**columns).drop(columns="row").to_csv(tmp_path / run / "predictions.csv", index=False)
        return tmp_path / run

    return predictions


def test_a_clear_difference_is_found_with_its_sign_and_both_means(write: Write) -> None:
    good, bad = write("good", 0.5), write("bad", 5.0, seed=1)
    (found,) = compare([good, bad])
    expected = []
    for run in (good, bad):
        table = pd.read_csv(run / "predictions.csv")
        expected.append(
            np.mean(
                [
                    spearmanr(part["truth"], part["prediction"]).statistic
                    for _, part in table.groupby("repeat")
                ]
            )
        )
    assert found.means == pytest.approx(tuple(expected)) and found.difference == pytest.approx(
        expected[0] - expected[1]
    )
    assert 0 < found.interval[0] < found.difference < found.interval[1] and found.p < 0.01
    (turned,) = compare([bad, good])
    assert turned.difference == -found.difference and turned.interval == pytest.approx(
        (-found.interval[1], -found.interval[0])
    )
    assert turned.p == found.p


def test_a_run_does_not_differ_from_itself(write: Write) -> None:
    (found,) = compare([write("a", 1.0), write("b", 1.0)])
    assert (found.difference, found.interval, found.p) == (0, (0, 0), 1)


def test_pairing_finds_a_difference_that_two_separate_intervals_miss(write: Write) -> None:
    first = write("first", 1.0)
    table = pd.read_csv(first / "predictions.csv", dtype={"group": str})
    shaken = table["prediction"] + np.random.default_rng(5).normal(0, 0.7, len(table))
    (found,) = compare([first, write("second", 1.0, prediction=shaken)], "plcc")
    assert found.p < 0.01 and found.interval[1] - found.interval[0] < 0.15


def test_equally_good_runs_are_rarely_called_different(write: Write) -> None:
    names = iter(range(1000))
    p = [
        compare([write(str(next(names)), 1.0, seed), write(str(next(names)), 1.0, seed + 500)])[0].p
        for seed in range(40)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.15 and np.mean(p) > 0.3


def test_a_run_without_an_interval_for_new_prompts_has_no_p_value_but_an_interval_for_its_heads(
    write: Write,
) -> None:
    runs = [write("a", 0.5), write("b", 3.0, seed=1)]
    write_results(runs[1], ("MOS_q",), REPEATS, interval_reason="test prompts are also in training")
    (found,) = compare(runs)
    assert np.isnan([*found.interval, found.p, found.p_holm]).all()
    assert found.interval_reason == "test prompts are also in training"
    assert 0 < found.interval_fitted_heads[0] < found.difference < found.interval_fitted_heads[1]
    frame = comparison_frame([found], runs)
    assert frame["interval_reason"].tolist() == [found.interval_reason]
    assert 0 < frame["p_williams"][0] < 0.05


def test_every_pair_and_common_target_is_compared_and_corrected_for(write: Write) -> None:
    runs = [write(str(noise), noise, seed, ("MOS_q", "MOS_c")) for seed, noise in enumerate((0.5, 1.0, 4.0))]
    found = compare(runs)
    assert [(one.target, one.first, one.second) for one in found] == [
        (t, *pair) for t in ("MOS_q", "MOS_c") for pair in ((0, 1), (0, 2), (1, 2))
    ]
    np.testing.assert_allclose([one.p_holm for one in found], holm(np.array([one.p for one in found])))
    assert len(compare([runs[0], write("one", 1.0)])) == 1


def test_holm_is_the_step_down_rule() -> None:
    np.testing.assert_allclose(
        holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02]
    )  # worked by hand
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.6, 0.9])), [0.06, np.nan, 1, 1])
    p = np.random.default_rng(0).uniform(0, 1, 20) ** 3
    assert (
        (holm(p) >= false_discovery_control(p) - 1e-12).all()
        and (holm(p) >= p).all()
        and (holm(p) <= np.minimum(1, 20 * p)).all()
    )


def test_constant_predictions_have_no_difference(write: Write) -> None:
    (found,) = compare([write("a", 1.0), write("b", 1.0, prediction=3.0)])
    assert np.isnan([found.difference, *found.interval, found.p, found.p_holm]).all()
    assert found.interval_reason == "srcc is NaN"


@pytest.mark.parametrize("change", [{"truth": 1.0}, {"name": "other.png"}, {"repeat": 0}, {"group": "000"}])
def test_other_test_rows_are_refused(write: Write, change: dict[str, object]) -> None:
    with pytest.raises(ReportError, match="not tested on the same rows"):
        compare([write("a", 1.0), write("b", 1.0, **change)])


def test_runs_that_cannot_be_compared_are_refused_with_the_reason(write: Write, tmp_path: Path) -> None:
    run = write("a", 1.0)
    with pytest.raises(ReportError, match="two runs or more"):
        compare([run])
    with pytest.raises(ReportError, match="no target in common: MOS_q; MOS_c"):
        compare([run, write("b", 1.0, targets=("MOS_c",))])
    for content in (
        b"",
        b"name,truth\na,1\n",
        b"\xff\xfe",
        (run / "predictions.csv").read_bytes().replace(b"G_0.png,000,NA,", b"G_0.png,000,NA,x"),
    ):
        (run / "predictions.csv").write_bytes(content)
        (run / "results.json").touch()
        with pytest.raises(
            ResultError, match=f"predictions.csv cannot be read .*: delete {re.escape(str(run))} and run"
        ):
            compare([run, write(f"of {len(content)}", 1.0)])
    (run / "predictions.csv").unlink()
    whole = write("whole", 1.0)
    (run / "results.json").rename(
        run / "config.json"
    )  # exported models and weights have one too, and must not be deleted
    for nothing in (run, run / "nowhere"):
        with pytest.raises(
            ResultError,
            match=f"{nothing}.*: pass the folder of a run, for example runs/ID",
        ):
            compare([whole, nothing])


def test_the_command_shows_the_runs_and_the_table(project: Path) -> None:
    def tier(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, [*arguments])
        return result.exit_code, result.output

    encoders = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
    for head in ("mlp", "ridge"):
        assert (
            tier("fit-head", "Dataset", "--head", head, "--split", "random", "--repeats", "2", *encoders)[0]
            == 0
        )
    runs = sorted(map(str, Path("runs").iterdir()))
    code, output = tier("compare", *runs, "--metric", "rmse")
    assert (
        code == 0
        and all(run in output for run in runs)
        and "A - B" in output
        and "p (Holm)" in output
        and "MOS_a" in output
    )
    code, output = tier("compare", *runs, "-o", "differences.csv")
    frame = pd.read_csv("differences.csv")
    assert code == 0 and "p (Williams)" not in output
    assert (frame["p_williams"].notna() | frame["williams_reason"].notna()).all()
    # Images of test prompts are in training here.
    assert "no interval and no p, as test prompts are also in training" in " ".join(output.split())
    assert frame["p"].isna().all() and frame["low_fitted_heads"].notna().all()
    assert tier("compare", *runs, "-o", "differences.tex")[0] == 2
    assert (
        tier(
            "fit-head",
            "Dataset",
            "--head",
            "ridge",
            "--set",
            "penalties=0.5,2",
            "--split",
            "random",
            "--repeats",
            "2",
            *encoders,
        )[0]
        == 0
    )
    (changed,) = {*map(str, Path("runs").iterdir())} - {*runs}
    (ridge,) = (run for run in runs if '"ridge"' in (Path(run) / "config.json").read_text())
    code, output = tier("compare", ridge, changed)
    in_one_line = " ".join(output.split())
    assert code == 0 and f"default options: {ridge}" in in_one_line
    assert f"penalties=0.5,2.0: {changed}" in in_one_line
    code, output = tier("compare", runs[0], "nowhere")
    assert code == 2 and "nowhere" in output and "Traceback" not in output


def test_runs_that_fitted_nothing_are_not_compared_for_new_training_sets(write: Write) -> None:
    runs = [write("good", 0.5), write("bad", 5.0, seed=1)]
    comparisons = compare(runs)
    (sentence, *_) = comparison_notes(comparisons, "AB")
    assert "another training set" in sentence.plain
    unfitted = [replace(comparison, fitted=False) for comparison in comparisons]
    (sentence, *_) = comparison_notes(unfitted, "AB")
    assert "training" not in sentence.plain and "expected metric on new prompts" in sentence.plain
