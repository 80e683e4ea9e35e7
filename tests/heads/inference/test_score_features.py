"""Heads with scores as features predict, are evaluated and exported; given scores come from a file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from tier4k import load
from tier4k.cache.listing import stores
from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.plugins.find import PluginError
from tier4k.heads.data.features import load_features
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import on_one_line, read_scores, succeed, tier
from tier4k.tests.builders.data import write_state, write_table
from tier4k.tests.builders.scorers import SIDE, write_clip

pytestmark = pytest.mark.slow

ROWS = 24
ENCODER = ["--image-encoder", "timm:test_resnet"]
READING = ["--workers", "0", "--device", "cpu"]
PLUGIN = "my_scorers:Red"
MODULE = """
class Red:
    name = "red"
    version = "1"
    reads_prompts = False

    def __call__(self, images, prompts):
        return images[:, 0].mean(dim=(1, 2))


class Words:
    name = "words"
    version = "2"

    def __call__(self, images, prompts):
        return [float(len(prompt.split())) for prompt in prompts]


class TwoValues(Red):
    name = "two"

    def __call__(self, images, prompts):
        return images.mean(dim=(2, 3))
"""


def names(first: int = 0) -> list[str]:
    return [f"{('MJ', 'SD')[row % 2]}_{row}.png" for row in range(first, first + ROWS)]


def table(path: Path, first: int, seed: int) -> Path:
    frame = pd.DataFrame(
        {
            "image": names(first),
            "prompt": [" ".join(["word"] * (1 + (row + first) // 2)) for row in range(ROWS)],
            "mos": np.random.default_rng(seed).uniform(0, 5, ROWS),
        }
    )
    return write_table(path, frame)


def musiq(first: int) -> np.ndarray:
    return np.random.default_rng(first).normal(50, 10, ROWS).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: two data sets, weights, stores, two runs."""
    folder = tmp_path_factory.mktemp("score_features")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        Path("my_scorers.py").write_text(MODULE)
        table(Path("data/t.csv"), 0, 0)
        table(Path("new/t.csv"), 100, 1)
        write_state("test_resnet", Path("pretrained/test_resnet.pth"))
        write_clip(Path("clip-vit-large-patch14"))
        for first, file in ((0, "theirs.csv"), (100, "new.csv")):
            pd.DataFrame({"name": names(first), "musiq": musiq(first), "other": 1.0}).to_csv(
                file, index=False
            )
        succeed("extract", "data/t.csv", *ENCODER, "--streams", "image", *READING)
        for scorer in ("clipscore", PLUGIN, "my_scorers:Words"):
            succeed("score", "data/t.csv", "--scorer", scorer, "--repeats", "2", *READING)
        succeed("score", "data/t.csv", "--scores", "theirs.csv", "--name", "MUSIQ", "--repeats", "2")
        fit("computed", "words,clipscore,red")
        fit("given", "MUSIQ")
    return folder


def fit(name: str, scorers: str) -> None:
    heads = ["--streams", "image", "--head", "ridge", "--repeats", "2", "--out", "out"]
    succeed("fit-head", "data/t.csv", *ENCODER, *heads, "--score-features", scorers)
    next(Path("out").iterdir()).rename(name)


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def clip_scores(data: pd.DataFrame, folder: Path) -> np.ndarray:
    """CLIPScore by Hugging Face's classes: the pictures of the builder are cropped to the square by PIL."""
    model = CLIPModel.from_pretrained("clip-vit-large-patch14").eval()
    tokenizer = CLIPTokenizer.from_pretrained("clip-vit-large-patch14")
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    import torch

    scores = []
    for name, prompt in zip(data["image"], data["prompt"], strict=True):
        image = Image.open(folder / name).convert("RGB")
        scale = SIDE / min(image.size)
        image = image.resize([int(side * scale) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - SIDE) // 2 for side in image.size)
        pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE))) / 255
        batch = torch.from_numpy(((pixels - mean) / std).transpose(2, 0, 1)[None]).float()
        tokens = tokenizer([prompt], return_tensors="pt", truncation=True, max_length=77)
        with torch.inference_mode():
            outputs = model(pixel_values=batch, **tokens)
        cosine = torch.nn.functional.cosine_similarity(outputs.image_embeds, outputs.text_embeds)
        scores.append(float(cosine))
    return np.array(scores)


def direct(run: str, data: Path, zero_shot: np.ndarray) -> np.ndarray:
    """Predictions of a run's heads from stored image features and scores that this test computed."""
    manifest = check(data).manifest
    images = [store for store in stores(Path("features")) if store.signature.stream == "image"]
    features = load_features(manifest, FeatureStores.of(images), inputs=("image",))
    predicted = read_model(Path(run)).predict(replace(features, zero_shot=zero_shot.astype(np.float32)))
    return np.mean(list(predicted.values()), axis=0)


