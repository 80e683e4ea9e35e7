"""Encoders read the published point of their network, whatever else is in the batch, and their signature
tells what they are.
"""

import importlib.metadata
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d, Conv2dSame, StdConv2d
from torch import nn
from transformers import AutoModel, AutoTokenizer

from tier4k.extract.encoders.batch_norm_folding import fold_batch_norms
from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import IMAGE_PRESETS, image_preset, text_preset
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.crops import Crops
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.versions import library_versions
from tier4k.extract.weights.files import WeightsError, file_weights
from tier4k.tests.builders.data import make_picture, tiny_encoder, write_state
from tier4k.tests.builders.preprocessed import preprocessed

TEXTS = [
    "a fox",
    "None",
    "two paper boats, highly detailed, 8k, trending on artstation",
    "Ünïcode — 狐",
    "word " * 700,
]


pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> TextEncoder:
    return find_text_encoder("bert-base-uncased", bert_folder)


@pytest.fixture(scope="module")
def bert_network(bert: TextEncoder) -> TextNetwork:
    return load_network(bert)


def encode(network: TextNetwork, texts: list[str]) -> torch.Tensor:
    with torch.inference_mode():
        return network(network.tokenize(texts))


def pictures(encoder, count: int = 3) -> torch.Tensor:
    pictures = [make_picture(seed, (200, 170)) for seed in range(count)]
    return torch.stack([preprocessed(encoder.preprocessing, picture) for picture in pictures])


def test_the_vit_preset_reads_the_class_token_after_the_last_block_before_the_norm(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path, "test_vit", "class-token-before-norm")
    plain = timm.create_model("test_vit").eval()
    plain.load_state_dict(torch.load(encoder.weights.path, weights_only=True))
    seen = []
    plain.blocks[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output[:, 0]))
    batch = pictures(encoder)
    network = load_network(encoder)
    with torch.inference_mode():
        plain((batch.float() / 255 - network.mean) / network.std)
        found, expected = network(batch), seen[0]
        normed, expected_normed = (
            load_network(tiny_encoder(tmp_path, "test_vit"))(batch),
            plain.norm(expected),
        )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normed, expected_normed, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, normed, rtol=1e-2)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "resnet18"])
def test_a_cnn_gives_the_global_average_of_its_last_map(tmp_path: Path, architecture: str) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    plain = timm.create_model(architecture).eval()
    plain.load_state_dict(torch.load(encoder.weights.path, weights_only=True))
    network = load_network(encoder)
    with torch.inference_mode():
        batch = pictures(encoder)
        maps = plain.forward_features((batch.float() / 255 - network.mean) / network.std)
        torch.testing.assert_close(network(batch), maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            torch.cat([network(one[None]) for one in batch]), network(batch), rtol=1e-4, atol=1e-5
        )
    assert not network.training


