"""Image encoders of transformers are fitted on, trained, kept, exported and used for predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.encoders.finetuned import finetuned_encoders, write_image
from tier4k.tests.builders.commands import assert_scores_are, read_scores, succeed
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.preprocessed import preprocessed
from tier4k.tests.builders.transformers_models import few_fast, write_vision_folder

pytestmark = pytest.mark.usefixtures("no_hub")

ENCODERS = ["--image-encoder", "hf:models/clip", "--text-encoder", "bert-base-uncased"]
FEW = ("clip", "siglip", "vit")


def features(encoder: ImageEncoder) -> torch.Tensor:
    with torch.inference_mode():
        return load_network(encoder)(preprocessed(encoder.preprocessing, make_picture(0, (50, 40)))[None])


@pytest.mark.parametrize("name", few_fast("clip", "siglip"))
def test_a_written_encoder_is_the_encoder_with_its_new_tensors(tmp_path: Path, name: str) -> None:
    encoder = find_image_encoder(ImageChoice("hf:x"), write_vision_folder(tmp_path / "old", name))
    other = find_image_encoder(ImageChoice("hf:x"), write_vision_folder(tmp_path / "other", name, seed=1))
    state = load_network(other).backbone.state_dict()
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    assert write_image(encoder, tensors, tmp_path, ["aa"]) == "image"
    written = find_image_encoder(ImageChoice("hf:x"), tmp_path / "image")
    torch.testing.assert_close(features(written), features(other))
    assert not torch.allclose(features(encoder), features(other))
    assert written.preprocessing == encoder.preprocessing
    assert written.weights.seen_images() == ("aa",)


def test_an_encoder_that_was_not_trained_is_copied_with_all_its_parts(tmp_path: Path) -> None:
    folder = write_vision_folder(tmp_path / "clip", "clip", max_shard_size="40KB")
    encoder = find_image_encoder(ImageChoice("hf:x"), folder)
    write_image(encoder, {}, tmp_path)
    copied = find_image_encoder(ImageChoice("hf:x"), tmp_path / "image")
    assert copied.weights.sha256 == encoder.weights.sha256
    torch.testing.assert_close(features(copied), features(encoder), rtol=0, atol=0)


@pytest.mark.parametrize("name", few_fast("clip", "swin"))
def test_layers_hold_every_trained_parameter_once_from_input_to_output(tmp_path: Path, name: str) -> None:
    network = load_network(find_image_encoder(ImageChoice("hf:x"), write_vision_folder(tmp_path, name)))
    layers = network.layers()
    names = {id(parameter): name for name, parameter in network.backbone.named_parameters()}
    found = [names[id(parameter)] for layer in layers for parameter in layer]
    assert len(set(found)) == len(found)
    assert {name for name in names.values() if "mask_token" not in name} == set(found)
    # Four blocks or stages, after the embeddings if there are any.
    assert len(layers) == (4 if name == "dinov3_convnext" else 5)
    assert not any(".0." in names[id(parameter)] for parameter in layers[-1] if name in FEW)


@pytest.mark.slow
def test_new_images_get_the_scores_of_the_runs_predictions(project: Path) -> None:
    write_vision_folder(project / "models" / "clip", "clip")
    succeed("extract", "Dataset", *ENCODERS, "--feature", "multilevel", "--image-size", "48")
    succeed("fit-head", "Dataset", *ENCODERS, "--head", "ridge", "--split", "random", "--repeats", "1")
    (run,) = Path("runs").iterdir()
    expected = pd.read_csv(run / "predictions.csv")
    succeed("export", str(run), "exported")
    assert (Path("exported") / "encoders" / "image" / "preprocessor_config.json").is_file()
    for model in (str(run), "exported"):
        succeed("predict", model, "Dataset", "-F", "elsewhere", "-o", "scores.csv")
        assert_scores_are(read_scores("scores.csv"), expected)


@pytest.mark.slow
def test_a_finetuned_encoder_is_kept_as_a_folder_that_transformers_loads(project: Path) -> None:
    original = write_vision_folder(project / "models" / "clip", "clip")
    succeed(
        *("fit-head", "Dataset", *ENCODERS, "--finetune", "all", "--target", "MOS_q", "--split", "random"),
        *("--repeats", "1", "--epochs", "1", "--set", "hidden=8", "--set", "recompute=true"),
    )
    (run,) = Path("runs").iterdir()
    kept = finetuned_encoders(run).image
    old, new = load_file(original / "model.safetensors"), load_file(kept.weights.path / "model.safetensors")
    moved = [name for name in new if not torch.equal(old[name], new[name])]
    assert len(moved) > len(new) / 2 and "visual_projection.weight" in moved
    theirs = hf.CLIPVisionModelWithProjection.from_pretrained(kept.weights.path).eval()
    inputs = hf.AutoImageProcessor.from_pretrained(kept.weights.path, backend="pil")(
        images=make_picture(0, (50, 40)), return_tensors="pt"
    )
    with torch.inference_mode():
        expected = theirs(**inputs).image_embeds
    torch.testing.assert_close(features(kept), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    succeed("extract", "Dataset", "--finetuned", str(run), "-F", "trained")
    succeed("predict", str(run), "Dataset", "-F", "trained", "-o", "run.csv")
    succeed("export", str(run), "exported")
    succeed("predict", "exported", "Dataset", "-F", "elsewhere", "-o", "exported.csv")
    scores = [read_scores(name)["score"] for name in ("run.csv", "exported.csv")]
    np.testing.assert_allclose(*scores, atol=1e-5)
