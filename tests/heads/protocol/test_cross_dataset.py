"""A model on another data set: the figures are those of its predictions, scales are told apart, and what was
seen before is said.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from tier4k.heads.protocol.cross_dataset import ProtocolError, calibrate
from tier4k.heads.reporting.html.page import write_report
from tier4k.heads.results.results import Results
from tier4k.tests.builders.data import write_agiqa
from tier4k.tests.heads.commands.test_commands import tier
from tier4k.tests.heads.inference.test_predict import scores


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
    assert "TIER-NR, ridge of nr, fitted elsewhere, on all rows of other, split elsewhere" in output
    assert "mean ± sd of 2 heads" in output and "were fitted in another run" in output
    assert not any(words in output for words in ("zero-shot", "seeds", "no head was fitted", "the result is"))
    assert "NaN, RMSE needs predictions on the scale of the column" in output
    for repeat in (0, 1):
        assert tier("predict", "runs/nr", "other", "--repeat", str(repeat), "-o", "scores.csv")[0] == 0
        by_target = dict(list(scores("scores.csv").set_index("name").groupby("target")["score"]))
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
    assert (
        'class="quiet">leakage is unknown: the heads were fitted in another run' in page
    )  # nothing vouches for it, so that it is not green
    calibrated, _ = evaluated("runs/nr", "other", *both, "--calibrate")
    for target, summaries in calibrated.summaries.items():
        assert 0 < summaries[calibrated.headline]["rmse"].mean < 2 * table[target].std()
        # repr: one test part has no spread over splits, and NaN does not equal itself
        assert repr(summaries[calibrated.headline]["srcc"]) == repr(
            results.summaries[target][results.headline]["srcc"]
        )


def test_the_heads_of_two_repeats_are_two_runs(fitted_copy: Path) -> None:
    write_agiqa(Path("other"), rows=12)
    for repeat in ([], ["--repeat", "0"], ["--repeat", "1"]):
        code, output = tier(
            "evaluate", "runs/nr", "other", "--target", "MOS_q=mos_quality", *repeat, "--out", "judged"
        )
        assert code == 0 and ("one head " in output) == bool(repeat) and "exists already" not in output, (
            output
        )
    runs = [Results.read(path) for path in Path("judged").iterdir()]
    values = {vars(run.summaries["mos_quality"]["elsewhere"]["srcc"])["values"] for run in runs}
    (both,) = (one for one in values if len(one) == 2)
    assert values == {both, both[:1], both[1:]} and both[0] != both[1]


def test_what_the_model_was_fitted_on_is_known_again_by_content(fitted_copy: Path) -> None:
    annotation = pd.read_excel("Dataset/PKU-AIGIQA-4K/annotation.xlsx")
    pictures = Path("Dataset/PKU-AIGIQA-4K/All")
    Path("renamed").mkdir()
    for number, name in enumerate(annotation["Generated_image"][:3]):
        shutil.copy(pictures / name, f"renamed/{number}.png")
    frame = pd.DataFrame(
        {"image": [f"{number}.png" for number in range(3)], "prompt": "new", "MOS_q": [1.0, 2.0, 3.0]}
    )
    frame.to_csv("renamed/table.csv", index=False)
    record = next(Path("features/datasets").glob("*.npz"))
    with np.load(record) as file:
        about = json.loads(str(file["about"])) | {"data": str(Path("Dataset/PKU-AIGIQA-4K").resolve())}
        np.savez_compressed(
            record,
            about=np.array(json.dumps(about)),
            **{name: file[name] for name in file.files if name != "about"},
        )
    _, output = evaluated("runs/nr", "renamed")
    assert "3 images and 0 prompts are also in the data set that the model was fitted on" in output
    record.unlink()
    _, output = evaluated("runs/nr", "Dataset", "--benchmark", "I2I")
    assert "in the data set that the model was fitted on" in output  # the very data need no record
    _, output = evaluated("runs/nr", "renamed")
    assert "may have been fitted on some of the rows" in output


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