def test_text_features_are_those_of_plain_padding_to_512(
    bert: TextEncoder, bert_network: TextNetwork
) -> None:
    tokenizer, model = (
        AutoTokenizer.from_pretrained(bert.weights.path),
        AutoModel.from_pretrained(bert.weights.path).eval(),
    )
    batch = tokenizer(TEXTS, padding="max_length", max_length=512, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state.double()
    expected = [
        hidden[row, : int(length)].mean(0) for row, length in enumerate(batch["attention_mask"].sum(1))
    ]
    torch.testing.assert_close(
        encode(bert_network, TEXTS).double(), torch.stack(expected), rtol=1e-4, atol=1e-5
    )


def test_a_text_has_the_same_features_alone_and_in_any_batch(bert_network: TextNetwork) -> None:
    one_by_one = torch.cat([encode(bert_network, [text]) for text in TEXTS])
    torch.testing.assert_close(encode(bert_network, TEXTS), one_by_one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encode(bert_network, TEXTS[:2]), one_by_one[:2], rtol=1e-4, atol=1e-5)


def test_in_training_texts_are_given_without_padding_and_learn_the_same(
    bert: TextEncoder, bert_network: TextNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features and gradients are those of each text alone; what is attended to stays within a text."""
    texts = [
        "a cat",
        "a very long prompt about a house on a hill, with many birds in the style of Monet",
        "dog",
        "an astronaut on a horse",
    ]
    parameters = [parameter for layer in bert_network.layers() for parameter in layer]
    factors = torch.randn(
        len(texts), bert_network.backbone.config.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    encoded: list[tuple[int, ...]] = []
    forward = bert_network.backbone.forward
    monkeypatch.setattr(
        bert_network.backbone,
        "forward",
        lambda **given: encoded.append(given["input_ids"].shape) or forward(**given),
    )
    together = bert_network(bert_network.tokenize(texts))
    alone = torch.cat([bert_network(bert_network.tokenize([text])) for text in texts])
    assert encoded[0] == (1, sum(bert_network.token_counts(texts)))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    found, expected = (
        torch.autograd.grad((features * factors).sum(), parameters) for features in (together, alone)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one, other, atol=1e-4 * max(float(gradient.abs().max()) for gradient in expected), rtol=1e-3
        )
    monkeypatch.setattr("tier4k.extract.encoders.text_network.PACKED_TOKENS", 3)
    torch.testing.assert_close(bert_network(bert_network.tokenize(texts)), alone, atol=1e-5, rtol=1e-5)
    assert encoded[-1][0] == len(texts)


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
    assert load_network(find_text_encoder("bert-base-uncased", tmp_path / "short")).tokenize(
        ["word " * 700]
    ).ids.shape == (1, 32)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path, bert: TextEncoder) -> None:
    shutil.copytree(bert.weights.path, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(
        WeightsError, match="do not fit the config.json there: .*missing.*layer.2.*one download"
    ):
        load_network(find_text_encoder("bert-base-uncased", tmp_path / "other"))
    (tmp_path / "other" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="config.json cannot be read"):
        load_network(find_text_encoder("bert-base-uncased", tmp_path / "other"))


def test_a_pickled_text_encoder_is_not_run(tmp_path: Path, bert: TextEncoder) -> None:
    class Exploit:
        def __reduce__(self):
            return Path.touch, (tmp_path / "mark",)

    shutil.copytree(bert.weights.path, tmp_path / "evil")
    torch.save({"embeddings.word_embeddings.weight": Exploit()}, tmp_path / "evil" / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="evil were not loaded: they contain pickled Python objects"):
        load_network(find_text_encoder("bert-base-uncased", tmp_path / "evil"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_half_downloaded_text_encoder_is_an_error_that_names_the_folder(
    tmp_path: Path, bert: TextEncoder, name: str, share: float
) -> None:
    shutil.copytree(bert.weights.path, tmp_path / "half")
    path = tmp_path / "half" / name
    if path.suffix == ".safetensors":
        save_file(
            torch.load(tmp_path / "half" / "pytorch_model.bin", weights_only=True),
            path,
            metadata={"format": "pt"},
        )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(WeightsError, match="half"):
        load_network(find_text_encoder("bert-base-uncased", tmp_path / "half"))


def test_the_signature_changes_with_weights_preparation_and_feature_point_only(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path)
    other = replace(
        encoder, weights=file_weights(write_state("test_resnet", tmp_path / "other.pth", seed=1), "test")
    )
    copy = replace(
        encoder,
        weights=file_weights(Path(shutil.copy(encoder.weights.path, tmp_path / "moved.pth")), "elsewhere"),
    )
    prepared = replace(encoder, preprocessing=encoder.preset.native)
    point = replace(encoder, preset=replace(encoder.preset, feature="class-token-before-norm"))
    digests = [one.signature.digest for one in (encoder, other, prepared, point)]
    assert len(set(digests)) == 4
    assert copy.signature == encoder.signature


def test_the_text_signature_changes_with_the_weights_and_the_truncation(bert: TextEncoder) -> None:
    minilm = find_text_encoder("minilm")
    shorter = replace(bert, model=replace(bert.model, max_tokens=77))
    digests = {bert.signature.digest, minilm.signature.digest, shorter.signature.digest}
    assert len(digests) == 3
    assert bert.signature.stream == "text"


def test_prepare_chooses_the_preparation(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"x")
    for preprocessing, expected in ((None, "reference"), ("reference", "reference"), ("native", "native")):
        assert (
            find_image_encoder(ImageChoice("resnet18", preprocessing), file).signature.preparation_name
            == expected
        )
    assert find_image_encoder(ImageChoice("efficientnet-lite0")).signature.preparation_name == "native"


def test_the_default_encoders_work_without_a_hub_and_tell_similar_from_different() -> None:
    network = load_network(find_text_encoder("minilm"))
    fox, vixen, ships = torch.nn.functional.normalize(
        encode(network, ["a red fox", "the fox is red", "two sailing ships at sea"])
    )
    assert fox @ vixen > 0.7 > 0.4 > fox @ ships
    image = find_image_encoder(ImageChoice("efficientnet-lite0"))
    features = load_network(image)(pictures(image, 2)).detach().numpy()
    assert features.shape == (2, 1280)
    assert np.isfinite(features).all() and not np.allclose(features[0], features[1], rtol=0.1)


def test_versions_that_can_change_a_digit_are_recorded() -> None:
    assert library_versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert text_preset("minilm").weights.package is not None


def test_a_program_that_is_not_installed_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version

    def without_tier4k(name: str) -> str:
        if name == "tier4k":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", without_tier4k)
    versions = library_versions()
    assert versions["tier4k"] == "unknown version"
    assert versions["torch"] == installed("torch")


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every batch normalisation given numbers of its own, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight):
                if tensor is not None:
                    tensor.data.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            for tensor in (module.running_mean, module.bias):
                if tensor is not None:
                    tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def assert_folds(network: nn.Module, left: int, side: int = 32) -> None:
    """Folding changes no number and leaves so many batch normalisations."""
    network = randomised(network)
    batch = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(batch)
        fold_batch_norms(network)
        found = network(batch)
    assert norms(network) == left
    assert torch.isfinite(expected).all() and expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


# How many batch normalisations follow something else than a convolution.
LEFT = {
    "test_resnet": 0,
    "test_efficientnet": 0,
    "test_byobnet": 0,
    "resnetv2_18": 9,
    "test_vit": 0,
    "test_convnext": 0,
    "test_nfnet": 0,
}
UNNORMALISED = ("test_vit", "test_convnext", "test_nfnet")


@pytest.mark.parametrize("architecture", LEFT)
@pytest.mark.parametrize("feature", ["pooled", "multilevel"])
def test_a_frozen_network_gives_the_same_features(tmp_path: Path, architecture: str, feature: str) -> None:
    encoder = replace(tiny_encoder(tmp_path, architecture), feature=feature)
    batch = pictures(encoder, 2)
    network = load_network(encoder)
    before = norms(network)
    with torch.inference_mode():
        expected = network(batch)
        found = network.frozen("fp32")(batch)
    assert norms(network) == LEFT[architecture] and (before > LEFT[architecture]) == (
        architecture not in UNNORMALISED
    )
    assert torch.isfinite(expected).all() and not torch.equal(expected[0], expected[1])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not any(parameter.requires_grad for parameter in network.parameters())


class Twice(nn.Module):
    """The convolution's output goes to two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class SharedConvolution(Twice):
    """One convolution with two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.other(self.conv(x.flip(3)))


class SharedNorm(Twice):
    """Two convolutions with one normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) + self.norm(self.other(x))


class TwoNames(Twice):
    """The convolution and the normalisation are known by two names each, and called by the second."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(self.conv, self.norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Untraceable(nn.Module):
    """Its course depends on what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) if x.sum() > 1e9 else self.body(x.flip(2))


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 0),
        (
            nn.Sequential(
                nn.Conv2d(3, 4, 3, bias=False),
                BatchNormAct2d(4),
                nn.Conv2d(4, 6, 3, groups=2),
                nn.BatchNorm2d(6),
            ),
            0,
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), 0),
        (nn.Sequential(Conv2dSame(3, 4, 3, stride=2), BatchNormAct2d(4, act_layer=nn.SiLU)), 0),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), 1),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), 1),
        (nn.Sequential(StdConv2d(3, 4, 3), nn.BatchNorm2d(4)), 1),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)), 1),
        (Twice(), 1),
        (SharedConvolution(), 2),
        (SharedNorm(), 1),
        (TwoNames(), 0),
        (Untraceable(), 1),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_only_what_directly_follows_a_plain_convolution_is_folded_into_it(
    network: nn.Module, left: int
) -> None:
    assert_folds(network, left)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_half_precision_casts_the_weights_once_and_stays_close(
    tmp_path: Path, architecture: str, precision: str
) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    batch = pictures(encoder, 4)
    half = load_network(replace(encoder, precision=precision)).frozen(precision)
    assert {parameter.dtype for parameter in half.backbone.parameters()} == {
        {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    }
    with torch.inference_mode():
        found, expected = half(batch), load_network(encoder)(batch)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert torch.nn.functional.cosine_similarity(found, expected).min() >= 0.999


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_texts_in_half_precision_stay_close(
    bert: TextEncoder, bert_network: TextNetwork, precision: str
) -> None:
    half = load_network(bert).frozen(precision)
    assert next(half.backbone.parameters()).dtype != torch.float32
    found, expected = encode(half, TEXTS), encode(bert_network, TEXTS)
    assert found.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found, expected).min() >= 0.999


