"""Encoders read the published point of their network, whatever else is in the batch, and their signature tells what they are."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from extract.encoders import TextEncoder, find_image_encoder, find_text_encoder, library_versions
from extract.networks import TextNetwork
from extract.presets import text_preset
from extract.weights import WeightsError, file_weights
from tests.data_builders import make_picture, tiny_encoder, write_state

TEXTS = ["a fox", "None", "two paper boats, highly detailed, 8k, trending on artstation", "Ünïcode — 狐", "word " * 700]


pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> TextEncoder:
    return find_text_encoder("bert-base-uncased", bert_folder)


@pytest.fixture(scope="module")
def bert_network(bert: TextEncoder) -> TextNetwork:
    return bert.load()


def encode(network: TextNetwork, texts: list[str]) -> torch.Tensor:
    with torch.inference_mode():
        return network(network.tokenize(texts))


def pictures(encoder, count: int = 3) -> torch.Tensor:
    transform = encoder.preparation.transform()
    return torch.stack([transform(make_picture(seed, (200, 170))) for seed in range(count)])


def test_the_vit_preset_reads_the_class_token_after_the_last_block_before_the_norm(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path, "test_vit", "class-token-before-norm")
    plain = timm.create_model("test_vit").eval()
    plain.load_state_dict(torch.load(encoder.weights.path, weights_only=True))
    seen = []
    plain.blocks[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output[:, 0]))
    batch = pictures(encoder)
    network = encoder.load()
    with torch.inference_mode():
        plain((batch.float() - network.mean) / network.std)
        found, expected = network(batch), seen[0]
        normed, expected_normed = tiny_encoder(tmp_path, "test_vit").load()(batch), plain.norm(expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normed, expected_normed, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, normed, rtol=1e-2)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "resnet18"])
def test_a_cnn_gives_the_global_average_of_its_last_map(tmp_path: Path, architecture: str) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    plain = timm.create_model(architecture).eval()
    plain.load_state_dict(torch.load(encoder.weights.path, weights_only=True))
    network = encoder.load()
    with torch.inference_mode():
        batch = pictures(encoder)
        maps = plain.forward_features((batch.float() - network.mean) / network.std)
        torch.testing.assert_close(network(batch), maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.cat([network(one[None]) for one in batch]), network(batch), rtol=1e-4, atol=1e-5)
    assert not network.training


def test_text_features_are_those_of_plain_padding_to_512(bert: TextEncoder, bert_network: TextNetwork) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(bert.weights.path), AutoModel.from_pretrained(bert.weights.path).eval()
    batch = tokenizer(TEXTS, padding="max_length", max_length=512, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state.double()
    expected = [hidden[row, : int(length)].mean(0) for row, length in enumerate(batch["attention_mask"].sum(1))]
    torch.testing.assert_close(encode(bert_network, TEXTS).double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_a_text_has_the_same_features_alone_and_in_any_batch(bert_network: TextNetwork) -> None:
    one_by_one = torch.cat([encode(bert_network, [text]) for text in TEXTS])
    torch.testing.assert_close(encode(bert_network, TEXTS), one_by_one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encode(bert_network, TEXTS[:2]), one_by_one[:2], rtol=1e-4, atol=1e-5)


def test_texts_are_truncated_at_512_tokens_and_counted_in_full(bert_network: TextNetwork) -> None:
    assert bert_network.token_counts(["a fox", "word " * 700]) == [4, 702]
    assert bert_network.tokenize(["word " * 700]).ids.shape == (1, 512)
    first = encode(bert_network, ["word " * 510])
    torch.testing.assert_close(encode(bert_network, ["word " * 510 + "fox " * 90]), first)
    assert not torch.allclose(encode(bert_network, ["word " * 509 + "fox " * 90]), first, rtol=1e-4)


def test_a_network_with_fewer_positions_truncates_earlier(tmp_path: Path, bert: TextEncoder) -> None:
    shutil.copytree(bert.weights.path, tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 32}))
    state = torch.load(tmp_path / "short" / "pytorch_model.bin", weights_only=True)
    state["embeddings.position_embeddings.weight"] = state["embeddings.position_embeddings.weight"][:32]
    state.pop("embeddings.position_ids", None)
    torch.save(state, tmp_path / "short" / "pytorch_model.bin")
    assert find_text_encoder("bert-base-uncased", tmp_path / "short").load().tokenize(["word " * 700]).ids.shape == (1, 32)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path, bert: TextEncoder) -> None:
    shutil.copytree(bert.weights.path, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(WeightsError, match="do not fit its config.json: .* missing.*layer.2.*one download"):
        find_text_encoder("bert-base-uncased", tmp_path / "other").load()
    (tmp_path / "other" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        find_text_encoder("bert-base-uncased", tmp_path / "other").load()


def test_a_pickled_text_encoder_is_not_run(tmp_path: Path, bert: TextEncoder) -> None:
    class Exploit:
        def __reduce__(self):
            return Path.touch, (tmp_path / "mark",)

    shutil.copytree(bert.weights.path, tmp_path / "evil")
    torch.save({"embeddings.word_embeddings.weight": Exploit()}, tmp_path / "evil" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="evil hold pickled Python objects.*not loaded"):
        find_text_encoder("bert-base-uncased", tmp_path / "evil").load()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_half_downloaded_text_encoder_is_an_error_that_names_the_folder(
    tmp_path: Path, bert: TextEncoder, name: str, share: float
) -> None:
    shutil.copytree(bert.weights.path, tmp_path / "half")
    path = tmp_path / "half" / name
    if path.suffix == ".safetensors":
        save_file(torch.load(tmp_path / "half" / "pytorch_model.bin", weights_only=True), path, metadata={"format": "pt"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WeightsError, match="half"):
        find_text_encoder("bert-base-uncased", tmp_path / "half").load()


def test_the_signature_changes_with_weights_preparation_and_feature_point_only(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path)
    other = replace(encoder, weights=file_weights(write_state("test_resnet", tmp_path / "other.pth", seed=1), "test"))
    copy = replace(encoder, weights=file_weights(Path(shutil.copy(encoder.weights.path, tmp_path / "moved.pth")), "elsewhere"))
    prepared = replace(encoder, preparation=encoder.preset.native)
    point = replace(encoder, preset=replace(encoder.preset, feature="class-token-before-norm"))
    digests = [one.signature.digest for one in (encoder, other, prepared, point)]
    assert len(set(digests)) == 4
    assert copy.signature == encoder.signature


def test_the_text_signature_changes_with_the_weights_and_the_truncation(bert: TextEncoder) -> None:
    minilm = find_text_encoder("minilm")
    digests = {bert.signature.digest, minilm.signature.digest, replace(bert, max_tokens=77).signature.digest}
    assert len(digests) == 3
    assert bert.signature.stream == "text"


def test_prepare_chooses_the_preparation(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"x")
    for prepare, expected in ((None, "reference"), ("reference", "reference"), ("native", "native")):
        assert find_image_encoder("resnet18", file, prepare).signature.preparation_name == expected
    assert find_image_encoder("efficientnet-lite0").signature.preparation_name == "native"


def test_the_default_encoders_work_without_a_hub_and_tell_similar_from_different() -> None:
    network = find_text_encoder("minilm").load()
    fox, vixen, ships = torch.nn.functional.normalize(encode(network, ["a red fox", "the fox is red", "two sailing ships at sea"]))
    assert fox @ vixen > 0.7 > 0.4 > fox @ ships
    image = find_image_encoder("efficientnet-lite0")
    features = image.load()(pictures(image, 2)).detach().numpy()
    assert features.shape == (2, 1280)
    assert np.isfinite(features).all() and not np.allclose(features[0], features[1], rtol=0.1)


def test_versions_that_can_change_a_digit_are_recorded() -> None:
    assert library_versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert text_preset("minilm").package is not None
