"""`tier predict`: a run's own test rows, new images in every form, nothing encoded twice, helpful errors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.tests.builders.commands import DATA, assert_scores_are, on_one_line, read_scores, succeed, tier
from tier4k.tests.builders.data import save_picture
from tier4k.tests.builders.golden import fill


@pytest.mark.parametrize("run", ["nr", "fr", "pr", "mlp"])
def test_the_test_rows_of_a_run_get_the_scores_of_its_predictions(fitted_copy: Path, run: str) -> None:
    annotation = pd.read_excel(DATA / "annotation.xlsx")
    if run == "fr":
        annotation[annotation["Image_prompt"].notna()].to_excel(DATA / "annotation.xlsx", index=False)
    predictions = pd.read_csv(Path("runs") / run / "predictions.csv")
    for repeat, expected in predictions.groupby("repeat"):
        succeed("predict", f"runs/{run}", "Dataset", "--repeat", str(repeat), "-o", "scores.csv")
        assert_scores_are(read_scores("scores.csv"), expected)


def test_the_score_is_the_mean_of_the_repeats_with_their_spread_and_interval(fitted_copy: Path) -> None:
    predict = ["predict", "runs/nr", "Dataset", "--target", "MOS_q"]
    single = []
    for repeat in ("0", "1"):
        succeed(*predict, "--repeat", repeat, "-o", "single.csv")
        single.append(read_scores("single.csv").set_index("name"))
    assert "more" not in succeed(*predict, "-o", "both.jsonl")
    both = [json.loads(line) for line in Path("both.jsonl").read_text().splitlines()]
    assert [entry["name"] for entry in both] == list(single[0].index)
    for entry in both:
        values = [table.loc[entry["name"], "score"] for table in single]
        assert entry["score"] == pytest.approx(np.mean(values))
        assert entry["spread"] == pytest.approx(np.std(values, ddof=1))
        assert entry["low"] is None  # four prompts are too few for an interval
        assert entry["high"] is None
    assert single[0]["spread"].isna().all()


def test_intervals_have_the_half_width_that_the_run_measured(fitted_copy: Path) -> None:
    record = json.loads(Path("runs/nr/model.json").read_text())
    heads = [head for head in record["heads"] if head["target"] == "MOS_q"]
    for number, head in enumerate(heads):
        head["half_width"] = 0.5 + number
    Path("runs/nr/model.json").write_text(json.dumps(record))
    succeed("predict", "runs/nr", "Dataset", "--target", "MOS_q", "-o", "scores.json")
    for entry in json.loads(Path("scores.json").read_text()):
        assert entry["score"] - entry["low"] == pytest.approx(1.0)
        assert entry["high"] - entry["score"] == pytest.approx(1.0)


FORMS = [
    ("nr", False),
    ("pr", False),
    ("pr", True),
    ("fr", True),
]


def first_row_in_folder(folder: Path) -> str:
    """Copy the first row's image and image prompt to a.png and guide.png; return its text prompt."""
    row = pd.read_excel(DATA / "annotation.xlsx").iloc[0]
    folder.mkdir()
    shutil.copy(DATA / "All" / row["Generated_image"], folder / "a.png")
    shutil.copy(DATA / "I2I" / "Image_prompt" / row["Image_prompt"], folder / "guide.png")
    return row["Text_prompt"]


def test_an_image_has_the_same_score_alone_in_a_table_and_in_a_folder(fitted_copy: Path) -> None:
    folder = Path("new")
    prompt = first_row_in_folder(folder)
    columns = ["target", "score", "spread"]
    for run, with_image_prompt in FORMS:
        options = ["--image-prompt", "new/guide.png"] if with_image_prompt else []
        row = {"image": "a.png", "prompt": prompt, "note": "seen"}
        if with_image_prompt:
            row["image_prompt"] = "guide.png"
        pd.DataFrame([row]).to_excel(folder / "table.xlsx", index=False)
        predict = ["predict", f"runs/{run}"]
        succeed(*predict, "new/a.png", "--prompt", f" {prompt}\n", *options, "-o", "one.csv")
        succeed(*predict, "new/table.xlsx", "-o", "table.csv")
        succeed(*predict, str(folder), "-o", "folder.csv")  # the table in it
        pd.testing.assert_frame_equal(read_scores("one.csv")[columns], read_scores("table.csv")[columns])
        pd.testing.assert_frame_equal(read_scores("table.csv"), read_scores("folder.csv"))