def test_precisions_have_stores_of_their_own(tmp_path: Path, bert: TextEncoder) -> None:
    for encoder in (tiny_encoder(tmp_path), bert):
        signatures = [
            replace(encoder, precision=precision).signature for precision in ("fp32", "bf16", "fp16")
        ]
        assert len({one.digest for one in signatures}) == len({one.folder_name for one in signatures}) == 3
        assert [one.precision for one in signatures] == ["fp32", "bf16", "fp16"] and {
            one.dtype for one in signatures
        } == {"float32"}
        assert all(f"-{one.precision}-" in one.folder_name for one in signatures)


def test_what_is_asked_of_an_image_encoder_is_in_its_signature(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    choice = ImageChoice("resnet18", "native", 384, "multilevel", "bf16", Crops(3, 7))
    signature = find_image_encoder(choice, tmp_path / "w.pth").signature
    assert (signature.preparation_name, signature.feature_name, signature.precision) == (
        "native at 384",
        "multilevel",
        "bf16",
    )
    assert "shorter side 384 bilinear, no crop" in signature.preparation
    assert signature.views == "centre + 3 random crops and flips, seed 7"
    asked = [
        {},
        {"image_size": 512},
        {"image_size": "full"},
        {"preprocessing": "reference"},
        {"feature": "pooled"},
        {"precision": None},
    ]
    asked += [{"crops": Crops(4, 7)}, {"crops": Crops(3, 8)}, {"crops": None}]
    digests = {
        find_image_encoder(replace(choice, **given), tmp_path / "w.pth").signature.digest for given in asked
    }
    assert len(digests) == len(asked)


@pytest.mark.parametrize("crop", ["squash", "border"])
def test_a_preparation_without_crops_has_no_random_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop: str
) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    preset = image_preset("resnet18")
    monkeypatch.setitem(IMAGE_PRESETS, "resnet18", replace(preset, native=replace(preset.native, crop=crop)))
    with pytest.raises(EncoderError, match=f"'{crop}', which does not support .*: do not pass --crops"):
        find_image_encoder(ImageChoice("resnet18", "native", crops=Crops(2)), tmp_path / "w.pth")
    assert (
        find_image_encoder(ImageChoice("resnet18", "native", crops=Crops(0)), tmp_path / "w.pth").crops
        == Crops()
    )
