"""A model on another data set: the figures are those of its predictions, scales are told apart, and what was
seen before is said.
"""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold

from tier4k.heads.protocol.cross_dataset import ProtocolError, calibrate
from tier4k.heads.reporting.html.page import write_report
from tier4k.heads.reporting.latex import latex
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.find_run import reference_to
from tier4k.heads.results.names import digest_in
from tier4k.heads.results.results import Results
from tier4k.tests.builders.commands import read_scores, tier
from tier4k.tests.builders.data import save_picture, write_agiqa


def evaluated(*arguments: str) -> tuple[Results, str]:
    shutil.rmtree("judged", ignore_errors=True)
    code, output = tier("evaluate", *arguments, "--out", "judged")
    assert code == 0, output
    (run,) = Path("judged").iterdir()
    return Results.read(run), " ".join(output.split())


def test_the_figures_are_those_of_every_head_on_all_rows_of_the_other_data(fitted_copy: Path) -> None:
    table = write_agiqa(Path("other"), rows=12)
    both = ["--target", "MOS_q=mos_quality", "--target", "MOS_c=mos_align"]
    results, output = evaluated("runs/nr", "other", *both)
    digits = digest_in(reference_to(Path("runs/nr")))
    assert f"run {digits} (TIER-NR, ridge), tested on all rows of other" in output
    assert "split elsewhere" not in output
    assert "mean ± sd of 2 heads" in output
    assert (
        "0 of 6 test prompts; of 12 test images, 0 are in training, 0 share prompt and generator with"
        in output
    )
    assert not any(words in output for words in ("zero-shot", "seeds", "no head was fitted", "the result is"))
    assert "RMSE needs predictions on the scale of the column (pass --calibrate)" in output
    for repeat in (0, 1):
        assert tier("predict", "runs/nr", "other", "--repeat", str(repeat), "-o", "scores.csv")[0] == 0
        by_target = dict(list(read_scores("scores.csv").set_index("name").groupby("target")["score"]))
        for mine, theirs in (("MOS_q", "mos_quality"), ("MOS_c", "mos_align")):
            predicted, figures = by_target[mine][table["name"]], results.summaries[theirs][results.headline]
            for metric, correlation in (("srcc", spearmanr), ("plcc", pearsonr)):
                stated = vars(figures[metric])["values"][repeat]
                assert stated == pytest.approx(correlation(predicted, table[theirs]).statistic)
            assert np.isnan(figures["rmse"].mean)
    write_report([*Path("judged").iterdir()], Path("report.html"))
    page = Path("report.html").read_text()
    assert (
        "Errors are measured after the logistic of each repeat, as this run was not fitted to these scores"
        in page
    )
    assert 'class="sound">seen in training, mean of 2 heads: 0 of 6 test prompts' in page


def test_a_calibrated_rmse_and_its_interval_are_those_of_the_calibrated_predictions(
    fitted_copy: Path,
) -> None:
    table = write_agiqa(Path("other"), rows=12)
    target = ["--target", "MOS_q=mos_quality"]
    (raw,) = evaluated("runs/nr", "other", *target)[0].summaries.values()
    results, output = evaluated("runs/nr", "other", *target, "--calibrate")
    assert "RMSE is that of predictions mapped linearly to the scores" in output
    assert "SRCC, KRCC and PLCC are those of the unmapped predictions" in output
    (figures,) = results.summaries["mos_quality"].values()
    for metric in ("srcc", "krcc", "plcc", "plcc_logistic", "rmse_logistic"):  # with their intervals
        assert repr(figures[metric]) == repr(raw["elsewhere"][metric])  # repr: NaN does not equal itself
    (folder,) = Path("judged").iterdir()
    predictions = pd.read_csv(folder / "predictions.csv", dtype={"group": str})
    errors, heads = [], []
    for _, rows in predictions.groupby("repeat"):
        x, y = (
            rows[["prediction"]].to_numpy(),
            table.set_index("name")["mos_quality"][rows["name"]].to_numpy(),
        )
        mapped = np.zeros(len(y))
        for fit, apply in GroupKFold(5).split(x, groups=rows["group"]):
            mapped[apply] = LinearRegression().fit(x[fit], y[fit]).predict(x[apply])
        np.testing.assert_allclose(rows["calibrated"], mapped, rtol=1e-9)
        errors.append(math.sqrt(np.mean((y - mapped) ** 2)))
        squares = pd.Series((y - mapped) ** 2).groupby(rows["group"].to_numpy())
        heads.append((squares.sum().to_numpy(), squares.size().to_numpy()))
    assert vars(figures["rmse"])["values"] == pytest.approx(errors, rel=1e-9)
    random = np.random.default_rng(1)
    draws = random.integers(0, 6, (20_000, 6))  # six prompts, drawn with replacement for both heads alike
    means = sum(np.sqrt(sums[draws].sum(1) / sizes[draws].sum(1)) for sums, sizes in heads) / len(heads)
    low, high = figures["rmse"].interval_fitted_heads or (math.nan, math.nan)
    assert low < figures["rmse"].mean < high
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), rel=0.1)
    low, high = figures["rmse"].bounds  # of these heads on infinitely many prompts
    assert low < figures["rmse"].mean < high < 2 * table["mos_quality"].std() + figures["rmse"].mean