def computed(data: Path) -> np.ndarray:
    frame = pd.read_csv(data)
    red = [
        np.asarray(Image.open(data.parent / name).convert("RGB"))[..., 0].mean() / 255
        for name in frame["image"]
    ]
    words = [len(prompt.split()) for prompt in frame["prompt"]]
    return np.stack([words, clip_scores(frame, data.parent), red], axis=1)


def test_new_images_are_scored_with_the_scores_of_their_pairs_in_every_way(folder: Path) -> None:
    trust = ["--trust", PLUGIN, "--trust", "my_scorers.Words"]
    succeed("predict", "computed", "new/t.csv", *trust, *READING, "-o", "stored.csv")
    expected = direct("computed", Path("new/t.csv"), computed(Path("new/t.csv")))
    succeed("predict", "computed", "new/t.csv", *trust, *READING, "--no-store", "-o", "live.csv")
    for file in ("stored.csv", "live.csv"):
        np.testing.assert_allclose(read_scores(file)["score"], expected, atol=1e-4)
    frame = pd.read_csv("new/t.csv")
    images = [f"new/{name}" for name in frame["image"]]
    metric = load("computed", device="cpu", trusted=[PLUGIN, "my_scorers:Words"])
    assert metric.reads_prompts  # CLIPScore does, though the streams have no text
    np.testing.assert_allclose(metric.score(images, frame["prompt"].tolist()), expected, atol=1e-4)
    output = succeed("export", "computed", "exported")
    assert "heads with their encoders" in output
    (folder / "clip-vit-large-patch14").rename(folder / "elsewhere")
    try:
        exported = load("exported", device="cpu", trusted=[PLUGIN, "my_scorers:Words"])
        np.testing.assert_allclose(exported.score(images, frame["prompt"].tolist()), expected, atol=1e-4)
    finally:
        (folder / "elsewhere").rename(folder / "clip-vit-large-patch14")
    succeed("evaluate", "computed", "new/t.csv", *trust, "--out", "evaluated", *READING)
    predictions = pd.concat(map(pd.read_csv, Path("evaluated").glob("*/predictions.csv")))
    means = predictions.groupby("name")["prediction"].mean()
    np.testing.assert_allclose(means[frame["image"]], expected, atol=1e-4)


def test_code_that_only_a_run_names_is_not_imported() -> None:
    code, output = tier("predict", "computed", "data/MJ_0.png", "--prompt", "unheard of", *READING)
    assert code == 2 and "pass --trust my_scorers:Words" in on_one_line(output), output
    with pytest.raises(PluginError, match=r"trusted=\['my_scorers:Words'\] in Python"):
        load("computed", device="cpu")


def test_given_scores_of_new_images_come_from_a_file(folder: Path) -> None:
    succeed("predict", "given", "data/t.csv", *READING, "-o", "same.csv")  # the fit's own scores are stored
    code, output = tier("predict", "given", "new/t.csv", *READING)
    assert code == 2 and "were made elsewhere" in output and "--scores FILE" in output, output
    with pytest.raises(EncoderError, match="were made elsewhere .* --scores FILE"):
        load("given", device="cpu")
    succeed("predict", "given", "new/t.csv", "--scores", "new.csv", *READING, "-o", "given.csv")
    pd.read_csv("new.csv").rename(columns={"musiq": "niqe"}).to_csv("niqe.csv", index=False)
    refused = {
        ("--scores", "niqe.csv"): "niqe.csv has no column MUSIQ or musiq of scores",
        ("--scores", "new.csv", "--no-store"): "leave out --no-store",
    }
    for options, words in refused.items():
        code, output = tier("predict", "given", "new/t.csv", *options, *READING)
        assert code == 2 and words in on_one_line(output), output
    zero_shot = next(path for path in Path("runs").iterdir() if path.name.startswith("zero-shot"))
    code, output = tier("predict", str(zero_shot), "new/t.csv", "--scores", "new.csv", *READING)
    assert code == 2 and "a run of `tier score` has no heads" in on_one_line(output), output
    code, output = tier("fit-head", "data/t.csv", *ENCODER, "--score-features", ",")
    assert code == 2 and "',' names no scorer" in on_one_line(output), output
    expected = direct("given", Path("new/t.csv"), musiq(100)[:, None])
    np.testing.assert_allclose(read_scores("given.csv")["score"], expected, atol=1e-5)
    own = direct("given", Path("data/t.csv"), musiq(0)[:, None])
    np.testing.assert_allclose(read_scores("same.csv")["score"], own, atol=1e-5)
    succeed("export", "given", "exported-given")
    anew = ["--scores", "new.csv", "-F", "anew"]  # the exported encoder has files of its own
    succeed("predict", "exported-given", "new/t.csv", *anew, *READING, "-o", "again.csv")
    np.testing.assert_allclose(read_scores("again.csv")["score"], expected, atol=1e-5)
    evaluate = ("evaluate", "given", "new/t.csv", "--scores", "new.csv", "--out", "evaluated-given", *READING)
    succeed(*evaluate)
    predictions = pd.concat(map(pd.read_csv, Path("evaluated-given").glob("*/predictions.csv")))
    means = predictions.groupby("name")["prediction"].mean()
    np.testing.assert_allclose(means[names(100)], expected, atol=1e-5)


