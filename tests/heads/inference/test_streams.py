"""Heads on chosen streams, several encoders and interactions score new images as they scored test rows."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tier4k import Metric, load
from tier4k.cache.listing import stores
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.pipeline import live_images
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.encoders.sources import encoder_sources
from tier4k.heads.inference import onnx
from tier4k.heads.results.model import ModelError
from tier4k.heads.results.read import read_config
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import DATA, assert_scores_are, on_one_line, read_scores, succeed, tier
from tier4k.tests.builders.data import write_state
from tier4k.tests.builders.golden import write_dataset, write_tiny_bert
from tier4k.tests.builders.preprocessed import preprocessed
from tier4k.tests.builders.text_models import write_text_folder
from tier4k.tests.builders.transformers_models import few_fast

RESNET = ["--image-encoder", "timm:test_resnet"]
BERT = ["--text-encoder", "bert-base-uncased"]
TOWERS = ["--encoder", "hf:towers"]
LEVELS = [*RESNET, "--image-encoder", "timm:test_vit", "--feature", "multilevel"]
INTERACTION = ["--set", "interaction=cosine+product+templates+image-prompt"]
RIDGE = ["--head", "ridge"]
RUNS = {
    "all": [*RIDGE, "--method", "pr", *TOWERS, *RESNET, *BERT, *INTERACTION],
    "image": [*RIDGE, "--streams", "image", *RESNET],
    "text": [*RIDGE, "--streams", "text", *BERT],
    "templates": [*RIDGE, "--streams", "image", *TOWERS, "--set", "interaction=templates"],
    "map": [
        "--head",
        "kernel-ridge",
        *RESNET,
        *BERT,
        "--set",
        "interaction=map",
        "--set",
        "kernels=encoders",
    ],
}
READING = ["--workers", "0"]
WITHOUT_PROMPTS = ["image", "templates"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with encoders, stores and runs."""
    folder = tmp_path_factory.mktemp("streams")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_dataset(DATA)
        write_tiny_bert(Path("bert-base-uncased"))
        write_text_folder(Path("towers"), "clip")
        for name in ("test_resnet", "test_vit"):
            write_state(name, Path("pretrained") / f"{name}.pth")
        succeed("extract", "Dataset", *TOWERS, *RESNET, *BERT, *READING)
        for name, options in RUNS.items():
            fit(*options, out=Path("out")).rename(folder / name)
    return folder


def fit(*options: str, out: Path) -> Path:
    """Fit heads to one random split, and return the run."""
    split = ["--split", "random", "--repeats", "1", "--target", "MOS_q", "--out", str(out)]
    succeed("fit-head", "Dataset", *split, *options)
    (run,) = out.iterdir()
    return run


