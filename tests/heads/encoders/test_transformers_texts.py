"""Text encoders of transformers are fitted on, trained, kept, exported and used for predictions."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file

from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.encoders.finetuned import finetuned_encoders, write_text
from tier4k.tests.builders.commands import assert_scores_are, read_scores, succeed, tier
from tier4k.tests.builders.text_models import TEXTS, write_sentence_folder, write_text_folder
from tier4k.tests.builders.transformers_models import few_fast, write_random_model

pytestmark = pytest.mark.usefixtures("no_hub")

ENCODERS = ("--image-encoder", "resnet18", "--text-encoder", "hf:models/text")
WRITTEN = ("t5", "clip", "bert", "xlm-roberta", "mt5", "mbart", "clip-text", "siglip", "siglip2-text")
SPLIT = ("--target", "MOS_q", "--split", "random", "--repeats", "1")


def features(encoder: TextEncoder) -> torch.Tensor:
    network = load_network(encoder)
    with torch.inference_mode():
        return network(network.tokenize(TEXTS))


def find(folder: Path) -> TextEncoder:
    return find_text_encoder("hf:x", folder)


@pytest.mark.parametrize("name", few_fast("clip", names=WRITTEN))
def test_a_written_encoder_is_the_encoder_with_its_new_tensors(tmp_path: Path, name: str) -> None:
    encoder = find(write_text_folder(tmp_path / "old", name))
    other = find(write_text_folder(tmp_path / "other", name, seed=1))
    state = load_network(other).backbone.state_dict()
    write_text(
        encoder, {name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "new", ["aa"]
    )
    written = find(tmp_path / "new")
    torch.testing.assert_close(features(written), features(other))
    assert not torch.allclose(features(encoder), features(other))
    assert written.signature.preparation == encoder.signature.preparation
    assert written.signature.feature == encoder.signature.feature
    assert written.weights.seen_images() == ("aa",)


def test_an_encoder_that_was_not_trained_is_copied_with_the_modules_of_its_folder(tmp_path: Path) -> None:
    layers = {"poolings": ("cls", "mean"), "layers": ("Dense", "Normalize"), "max_tokens": 12}
    encoder = find(write_sentence_folder(tmp_path / "old", **layers))
    write_text(encoder, {}, tmp_path / "new")
    copied = find(tmp_path / "new")
    assert copied.signature == encoder.signature
    torch.testing.assert_close(features(copied), features(encoder), rtol=0, atol=0)


def directly(folder: Path, name: str) -> torch.Tensor:
    """Features of the texts by the library's own classes."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in TEXTS:
        tokens = tokenizer(
            text, truncation=True, max_length=24 if name == "clip" else 512, return_tensors="pt"
        )
        tokens.pop("token_type_ids", None)
        with torch.inference_mode():
            if name == "clip":
                config = hf.AutoConfig.from_pretrained(folder).text_config
                model = hf.CLIPTextModelWithProjection.from_pretrained(folder, config=config)
                rows.append(model.eval()(**tokens).text_embeds[0])
            else:
                states = hf.T5EncoderModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
                rows.append(states[0].mean(0))
    return torch.stack(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moved"), [("t5", "shared.weight"), ("clip", "text_projection.weight")])
def test_a_finetuned_encoder_is_kept_as_a_folder_that_transformers_loads(
    project: Path, name: str, moved: str
) -> None:
    original = write_text_folder(project / "models" / "text", name)
    fit = ("fit-head", "Dataset", *ENCODERS, *SPLIT, "--finetune", "text", "--epochs", "2")
    succeed(*fit, "--set", "hidden=8", "--set", "recompute=true", "--set", "average=0.5")
    (run,) = Path("runs").iterdir()
    kept = finetuned_encoders(run).text
    new = load_file(kept.weights.path / "model.safetensors")
    old = load_file(original / "model.safetensors")
    assert not torch.equal(new[moved], old[moved])
    assert not any("vision" in tensor for tensor in new)
    found = features(kept)
    torch.testing.assert_close(found, directly(kept.weights.path, name), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, features(find(original)), atol=1e-4)
    expected = pd.read_csv(run / "predictions.csv")
    succeed("extract", "Dataset", "--finetuned", str(run), "-F", "trained")
    succeed("export", str(run), "exported")
    for model, stores in ((str(run), "trained"), ("exported", "elsewhere")):
        succeed("predict", model, "Dataset", "-F", stores, "-o", "scores.csv")
        assert_scores_are(read_scores("scores.csv"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siglip2", "sentence-transformers"])
def test_new_images_get_the_scores_of_the_runs_predictions(project: Path, name: str) -> None:
    folder = project / "models" / "text"
    if name == "sentence-transformers":
        write_sentence_folder(folder, layers=("Dense", "Normalize"))
    else:
        write_text_folder(folder, name)
    image = ("--image-encoder", "hf:models/text" if name == "siglip2" else "resnet18")
    encoders = (*image, "--text-encoder", "hf:./models/text/")
    succeed("extract", "Dataset", *encoders)
    succeed("fit-head", "Dataset", *encoders, *SPLIT, "--head", "ridge")
    (run,) = Path("runs").iterdir()
    expected = pd.read_csv(run / "predictions.csv")
    succeed("export", str(run), "exported")
    for model in (str(run), "exported"):
        succeed("predict", model, "Dataset", "-F", "elsewhere", "-o", "scores.csv")
        assert_scores_are(read_scores("scores.csv"), expected)


@pytest.mark.slow
def test_a_refused_text_encoder_leaves_no_store_without_rows(project: Path) -> None:
    folder = write_text_folder(project / "models" / "text", "bert", pad_token=None)
    for _ in range(2):
        code, output = tier("extract", "Dataset", *ENCODERS)
        assert code == 2 and f"{folder} has no padding token" in output.replace("\n", "")
        stores = {path.parent.name for path in Path("features").glob("*/signature.json")}
        assert all("text" not in name for name in stores)
    write_random_model(lambda: hf.GPT2Model(hf.GPT2Config(n_embd=32, n_layer=1, n_head=2)), folder)
    code, output = tier("extract", "Dataset", *ENCODERS, "-F", "none")
    assert code == 2 and "language model" in output
    assert not Path("none").exists()