def test_prompts_may_lie_beside_the_images_of_a_folder(fitted_copy: Path) -> None:
    folder = Path("new")
    prompt = first_row_in_folder(folder)
    for name in ("a", "guide"):
        (folder / f"{name}.txt").write_text(f"{prompt}\n")
    succeed("predict", "runs/nr", str(folder), "-o", "folder.csv")
    table = read_scores("folder.csv")
    assert list(table["name"].unique()) == ["a.png", "guide.png"]
    succeed("predict", "runs/nr", "new/a.png", "--prompt", prompt, "-o", "one.csv")
    found = table.query("name == 'a.png'")["score"]
    np.testing.assert_allclose(found, read_scores("one.csv")["score"])


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_an_image_without_a_prompt_is_in_the_output_with_the_reason(fitted_copy: Path, suffix: str) -> None:
    first_row_in_folder(Path("new"))
    Path("new/guide.txt").write_text("x")
    output = f"new/scores{suffix}"
    printed = succeed("predict", "runs/nr", "new", "-o", output)
    assert "Left out: a.png: there is no prompt file a.txt" in printed
    if suffix == ".csv":
        lines = pd.read_csv(output).to_dict("records")
    else:
        lines = pd.read_json(output, lines=suffix == ".jsonl").to_dict("records")
    scores = {(line["name"], line["target"]): line["score"] for line in lines}
    targets = ("MOS_q", "MOS_a", "MOS_c")
    assert set(scores) == {(name, target) for name in ("a.png", "guide.png") for target in targets}
    assert {line["reason"] for line in lines if line["name"] == "a.png"} == {"there is no prompt file a.txt"}
    assert all(np.isnan(score) == (name == "a.png") for (name, _), score in scores.items())
    assert f"Not read: scores{suffix}" in succeed("predict", "runs/nr", "new")


@pytest.mark.parametrize("one_by_one", [False, True])
def test_an_image_that_cannot_be_decoded_ends_the_command_or_is_skipped_with_the_reason(
    fitted_copy: Path, one_by_one: bool
) -> None:
    prompt = first_row_in_folder(Path("new"))
    for name in ("a", "guide", "z"):
        Path(f"new/{name}.txt").write_text(prompt)
    Path("new/z.png").write_text("no image")
    inputs = ["new/a.png", "new/guide.png", "new/z.png"] if one_by_one else ["new"]
    predict = ["predict", "runs/nr", *inputs, "--target", "MOS_q", "-o", "scores.csv"]
    code, output = tier(*predict)
    assert code == 2
    assert "z.png" in output
    assert not Path("scores.csv").exists()
    succeed(*predict, "--on-error", "skip")
    scores = pd.read_csv("scores.csv").set_index(pd.Index(["a", "guide", "z"]))
    assert scores["score"].notna().tolist() == [True, True, False]
    assert "not an image" in scores.loc["z", "reason"]


@pytest.mark.parametrize(("run", "ignored"), [("nr", True), ("fr", False), ("pr", False)])
def test_an_image_prompt_that_the_heads_do_not_use_is_reported(
    fitted_copy: Path, run: str, ignored: bool
) -> None:
    save_picture(Path("new.png"), 5, (300, 260))
    output = succeed("predict", f"runs/{run}", "new.png", "--prompt", "x", "--image-prompt", "new.png")
    assert ("--image-prompt has no effect" in output) == ignored