@pytest.fixture
def project(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as working directory, which a test must not change."""
    monkeypatch.chdir(fitted)
    return fitted


@pytest.fixture
def elsewhere(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_hub: None) -> Iterator[Path]:
    """Another working directory with the data set alone."""
    shutil.copytree(fitted / "Dataset", tmp_path / "Dataset")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_scores_are_those_of_the_run(scores: pd.DataFrame, run: Path) -> None:
    assert_scores_are(scores, pd.read_csv(run / "predictions.csv"))


def rows() -> tuple[list[str], list[str], list[str | None]]:
    """The images, text prompts and image prompts of the data set; None without an image prompt."""
    table = pd.read_excel(DATA / "annotation.xlsx", keep_default_na=False)
    images = [str(DATA / "All" / name) for name in table["Generated_image"]]
    guides = [str(DATA / "I2I" / "Image_prompt" / name) if name else None for name in table["Image_prompt"]]
    return images, table["Text_prompt"].tolist(), guides


def scores_in_memory(model: Path | str, with_prompts: bool = True) -> pd.DataFrame:
    """The scores of all rows by a metric."""
    images, prompts, guides = rows()
    found = load(model).score(images, prompts if with_prompts else None, guides)
    return pd.DataFrame({"name": [Path(image).name for image in images], "target": "MOS_q", "score": found})


@pytest.mark.parametrize("run", few_fast("all", "image", names=RUNS))
def test_new_images_get_the_scores_of_the_runs_predictions(project: Path, run: str, tmp_path: Path) -> None:
    features = tmp_path / "features"
    scores = tmp_path / "scores.csv"
    succeed("predict", run, "Dataset", "-F", str(features), "-o", str(scores), *READING)
    assert_scores_are_those_of_the_run(read_scores(scores), project / run)
    used = {store.signature for store in stores(features)}
    assert used == set(read_config(project / run).signatures.values())
    assert_scores_are_those_of_the_run(scores_in_memory(run, run not in WITHOUT_PROMPTS), project / run)


def test_image_prompts_that_no_stream_uses_are_not_encoded(project: Path, tmp_path: Path) -> None:
    succeed("predict", "image", "Dataset", "-F", str(tmp_path), "-o", str(tmp_path / "scores.csv"), *READING)
    (store,) = stores(tmp_path)
    assert store.rows == len(rows()[0])


@pytest.mark.parametrize(
    "run",
    ["all", pytest.param("image", marks=pytest.mark.slow), pytest.param("map", marks=pytest.mark.slow)],
)
def test_an_exported_model_needs_neither_stores_nor_weights(fitted: Path, elsewhere: Path, run: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(fitted)
        succeed("export", run, str(elsewhere / "first"))
    Metric.from_pretrained("first").save_pretrained("second")
    succeed("predict", "first", "Dataset", "-o", "scores.csv", *READING)
    assert_scores_are_those_of_the_run(read_scores("scores.csv"), fitted / run)
    assert_scores_are_those_of_the_run(scores_in_memory("second"), fitted / run)
    # Beside stores of the original files, these would be second ones that no option tells apart.
    assert not list(stores(Path("features")))
    assert list(stores(Path("features", "exported")))


def encoder_files(model: Path) -> set[str]:
    """The files and folders of the encoders of an exported model."""
    places = (model / "encoders").glob("**/*")
    names = {"image.safetensors", "model.safetensors"}
    return {str(path.relative_to(model / "encoders")) for path in places if path.name in names}


def test_several_encoders_are_exported_into_numbered_folders_and_a_checkpoint_once(
    project: Path, tmp_path: Path
) -> None:
    for run in ("all", "image"):
        succeed("export", run, str(tmp_path / run))
    assert encoder_files(tmp_path / "image") == {"image.safetensors"}
    files = {"image-1/image/model.safetensors", "image-2/image.safetensors", "text-1/text/model.safetensors"}
    assert encoder_files(tmp_path / "all") == files
    signatures = json.loads((tmp_path / "all" / "config.json").read_text())["signatures"]
    kinds = {"image hf:towers", "image timm:test_resnet", "text bert-base-uncased", "text hf:towers"}
    assert set(signatures) == kinds
    card = (tmp_path / "all" / "README.md").read_text()
    for name in ("Text encoder: bert-base-uncased", "Text encoder: hf:towers", "Image encoder: hf:towers"):
        assert f"- {name}, " in card
    assert "- Inputs: the image, its text prompt, its image prompt if it has one\n" in card
    assert "- Interaction: cosine+product+templates+image-prompt, " in card
    card = (tmp_path / "image" / "README.md").read_text()
    assert (
        "- Inputs: the image\n" in card and "Text encoder" not in card and "prompt" not in card.split("##")[2]
    )


def predicted(run: str, folder: Path, *inputs: object) -> float:
    """The score that `tier predict` writes for one image."""
    output = folder / "scores.csv"
    succeed("predict", run, *map(str, inputs), "-F", str(folder / "features"), "-o", str(output), *READING)
    (score,) = read_scores(output)["score"]
    return score


@pytest.mark.parametrize("run", WITHOUT_PROMPTS)
def test_heads_without_the_text_stream_need_no_prompts(project: Path, run: str, tmp_path: Path) -> None:
    image = rows()[0][0]
    metric = load(run)
    expected = metric.score(image)
    assert metric.score(image, "a prompt that is not used") == expected
    assert predicted(run, tmp_path, image) == pytest.approx(expected, abs=1e-5)


def test_heads_on_images_alone_take_a_folder_or_a_table_without_prompts(
    project: Path, tmp_path: Path
) -> None:
    image = tmp_path / "new" / "a.png"
    image.parent.mkdir()
    shutil.copy(rows()[0][0], image)
    (tmp_path / "table.csv").write_text("image\nnew/a.png\n")
    expected = predicted("image", tmp_path, image, "--prompt", "not used")
    assert predicted("image", tmp_path, image.parent) == expected
    assert predicted("image", tmp_path, tmp_path / "table.csv") == expected
    assert {store.signature.stream for store in stores(tmp_path / "features")} == {"image"}


def test_heads_without_images_encode_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageNetwork, "forward", None)
    assert_scores_are_those_of_the_run(scores_in_memory("text"), project / "text")
    with pytest.raises(ModelError, match="None is not a text prompt"):
        load("text").score("a.png")


def test_each_image_is_decoded_once_for_all_encoders(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    as_image = live_images.as_image

    def count(value: object) -> object:
        decoded.append(value)
        return as_image(value)

    monkeypatch.setattr(live_images, "as_image", count)
    images, _, guides = rows()
    load("all").score(images[:3], "a thing", guides[:3])
    assert sorted(decoded) == sorted({*images[:3], *guides[:3]})


@pytest.mark.parametrize(
    ("run", "option", "expected"),
    [
        ("all", "--image-weights", "use 2 image encoders (hf:towers, timm:test_resnet): leave out"),
        ("all", "--text-weights", "use 2 text encoders (bert-base-uncased, hf:towers): leave out"),
        ("image", "--text-weights", "use no text encoder: leave out --text-weights"),
    ],
)
def test_weights_are_passed_only_for_the_one_encoder_of_their_kind(
    project: Path, run: str, option: str, expected: str
) -> None:
    code, output = tier("predict", run, rows()[0][0], "--prompt", "new", option, "pretrained")
    assert code == 2 and expected in " ".join(output.split())


def test_an_evaluation_on_other_data_records_streams_and_templates(project: Path, tmp_path: Path) -> None:
    succeed("evaluate", "templates", "Dataset", "--target", "MOS_q=MOS_a", "--out", str(tmp_path), *READING)
    (evaluated,) = tmp_path.iterdir()
    config, fitted = read_config(evaluated), read_config(project / "templates")
    assert config.streams == fitted.streams == ("image",)
    assert config.signatures == fitted.signatures
    assert config.templates == fitted.templates != ()


def test_full_reference_heads_need_image_prompts_only_for_their_stream(project: Path, tmp_path: Path) -> None:
    image = rows()[0][0]
    full_reference = [*RIDGE, *RESNET, "--method", "fr", "--streams"]
    run = fit(*full_reference, "image", out=tmp_path / "without")
    assert np.isfinite(load(run).score(image))
    run = fit(*full_reference, "image+image-prompt", out=tmp_path / "with")
    code, output = tier("predict", str(run), image)
    assert code == 2 and "need an image prompt for every image" in " ".join(output.split())


def test_interactions_are_not_exported_to_onnx(project: Path, tmp_path: Path) -> None:
    (source,) = encoder_sources(read_model(Path("all")))
    with pytest.raises(onnx.OnnxError, match=r"interaction=cosine\+product\+templates\+image-prompt"):
        onnx.export_onnx(source, tmp_path)


def test_the_onnx_networks_of_several_encoders_together_give_the_score(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit(*RIDGE, *TOWERS, *RESNET, *BERT, out=tmp_path / "runs")
    networks = {}

    def keep(graph: onnx.Graph, path: Path) -> float:
        networks[path.name] = graph.network
        return 0.0

    monkeypatch.setattr(onnx, "_write", keep)
    (source,) = encoder_sources(read_model(run))
    onnx.export_onnx(source, tmp_path)
    image, prompt = rows()[0][0], "a red fox"
    parts = []
    with torch.inference_mode():
        for number, text in enumerate(source.texts.values(), 1):
            tokens = load_network(text).tokenize([prompt])
            parts.append(networks.pop(f"text-{number}.onnx")(tokens.ids, tokens.mask))
        for number, encoder in enumerate(source.images.values(), 1):
            pixels = preprocessed(encoder.preprocessing, live_images.as_image(image)[0])
            parts.append(networks.pop(f"image-{number}.onnx")(pixels[None]))
        found = networks.pop("head.onnx")(torch.cat(parts, dim=1))
    assert not networks
    assert found.item() == pytest.approx(load(run).score(image, prompt), abs=1e-4)


@pytest.mark.slow
def test_levels_and_crops_of_several_encoders_give_the_scores_of_the_run(
    fitted: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fitted)
    stored = ["-F", str(elsewhere / "stored")]
    succeed("extract", "Dataset", *LEVELS, *BERT, "--crops", "1", *stored)
    stages = ["--stages", "timm:test_resnet=3,4"]
    run = fit(*RIDGE, *LEVELS, *BERT, *stages, *stored, out=elsewhere / "runs")
    assert read_model(run).stages == (
        "timm:test_resnet multilevel=stage3",
        "timm:test_resnet multilevel=stage4",
    )
    succeed("export", str(run), str(elsewhere / "model"))
    monkeypatch.chdir(elsewhere)
    succeed("predict", "model", "Dataset", "-o", "scores.csv")
    assert_scores_are_those_of_the_run(read_scores("scores.csv"), run)
    assert_scores_are_those_of_the_run(scores_in_memory("model"), run)


@pytest.mark.slow
def test_an_exported_checkpoint_has_no_pickled_weights(
    fitted: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = elsewhere / "project"
    shutil.copytree(fitted / "towers", project / "towers")
    shutil.copytree(fitted / "Dataset", project / "Dataset")
    weights = project / "towers" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    monkeypatch.chdir(project)
    succeed("extract", "Dataset", *TOWERS, *READING)
    run = fit(*RIDGE, *TOWERS, "--set", "interaction=cosine", out=Path("runs")).absolute()
    succeed("export", str(run), str(elsewhere / "model"))
    monkeypatch.chdir(elsewhere)
    assert encoder_files(Path("model")) == {"image/model.safetensors"}
    assert not list(Path("model").glob("**/*.bin"))
    succeed("predict", "model", "Dataset", "-o", "scores.csv", *READING)
    assert_scores_are_those_of_the_run(read_scores("scores.csv"), run)


@pytest.mark.slow
def test_a_run_that_finetuned_images_alone_needs_no_prompts(project: Path, tmp_path: Path) -> None:
    training = ["--finetune", "all", "--epochs", "1"]
    run = fit(*RESNET, "--streams", "image", *training, out=tmp_path / "runs")
    succeed("export", str(run), str(tmp_path / "model"))
    for model in (run, tmp_path / "model"):
        assert_scores_are_those_of_the_run(scores_in_memory(model, with_prompts=False), run)
    extract = ["extract", "Dataset", "--finetuned", str(run), "-F", str(tmp_path / "features")]
    assert "--streams image" in succeed(*extract)
    code, output = tier(*extract, "--streams", "text")
    assert code == 2 and "finetuned no encoder of text" in on_one_line(output)
