"""The metric object scores what `tier predict` scores, in whatever form a picture comes, and an exported model does so anywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tier4k import Metric, load
from tier4k.cache.errors import TierError
from tier4k.tests.heads.commands.test_commands import DATA, tier
from tier4k.tests.heads.inference.test_predict import scores

ROOT = Path(__file__).parents[3]


def rows() -> pd.DataFrame:
    table = pd.read_excel(DATA / "annotation.xlsx")
    table["image"] = [str(DATA / "All" / name) for name in table["Generated_image"]]
    guides = table["Image_prompt"]
    table["guide"] = [
        str(DATA / "I2I" / "Image_prompt" / name) if isinstance(name, str) else None for name in guides
    ]
    return table


@pytest.mark.parametrize("run", ["nr", "pr", "mlp"])
def test_a_metric_agrees_with_predict(fitted_copy: Path, run: str) -> None:
    table = rows()
    code, output = tier("predict", f"runs/{run}", "Dataset", "-o", "scores.csv")
    assert code == 0, output
    expected = scores("scores.csv").query("target == 'MOS_a'")["score"].to_numpy()
    metric = load(f"runs/{run}", target="MOS_a")
    guides = [guide if isinstance(guide, str) else None for guide in table["guide"]]
    found = metric.score(table["image"].tolist(), table["Text_prompt"].tolist(), guides)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    one = metric.score(table["image"][0], table["Text_prompt"][0], guides[0])
    assert isinstance(one, float) and one == pytest.approx(expected[0], abs=1e-4)


def test_the_form_of_a_picture_does_not_matter(fitted_copy: Path) -> None:
    path, prompt = rows()["image"][0], "a thing"
    picture = Image.open(path)
    array = np.array(picture.convert("RGB"))
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    metric = load("runs/nr", target="MOS_q")
    expected = metric.score(path, prompt)
    for form in (
        Path(path),
        picture,
        picture.convert("RGBA"),
        array,
        array / 255,
        tensor,
        tensor.float() / 255,
        tensor.double() / 255,
    ):
        assert metric(form, prompt) == pytest.approx(expected, abs=1e-5)
    for several in ([path, picture], np.stack([array, array]), torch.stack([tensor, tensor])):
        np.testing.assert_allclose(metric.score(several, prompt), [expected] * 2, atol=1e-5)
    table = load("runs/nr").table(path, prompt)
    assert table["target"].tolist() == ["MOS_q", "MOS_a", "MOS_c"]
    assert table["score"][0] == pytest.approx(expected, abs=1e-5)


WRONG = {
    "target": (lambda metric, path: metric.score(path, "x"), "choose one of MOS_q, MOS_a, MOS_c"),
    "prompt": (lambda metric, path: metric.score(path, " ", target="MOS_q"), "no text prompt"),
    "no prompt": (lambda metric, path: metric.score(path, None, target="MOS_q"), "None is no text prompt"),
    "file": (lambda metric, _: metric.score("gone.png", "x", target="MOS_q"), "gone.png: cannot be read"),
    "type": (lambda metric, _: metric.score(5, "x", target="MOS_q"), "int is no picture"),
    "shape": (lambda metric, _: metric.score(np.zeros((3, 8, 9)), "x", target="MOS_q"), r"shape \(3, 8, 9\)"),
    "tensor": (
        lambda metric, _: metric.score(torch.zeros(8, 9, 3), "x", target="MOS_q"),
        r"expected \(3, H, W\)",
    ),
    "range": (
        lambda metric, _: metric.score(np.full((8, 8, 3), 200.0), "x", target="MOS_q"),
        "divide by 255",
    ),
    "integers": (lambda metric, _: metric.score(np.zeros((8, 8, 3), int), "x", target="MOS_q"), "int64"),
    "lengths": (
        lambda metric, path: metric.score([path, path], ["x"], target="MOS_q"),
        "1 prompts for 2 pictures",
    ),
    "none": (lambda metric, _: metric.score([], [], target="MOS_q"), "empty"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_says_what_was_expected(
    fitted_project: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(fitted_project)
    call, said = WRONG[what]
    with pytest.raises(TierError, match=said):
        call(load("runs/nr"), rows()["image"][0])


def test_full_reference_asks_for_every_image_prompt(
    fitted_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fitted_project)
    metric, path = load("runs/fr", target="MOS_q"), rows()["image"][0]
    with pytest.raises(TierError, match="full reference"):
        metric.score([path, path], "x", [path, None])
    assert np.isfinite(metric.score(path, "x", path))


ELSEWHERE = """
import socket, sys
socket.socket.connect = None  # offline
from tier4k import load
metric = load("model", target="MOS_q")
print(repr(metric.score(sys.argv[1], "a thing", sys.argv[1])))
"""


@pytest.mark.parametrize("run", ["nr", "fr", pytest.param("pr", marks=pytest.mark.slow)])
def test_an_exported_model_scores_alike_where_nothing_else_is(
    fitted_copy: Path, tmp_path: Path, run: str
) -> None:
    picture = rows()["image"][0]
    new = [picture, "--prompt", "a thing", "--image-prompt", picture, "-o"]
    assert tier("predict", f"runs/{run}", *new, "before.csv")[0] == 0
    code, output = tier("export", f"runs/{run}", "out/model")
    assert code == 0, output
    before, elsewhere = scores("before.csv"), tmp_path / "elsewhere"
    shutil.copytree("out", elsewhere)
    shutil.copy(picture, elsewhere / "a.png")
    fitted_copy.rename(tmp_path / "gone")
    os.chdir(elsewhere)
    if run == "pr":
        command = [sys.executable, "-c", ELSEWHERE, "a.png"]
        environment = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert float(done.stdout) == pytest.approx(before["score"][0], abs=1e-5), done.stderr
    code, output = tier(
        "predict", "model", "a.png", "--prompt", "a thing", "--image-prompt", "a.png", "-o", "after.csv"
    )
    assert code == 0, output
    columns = ["target", "score", "low", "high", "spread"]
    pd.testing.assert_frame_equal(before[columns], scores("after.csv")[columns], atol=1e-5)


def test_the_layout_is_the_hubs_and_a_model_can_be_saved_again(fitted_copy: Path) -> None:
    picture = rows()["image"][0]
    load("runs/nr").save_pretrained("first")
    assert {path.name for path in Path("first").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "encoders",
    }
    again = Metric.from_pretrained("first", target="MOS_c")
    again.save_pretrained("second")
    assert Metric.from_pretrained("second")(picture, "x") == pytest.approx(
        load("runs/nr", target="MOS_c")(picture, "x"), abs=1e-5
    )
    card = Path("second/README.md").read_text()
    assert "Dataset" in card or "PKU" in card
    assert "split `random`" in card and "SRCC" in card and "Limits" in card


def test_an_export_never_overwrites_and_a_changed_file_is_noticed(fitted_copy: Path) -> None:
    assert tier("export", "runs/nr", "model", "--target", "MOS_q", "--repeat", "1")[0] == 0
    code, output = tier("export", "runs/nr", "model")
    assert code == 2 and "is there already" in output
    assert [entry["repeat"] for entry in json.loads(Path("model/config.json").read_text())["heads"]] == [1]
    weights = Path("model/encoders/image.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, output = tier("predict", "model", rows()["image"][0], "--prompt", "new")
    assert code == 2 and "weights: fitted on" in output
