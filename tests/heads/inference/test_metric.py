"""The metric object gives the scores of `tier predict` for images in any form; an exported model does too."""

import json
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
from tier4k.tests.builders.commands import DATA, PACKAGE_FOLDER, read_scores, succeed, tier


def rows() -> pd.DataFrame:
    """Return the annotation with the paths of images and image prompts."""
    table = pd.read_excel(DATA / "annotation.xlsx")
    table["image"] = str(DATA / "All") + "/" + table["Generated_image"]
    table["image_prompt"] = str(DATA / "I2I" / "Image_prompt") + "/" + table["Image_prompt"]
    return table


@pytest.mark.parametrize("run", ["nr", "pr", "mlp"])
def test_a_metric_agrees_with_predict(fitted_copy: Path, run: str) -> None:
    table = rows()
    succeed("predict", f"runs/{run}", "Dataset", "-o", "scores.csv")
    expected = read_scores("scores.csv").query("target == 'MOS_a'")["score"].to_numpy()
    metric = load(f"runs/{run}", target="MOS_a")
    image_prompts = [path if isinstance(path, str) else None for path in table["image_prompt"]]
    found = metric.score(table["image"].tolist(), table["Text_prompt"].tolist(), image_prompts)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    single = metric.score(table["image"][0], table["Text_prompt"][0], image_prompts[0])
    assert isinstance(single, float)
    assert single == pytest.approx(expected[0], abs=1e-4)


def test_an_image_has_the_same_score_in_every_form(fitted_copy: Path) -> None:
    path = rows()["image"][0]
    prompt = "a thing"
    image = Image.open(path)
    array = np.array(image.convert("RGB"))
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    metric = load("runs/nr", target="MOS_q")
    expected = metric.score(path, prompt)
    forms = (
        Path(path),
        image,
        image.convert("RGBA"),
        array,
        array / 255,
        tensor,
        tensor.float() / 255,
        tensor.double() / 255,
    )
    for form in forms:
        assert metric(form, prompt) == pytest.approx(expected, abs=1e-5)
    for several in ([path, image], np.stack([array, array]), torch.stack([tensor, tensor])):
        np.testing.assert_allclose(metric.score(several, prompt), [expected] * 2, atol=1e-5)