def test_rows_without_a_given_score_stop_or_are_left_out_with_the_reason() -> None:
    pd.read_csv("new.csv")[3:].to_csv("few.csv", index=False)
    predict = ("predict", "given", "new/t.csv", "--scores", "few.csv", *READING, "-o", "few-scores.csv")
    code, output = tier(*predict)
    assert code == 2 and "3 of 24 rows have no score in few.csv: MJ_100.png" in on_one_line(output), output
    output = succeed(*predict, "--on-error", "skip")
    assert "MJ_100.png: it has no score of MUSIQ" in on_one_line(output), output
    assert read_scores("few-scores.csv")["score"].notna().sum() == ROWS - 3
    code, output = tier("predict", "computed", "data/t.csv", "--scores", "few.csv", *READING)
    assert code == 2 and "use no scores of another program" in on_one_line(output)


def test_the_command_names_what_does_not_fit_and_lists_it_in_a_file(folder: Path) -> None:
    frame = pd.read_csv("theirs.csv")
    frame["name"] = ["images/" + name for name in frame["name"]]
    frame.loc[0, "name"] = "stranger.png"
    frame.to_csv("partly.csv", index=False)
    score = ("score", "data/t.csv", "--scores", "partly.csv", "--name", "MUSIQ", "--repeats", "2")
    code, output = tier(*score, "--out", "partly")
    text = on_one_line(output)
    assert code == 2 and "1 lines name no image of the data: stranger.png" in text, output
    assert "1 of 24 rows have no score in partly.csv: MJ_0.png" in text and not Path("partly").exists()
    output = succeed(*score, "--out", "partly", "--on-error", "skip")
    assert "1 of 24 rows have no score of MUSIQ and are no test rows" in output
    listed = pd.read_csv("features/unmatched-partly.csv")
    assert listed["name"].tolist() == ["MJ_0.png", "stranger.png"]
    wrong = {
        (): "pass a scorer, or --scores FILE",
        ("--scores", "theirs.csv"): "--scores needs the name",
        (
            "--scores",
            "theirs.csv",
            "--name",
            "MUSIQ",
            "--scorer",
            "clipscore",
        ): "leave out --scorer, or the other",
        ("--scores", "theirs.csv", "--name", "MUSIQ", "-o", "x.csv"): "are in a file already",
        ("--scores", "theirs.csv", "--name", "Q", "--precision", "bf16"): "are computed already",
        ("--scores", "theirs.csv", "--name", "MUSIQ", "--target", "MOS"): "has no target 'MOS'",
        ("--scores", "theirs.csv", "--name", "Q"): "several columns of numbers, musiq, other",
        ("--scorer", "my_scorers:TwoValues", *READING): "values for",
        ("--scorer", "my_scorers:Blue"): "my_scorers:Blue cannot be imported",
        ("--scorer", "builtins:print"): "is no scorer: it must be callable",
        ("--scorer", "clipscore", "--lower-is-better"): "leave out --lower-is-better",
        ("--scorer", PLUGIN, "--precision", "bf16"): "leave out --weights and --precision",
    }
    for options, words in wrong.items():
        code, output = tier("score", "data/t.csv", *options)
        assert code == 2 and words in on_one_line(output), (options, output)


def test_data_without_prompts_are_scored_by_what_reads_images_alone() -> None:
    frame = pd.read_csv("data/t.csv").drop(columns="prompt")
    frame.to_csv("data/without.csv", index=False)
    scored = ("score", "data/without.csv", "--repeats", "2", "--out", "without")
    succeed(*scored, "--scores", "theirs.csv", "--name", "MUSIQ")
    succeed(*scored, "--scorer", PLUGIN, *READING)
    code, output = tier(*scored, "--scorer", "clipscore", *READING)
    assert code == 2 and "no text prompts, which are needed here" in on_one_line(output)
    heads = ["--streams", "image", "--head", "ridge", "--repeats", "2", "--out", "without-heads"]
    store = next(path.name for path in Path("features").glob("red-*"))
    succeed("fit-head", "data/without.csv", *ENCODER, *heads, "--score-features", store)
    run = next(Path("without-heads").iterdir())
    succeed("predict", str(run), "data/MJ_0.png", "data/SD_1.png", "--trust", PLUGIN, *READING)
    zero_shot = next(
        path for path in Path("without").iterdir() if "red" in (path / "config.json").read_text()
    )
    succeed("predict", str(zero_shot), "data/MJ_0.png", "--trust", PLUGIN, *READING)