def test_the_heads_of_two_repeats_are_two_runs(fitted_copy: Path) -> None:
    write_agiqa(Path("other"), rows=12)
    for repeat in ([], ["--repeat", "0"], ["--repeat", "1"]):
        code, output = tier(
            "evaluate", "runs/nr", "other", "--target", "MOS_q=mos_quality", *repeat, "--out", "judged"
        )
        assert code == 0 and ("one head" in output) == bool(repeat) and "exists already" not in output, output
    runs = [Results.read(path) for path in Path("judged").iterdir()]
    values = {vars(run.summaries["mos_quality"]["elsewhere"]["srcc"])["values"] for run in runs}
    (both,) = (one for one in values if len(one) == 2)
    assert values == {both, both[:1], both[1:]} and both[0] != both[1]


def test_what_each_head_has_seen_in_training_is_counted_by_content(fitted_copy: Path) -> None:
    annotation = pd.read_excel("Dataset/PKU-AIGIQA-4K/annotation.xlsx").set_index("Generated_image")
    splits = json.loads(Path("runs/nr/splits.json").read_text())
    known = annotation.loc[[name for part in ("train", "validation", "test") for name in splits[0][part]]]
    Path("renamed").mkdir()
    lines = []
    for number, (name, row) in enumerate(known.iloc[:6].iterrows()):
        shutil.copy(Path("Dataset/PKU-AIGIQA-4K/All") / str(name), f"renamed/{number}.png")
        lines.append((f"{number}.png", f"  {row['Text_prompt'].upper()} ", str(name).partition("_")[0]))
    save_picture(Path("renamed/new.png"), 12345)
    lines += [("new.png", known["Text_prompt"].iloc[-1], "a new one")]
    save_picture(Path("renamed/newer.png"), 12346)
    lines += [("newer.png", "a prompt that nobody wrote before", "a new one")]
    frame = pd.DataFrame(lines, columns=["image", "prompt", "generator"])
    frame.assign(MOS_q=np.arange(8.0)).to_csv("renamed/table.csv", index=False)
    results, output = evaluated("runs/nr", "renamed")
    for repeat, split in enumerate(splits):
        trained = known.loc[[*split["train"], *split["validation"]]]
        prompts = set(trained["Text_prompt"].str.lower())
        pairs = set(zip(trained["Text_prompt"].str.lower(), trained.index.str.split("_").str[0], strict=True))
        asked = frame["prompt"].str.lower().str.strip()
        assert results.seen_images is not None and results.seen_siblings is not None
        assert results.seen_prompts is not None
        assert results.seen_images[repeat] == known.index[:6].isin(trained.index).sum()
        assert results.seen_prompts[repeat] == len(prompts & set(asked))
        assert results.seen_siblings[repeat] == sum(
            pair in pairs for pair in zip(asked, frame["generator"], strict=True)
        )
    seen = f"{np.mean(results.seen_images):.1f}".removesuffix(".0")
    assert results.leaks and f"of 8 test images, {seen} are in training" in output
    assert "the metrics may be too good" in output
    results, _ = evaluated("runs/nr", "Dataset", "--benchmark", "I2I")  # the very data
    assert results.seen_images == tuple(len(split["train"]) + len(split["validation"]) for split in splits)
    lines = Path("runs/nr/rows.csv").read_text().splitlines()
    trained_name = splits[0]["train"][0]
    others = [line for line in lines if trained_name not in line]
    Path("runs/nr/rows.csv").write_text("\n".join(others) + "\n")
    code, output = tier("evaluate", "runs/nr", "renamed", "--out", "again")
    assert code == 2 and f"it lacks the row {trained_name!r} of splits.json" in " ".join(output.split())
    whole = Path("runs/nr/splits.json").read_text()
    Path("runs/nr/splits.json").write_text("[]")
    code, output = tier("evaluate", "runs/nr", "renamed", "--out", "again")
    assert code == 2 and "it has 0 splits, and there is a head of repeat" in " ".join(output.split())
    Path("runs/nr/splits.json").write_text(whole)
    Path("runs/nr/rows.csv").unlink()
    code, output = tier("evaluate", "runs/nr", "renamed", "--out", "again")
    assert code == 2 and "has no rows.csv: delete runs/nr and run the command" in " ".join(output.split())