def test_a_second_head_encodes_nothing_and_needs_no_weights(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_picture(Path("new.png"), 5, (300, 260))
    succeed("predict", "runs/nr", "new.png", "--prompt", "something new")
    shutil.rmtree("pretrained")
    shutil.rmtree("bert-base-uncased")
    monkeypatch.setattr(ImageNetwork, "forward", None)
    output = succeed("predict", "runs/mlp", "new.png", "--prompt", "something new")
    assert "encoded" not in output


def test_weights_beside_the_data_of_the_run_are_found_from_anywhere(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pretrained", "bert-base-uncased"):
        shutil.move(name, "Dataset")
    elsewhere = fitted_copy.parent / "elsewhere"
    save_picture(elsewhere / "new.png", 5, (300, 260))
    monkeypatch.chdir(elsewhere)
    succeed("predict", str(fitted_copy / "runs" / "nr"), "new.png", "--prompt", "something")


def write_other_weights() -> None:
    weights = fill(timm.create_model("resnet18").state_dict(), 1)
    torch.save(weights, "pretrained/resnet18.pth")


def write(path: str, text: str) -> Callable[[], object]:
    return lambda: Path(path).write_text(text)


def nothing() -> None:
    """Leave the project as it is."""


IMAGE = ["new.png", "--prompt", "x"]
TABLE = "image,prompt\nnew.png,x\n"
WRONG = {
    "no run": (["nowhere", *IMAGE], nothing, "not the folder of a run"),
    "no heads": (["runs/nr", *IMAGE], lambda: Path("runs/nr/model.json").unlink(), "--models all"),
    "no prompt": (["runs/nr", "new.png"], nothing, "--prompt TEXT"),
    "blank prompt": (["runs/nr", "new.png", "--prompt", "  "], nothing, "--prompt TEXT"),
    "no picture": (["runs/nr", "gone.png", "--prompt", "x"], nothing, "there is no gone.png"),
    "not an image": (
        ["runs/nr", "bad.png", "--prompt", "x"],
        write("bad.png", "text"),
        "the file is not an image of the formats",
    ),
    "no image prompt": (["runs/fr", *IMAGE], nothing, "pass --image-prompt FILE"),
    "image prompt gone": (
        ["runs/fr", *IMAGE, "--image-prompt", "gone.png"],
        nothing,
        "no image prompt gone.png",
    ),
    "no such target": (["runs/nr", *IMAGE, "--target", "MOS_x"], nothing, "pass one of MOS_q, MOS_a, MOS_c"),
    "no such repeat": (["runs/nr", *IMAGE, "--repeat", "7"], nothing, "pass one of 0, 1"),
    "weights of a scorer": (["runs/nr", *IMAGE, "--weights", "x"], nothing, "this run has heads"),
    "no prompts in the folder": (
        ["runs/nr", "folder"],
        lambda: save_picture(Path("folder/a.png"), 1),
        "there is no prompt file a.txt",
    ),
    "empty folder": (["runs/nr", "folder"], lambda: Path("folder").mkdir(), "neither a table"),
    "prompt for a table": (
        ["runs/nr", "t.csv", "--prompt", "x"],
        write("t.csv", TABLE),
        "do not pass --prompt",
    ),
    "table without prompts": (["runs/nr", "t.csv"], write("t.csv", "image,words\nnew.png,x\n"), "prompt"),
    "two tables": (["runs/nr", "t.csv", "new.png"], write("t.csv", "image,prompt\n"), "pass only this table"),
    "other weights": (["runs/nr", *IMAGE], write_other_weights, "weights: the heads were fitted on"),
    "no weights": (["runs/nr", *IMAGE], lambda: shutil.rmtree("pretrained"), "pretrained"),
    "unknown ending": (["runs/nr", *IMAGE, "-o", "scores.txt"], nothing, ".csv"),
    "ending in capitals": (["runs/nr", *IMAGE, "-o", "scores.CSV"], nothing, ".csv"),
    "damaged model": (["runs/nr", *IMAGE], write("runs/nr/model.safetensors", "x"), "no readable heads"),
    "newer model": (
        ["runs/nr", *IMAGE],
        write("runs/nr/model.json", '{"format": 99}'),
        "this version of tier4k reads",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_rejected_with_a_remedy_and_nothing_is_encoded(
    fitted_copy: Path, case: str, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, spoil, expected = WRONG[case]
    Image.fromarray(np.full((300, 260, 3), 77, np.uint8)).save("new.png")
    spoil()
    monkeypatch.setattr(ImageNetwork, "forward", None)
    code, output = tier("predict", *arguments)
    assert code == 2, output
    assert expected in on_one_line(output)
    assert "Traceback" not in output