def test_a_turned_transparent_image_has_the_same_score_in_every_form(fitted_copy: Path) -> None:
    image = Image.open(rows()["image"][0]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    seen = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    orientation = Image.Exif()
    orientation[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save("phone.png", exif=orientation)
    array = np.array(image)
    metric = load("runs/nr", target="MOS_q")
    expected = metric.score(seen, "a thing")
    assert metric.score(image.convert("RGB"), "a thing") != pytest.approx(expected, abs=1e-4)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for form in ("phone.png", Image.open("phone.png"), image, array, array / 255, tensor, tensor / 255):
        assert metric.score(form, "a thing") == pytest.approx(expected, abs=2e-5)


def test_the_table_of_a_metric_has_every_target(fitted_copy: Path) -> None:
    path = rows()["image"][0]
    table = load("runs/nr").table(path, "a thing")
    assert table["target"].tolist() == ["MOS_q", "MOS_a", "MOS_c"]
    assert table["name"].tolist() == [path] * 3
    expected = load("runs/nr", target="MOS_q").score(path, "a thing")
    assert table["score"][0] == pytest.approx(expected, abs=1e-5)


def test_an_image_that_occurs_twice_keeps_its_place(fitted_copy: Path) -> None:
    first, second = rows()["image"][:2]
    metric = load("runs/nr", target="MOS_q")
    single = [metric.score(first, "x"), metric.score(second, "x")]
    found = metric.score([second, first, second], "x")
    np.testing.assert_allclose(found, [single[1], single[0], single[1]], atol=1e-5)


def score(image: object, prompt: object = "x", image_prompt: object = None) -> object:
    return load("runs/nr").score(image, prompt, image_prompt, target="MOS_q")


WRONG = {
    "target": (lambda path: load("runs/nr").score(path, "x"), "one of MOS_q, MOS_a, MOS_c"),
    "prompt": (lambda path: score(path, " "), "is not a text prompt"),
    "no prompt": (lambda path: score(path, None), "None is not a text prompt"),
    "file": (lambda _: score("gone.png"), "gone.png: the file cannot be read"),
    "type": (lambda _: score(5), "int is not an image"),
    "shape": (lambda _: score(np.zeros((3, 8, 9))), r"shape \(3, 8, 9\)"),
    "tensor": (lambda _: score(torch.zeros(8, 9, 3)), r"pass one of shape \(3, H, W\)"),
    "range": (lambda _: score(np.full((8, 8, 3), 200.0)), "divide the pixels by 255"),
    "integers": (lambda _: score(np.zeros((8, 8, 3), int)), "int64"),
    "lengths": (lambda path: score([path, path], ["x"]), "1 prompts for 2 images"),
    "image prompts": (lambda path: score([path, path], "x", [None]), "1 image prompts for 2 images"),
    "none": (lambda _: score([], []), "empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_is_rejected_with_what_is_expected(
    fitted_project: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(fitted_project)
    call, expected = WRONG[case]
    with pytest.raises(TierError, match=expected):
        call(rows()["image"][0])


def test_full_reference_requires_every_image_prompt(
    fitted_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fitted_project)
    metric = load("runs/fr", target="MOS_q")
    path = rows()["image"][0]
    with pytest.raises(TierError, match="full reference"):
        metric.score([path, path], "x", [path, None])
    assert np.isfinite(metric.score(path, "x", path))


OFFLINE = """
import socket, sys
socket.socket.connect = None
import tier4k
metric = tier4k.load("model", target="MOS_q")
print(repr(metric.score(sys.argv[1], "a thing", sys.argv[1])))
"""


def score_offline(image: str) -> float:
    """Return the score of an image by the folder `model`, from a process without a network."""
    environment = {"PYTHONPATH": str(PACKAGE_FOLDER), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", OFFLINE, image]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("run", ["nr", "fr", pytest.param("pr", marks=pytest.mark.slow)])
def test_an_exported_model_gives_the_same_scores_in_another_place(
    fitted_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    image = rows()["image"][0]
    prompt = ["--prompt", "a thing"]
    succeed("predict", f"runs/{run}", image, *prompt, "--image-prompt", image, "-o", "before.csv")
    succeed("export", f"runs/{run}", "out/model")
    before = read_scores("before.csv")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree("out", elsewhere)
    shutil.copy(image, elsewhere / "a.png")
    fitted_copy.rename(tmp_path / "gone")
    monkeypatch.chdir(elsewhere)
    if run == "pr":
        assert score_offline("a.png") == pytest.approx(before["score"][0], abs=1e-5)
    succeed("predict", "model", "a.png", *prompt, "--image-prompt", "a.png", "-o", "after.csv")
    columns = ["target", "score", "low", "high", "spread"]
    pd.testing.assert_frame_equal(before[columns], read_scores("after.csv")[columns], atol=1e-5)


def test_an_exported_model_has_the_hubs_layout_and_can_be_saved_again(fitted_copy: Path) -> None:
    image = rows()["image"][0]
    load("runs/nr").save_pretrained("first")
    files = {"config.json", "model.safetensors", "README.md", "encoders"}
    assert {path.name for path in Path("first").iterdir()} == files
    Metric.from_pretrained("first", target="MOS_c").save_pretrained("second")
    expected = load("runs/nr", target="MOS_c")(image, "x")
    assert Metric.from_pretrained("second")(image, "x") == pytest.approx(expected, abs=1e-5)


def test_a_model_card_names_data_split_encoders_and_limits(fitted_copy: Path) -> None:
    load("runs/nr").save_pretrained("model")
    card = Path("model/README.md").read_text()
    assert "fitted on PKU-AIGIQA-4K" in card or "fitted on Dataset" in card
    assert "split `random`" in card
    assert "- Image encoder: resnet18, " in card
    assert "preprocessing: reference" in card
    assert "| target | SRCC | PLCC | RMSE |" in card
    assert 'tier4k.load("this folder", target="MOS_q")' in card
    assert "## Limits" in card


def test_an_export_never_overwrites(fitted_copy: Path) -> None:
    succeed("export", "runs/nr", "model", "--target", "MOS_q", "--repeat", "1")
    code, output = tier("export", "runs/nr", "model")
    assert code == 2
    assert "exists already" in output
    heads = json.loads(Path("model/config.json").read_text())["heads"]
    assert [entry["repeat"] for entry in heads] == [1]


def test_a_changed_file_of_an_exported_model_is_noticed(fitted_copy: Path) -> None:
    succeed("export", "runs/nr", "model")
    weights = Path("model/encoders/image.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, output = tier("predict", "model", rows()["image"][0], "--prompt", "new")
    assert code == 2
    assert "weights: the heads were fitted on" in output
