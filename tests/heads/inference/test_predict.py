"""`tier predict`: the scores of a run's own test rows, new pictures in every form, nothing encoded twice, and errors that can be mended."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.tests.builders.data import save_picture
from tier4k.tests.builders.golden import fill
from tier4k.tests.heads.commands.test_commands import DATA, tier


def scores(path: str | Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=True)


def names(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(table["name"]))


@pytest.mark.parametrize("run", ["nr", "fr", "pr", "mlp"])
def test_the_test_rows_of_a_run_get_the_scores_of_its_predictions(fitted_copy: Path, run: str) -> None:
    annotation = pd.read_excel(DATA / "annotation.xlsx")
    if run == "fr":
        annotation[annotation["Image_prompt"].notna()].to_excel(DATA / "annotation.xlsx", index=False)
    stated = pd.read_csv(Path("runs") / run / "predictions.csv")
    for repeat, its in stated.groupby("repeat"):
        code, output = tier("predict", f"runs/{run}", "Dataset", "--repeat", str(repeat), "-o", "scores.csv")
        assert code == 0, output
        both = its.merge(scores("scores.csv"), on=["name", "target"])
        assert len(both) == len(its) > 0
        np.testing.assert_allclose(both["score"], both["prediction"], atol=1e-5)


def test_the_score_is_the_mean_of_the_repeats_with_their_deviation_and_interval(fitted_copy: Path) -> None:
    for repeat in (0, 1):
        assert tier("predict", "runs/nr", "Dataset", "--repeat", str(repeat), "-o", f"{repeat}.csv")[0] == 0
    code, output = tier("predict", "runs/nr", "Dataset", "--target", "MOS_q", "-o", "both.jsonl")
    assert code == 0 and "more" not in output, output
    both = [json.loads(line) for line in Path("both.jsonl").read_text().splitlines()]
    single = [scores(f"{repeat}.csv").query("target == 'MOS_q'").set_index("name") for repeat in (0, 1)]
    assert [one["name"] for one in both] == list(single[0].index)
    for one in both:
        values = [table.loc[one["name"], "score"] for table in single]
        assert one["score"] == pytest.approx(np.mean(values))
        assert one["spread"] == pytest.approx(np.std(values, ddof=1))
        assert one["low"] is None and one["high"] is None  # four prompts promise nothing
    assert single[0]["spread"].isna().all()


def test_intervals_have_the_half_width_that_the_run_measured(fitted_copy: Path) -> None:
    record = json.loads(Path("runs/nr/model.json").read_text())
    for number, head in enumerate(head for head in record["heads"] if head["target"] == "MOS_q"):
        head["half_width"] = 0.5 + number
    Path("runs/nr/model.json").write_text(json.dumps(record))
    assert tier("predict", "runs/nr", "Dataset", "--target", "MOS_q", "-o", "scores.json")[0] == 0
    for one in json.loads(Path("scores.json").read_text()):
        assert (one["score"] - one["low"], one["high"] - one["score"]) == pytest.approx((1.0, 1.0))


def test_one_picture_is_scored_alike_in_every_form(fitted_copy: Path) -> None:
    row = pd.read_excel(DATA / "annotation.xlsx").iloc[0]
    picture, guide, prompt = (
        DATA / "All" / row["Generated_image"],
        DATA / "I2I" / "Image_prompt" / row["Image_prompt"],
        row["Text_prompt"],
    )
    folder = Path("new")
    folder.mkdir()
    shutil.copy(picture, folder / "a.png")
    shutil.copy(guide, folder / "guide.png")
    for run, guided in (("nr", []), ("pr", []), ("pr", ["guide.png"]), ("fr", ["guide.png"])):
        option = ["--image-prompt", "new/guide.png"] if guided else []
        assert (
            tier("predict", f"runs/{run}", "new/a.png", "--prompt", f" {prompt}\n", *option, "-o", "one.csv")[
                0
            ]
            == 0
        )
        table = pd.DataFrame(
            {
                "image": ["a.png"],
                "prompt": [prompt],
                "note": ["seen"],
                **({"image_prompt": guided} if guided else {}),
            }
        )
        table.to_excel(folder / "table.xlsx", index=False)
        assert tier("predict", f"runs/{run}", "new/table.xlsx", "-o", "table.csv")[0] == 0
        assert tier("predict", f"runs/{run}", str(folder), "-o", "folder.csv")[0] == 0  # the table in it
        columns = ["target", "score", "spread"]
        pd.testing.assert_frame_equal(scores("one.csv")[columns], scores("table.csv")[columns])
        pd.testing.assert_frame_equal(scores("table.csv"), scores("folder.csv"))
    (folder / "table.xlsx").unlink()
    for name in ("a", "guide"):
        (folder / f"{name}.txt").write_text(f"{prompt}\n")
    assert tier("predict", "runs/nr", str(folder), "-o", "sidecar.csv")[0] == 0
    assert names(scores("sidecar.csv")) == ["a.png", "guide.png"]
    assert tier("predict", "runs/nr", "new/a.png", "--prompt", prompt, "-o", "one.csv")[0] == 0
    np.testing.assert_allclose(
        scores("sidecar.csv").query("name == 'a.png'")["score"], scores("one.csv")["score"]
    )


def test_an_image_prompt_that_changes_nothing_is_told(fitted_copy: Path) -> None:
    save_picture(Path("new.png"), 5, (300, 260))
    new = ["new.png", "--prompt", "x", "--image-prompt", "new.png"]
    told = {run: "changes nothing" in tier("predict", f"runs/{run}", *new)[1] for run in ("nr", "fr", "pr")}
    assert told == {"nr": True, "fr": False, "pr": False}


def test_a_second_head_encodes_nothing_and_needs_no_weights(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_picture(Path("new.png"), 5, (300, 260))
    assert tier("predict", "runs/nr", "new.png", "--prompt", "something new")[0] == 0
    shutil.rmtree("pretrained")
    shutil.rmtree("bert-base-uncased")
    monkeypatch.setattr(ImageNetwork, "forward", None)
    code, output = tier("predict", "runs/mlp", "new.png", "--prompt", "something new")
    assert code == 0 and "encoded" not in output, output


def test_weights_beside_the_data_of_the_run_are_found_from_anywhere(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pretrained", "bert-base-uncased"):
        shutil.move(name, "Dataset")
    elsewhere = fitted_copy.parent / "elsewhere"
    save_picture(elsewhere / "new.png", 5, (300, 260))
    monkeypatch.chdir(elsewhere)
    code, output = tier("predict", str(fitted_copy / "runs" / "nr"), "new.png", "--prompt", "something")
    assert code == 0, output


def other_weights() -> None:
    import timm
    import torch

    torch.save(fill(timm.create_model("resnet18").state_dict(), 1), "pretrained/resnet18.pth")


def damage(path: str, text: str) -> None:
    Path(path).write_text(text)


WRONG = {
    "no run": (["nowhere", "new.png", "--prompt", "x"], lambda: None, "not the folder of a run"),
    "no heads": (
        ["runs/nr", "new.png", "--prompt", "x"],
        lambda: Path("runs/nr/model.json").unlink(),
        "--models all",
    ),
    "no prompt": (["runs/nr", "new.png"], lambda: None, "--prompt TEXT"),
    "blank prompt": (["runs/nr", "new.png", "--prompt", "  "], lambda: None, "--prompt TEXT"),
    "no picture": (["runs/nr", "gone.png", "--prompt", "x"], lambda: None, "there is no gone.png"),
    "not a picture": (
        ["runs/nr", "bad.png", "--prompt", "x"],
        lambda: damage("bad.png", "text"),
        "bad.png: not a picture of the formats",
    ),
    "no image prompt": (["runs/fr", "new.png", "--prompt", "x"], lambda: None, "give --image-prompt FILE"),
    "image prompt gone": (
        ["runs/fr", "new.png", "--prompt", "x", "--image-prompt", "gone.png"],
        lambda: None,
        "no image prompt gone.png",
    ),
    "no such target": (
        ["runs/nr", "new.png", "--prompt", "x", "--target", "MOS_x"],
        lambda: None,
        "choose among MOS_q, MOS_a, MOS_c",
    ),
    "no such repeat": (
        ["runs/nr", "new.png", "--prompt", "x", "--repeat", "7"],
        lambda: None,
        "it kept 0, 1",
    ),
    "no prompts in the folder": (
        ["runs/nr", "folder"],
        lambda: save_picture(Path("folder/a.png"), 1),
        "write them to a.txt",
    ),
    "empty folder": (["runs/nr", "folder"], lambda: Path("folder").mkdir(), "neither a table"),
    "prompt for a table": (
        ["runs/nr", "t.csv", "--prompt", "x"],
        lambda: damage("t.csv", "image,prompt\nnew.png,x\n"),
        "leave out --prompt",
    ),
    "table without prompts": (
        ["runs/nr", "t.csv"],
        lambda: damage("t.csv", "image,text\nnew.png,x\n"),
        "prompt",
    ),
    "two tables": (
        ["runs/nr", "t.csv", "new.png"],
        lambda: damage("t.csv", "image,prompt\n"),
        "give it alone",
    ),
    "other weights": (["runs/nr", "new.png", "--prompt", "x"], other_weights, "weights: fitted on"),
    "no weights": (
        ["runs/nr", "new.png", "--prompt", "x"],
        lambda: shutil.rmtree("pretrained"),
        "pretrained",
    ),
    "unknown ending": (["runs/nr", "new.png", "--prompt", "x", "-o", "scores.txt"], lambda: None, ".csv"),
    "damaged model": (
        ["runs/nr", "new.png", "--prompt", "x"],
        lambda: damage("runs/nr/model.safetensors", "x"),
        "no readable models",
    ),
    "newer model": (
        ["runs/nr", "new.png", "--prompt", "x"],
        lambda: damage("runs/nr/model.json", '{"format": 99}'),
        "this program reads",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_input_gives_a_message_and_encodes_nothing(
    fitted_copy: Path, what: str, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, spoil, said = WRONG[what]
    Image.fromarray(np.full((300, 260, 3), 77, np.uint8)).save("new.png")
    spoil()
    monkeypatch.setattr(ImageNetwork, "forward", None)
    code, output = tier("predict", *arguments)
    assert code == 2 and said in " ".join(output.split()), output
    assert "Traceback" not in output