def test_what_an_exported_model_has_seen_is_unknown_and_not_zero(fitted_copy: Path) -> None:
    write_agiqa(Path("other"), rows=12)
    assert tier("export", "runs/nr", "model")[0] == 0
    before = set(Path("features").glob("*/signature.json"))
    results, output = evaluated("model", "other", "--target", "MOS_q=mos_quality")
    assert set(Path("features").glob("*/signature.json")) == before
    assert results.seen_images is results.seen_prompts is results.seen_siblings is None and not results.leaks
    assert "leakage is unknown: an exported model does not keep the rows that it was fitted on" in output
    frame = tidy([*Path("judged").iterdir()])
    assert frame["leaked_images"].isna().all() and set(frame["test_images"]) == {12}
    assert "all (leakage unknown)" in latex(frame)
    write_report([*Path("judged").iterdir()], Path("report.html"))
    page = Path("report.html").read_text()
    assert 'class="quiet">leakage is unknown: an exported model' in page  # not green: nothing vouches for it
    assert '<strong class="leaks">leakage unknown</strong>' in page


def test_a_calibration_undoes_scale_and_shift_and_never_sees_the_prompt_it_is_applied_to() -> None:
    random = np.random.default_rng(0)
    group, truth = np.repeat(np.arange(20), 3), random.normal(size=60)
    np.testing.assert_allclose(calibrate(group, truth, 5 - 3 * truth), truth, atol=1e-9)
    noise = random.normal(size=60)
    changed = truth.copy()
    changed[group == 7] += 1000
    inside = group == 7
    np.testing.assert_array_equal(
        calibrate(group, truth, noise)[inside], calibrate(group, changed, noise)[inside]
    )
    with pytest.raises(ProtocolError, match="--calibrate needs at least 2 prompts"):
        calibrate(np.zeros(60), truth, noise)


WRONG = {
    "no common name": (
        [],
        "no target has the name of a score column (the model has MOS_q, MOS_a, MOS_c; other has "
        "mos_quality, mos_align)",
    ),
    "no such target": (["--target", "MOS_x=mos_align"], "there is no target or column 'MOS_x'"),
    "no such column": (["--target", "MOS_q=mos_qualty"], "nearest: mos_quality"),
    "a column twice": (["--target", "MOS_q=mos_align", "--target", "MOS_a=mos_align"], "occurs twice"),
    "a score twice": (["--target", "MOS_q=mos_align", "--target", "MOS_q=mos_quality"], "occurs twice"),
    "no image prompts": (
        ["--benchmark", "I2I", "--target", "MOS_q=mos_align"],
        "no rows with an image prompt",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_comparison_is_told_before_anything_is_written(fitted_copy: Path, what: str) -> None:
    arguments, said = WRONG[what]
    write_agiqa(Path("other"))
    code, output = tier("evaluate", "runs/nr", "other", *arguments, "--out", "judged")
    assert code == 2 and said in " ".join(output.split()), output
    assert not Path("judged").exists()
