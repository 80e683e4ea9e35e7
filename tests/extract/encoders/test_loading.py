"""Loaded networks: their weights are those of the file, in memory of their own, and can be trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.initial_weights import UndefinedInitialWeights
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.pipeline.load import load_for_encoding, load_network
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.weights.files import Weights
from tier4k.tests.builders.data import tiny_encoder
from tier4k.tests.builders.scorers import write_clip
from tier4k.tests.builders.text_models import write_text_folder

pytestmark = pytest.mark.usefixtures("no_hub")

CPU = torch.device("cpu")


def encoder_of(architecture: str, state: dict[str, Tensor], path: Path) -> ImageEncoder:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    preset = image_preset(f"timm:{architecture}")
    return ImageEncoder(preset, Weights(path, "0" * 64, "test"), preset.reference)


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


@pytest.mark.parametrize("architecture", ["test_vit_relpos", "test_maxvit"])
def test_a_network_is_the_one_that_its_library_creates_and_loads(tmp_path: Path, architecture: str) -> None:
    plain = timm.create_model(architecture, num_classes=0)
    for tensor in plain.state_dict().values():
        tensor.copy_(torch.arange(tensor.numel()).remainder(251).view(tensor.shape))
    assert named_tensors(plain).keys() > plain.state_dict().keys(), "relative positions are in no file"
    encoder = encoder_of(architecture, plain.state_dict(), tmp_path / "weights.pth")
    found, expected = named_tensors(load_network(encoder).backbone), named_tensors(plain)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
        assert (tensor.dtype, tensor.requires_grad) == (expected[name].dtype, expected[name].requires_grad)


def test_no_initial_weight_is_drawn(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path)
    before = torch.get_rng_state()
    network = load_network(encoder)
    assert torch.equal(torch.get_rng_state(), before)
    timm.create_model("test_resnet")
    assert not torch.equal(torch.get_rng_state(), before), "a drawing of weights does not show"
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_only_parameters_keep_undefined_values() -> None:
    with UndefinedInitialWeights():
        buffer = torch.empty(3).fill_(2.0)
        parameter = nn.Parameter(torch.zeros(3)).requires_grad_(False)
        with torch.no_grad():
            assert nn.init.normal_(parameter.fill_(4.0)) is parameter
    assert buffer.tolist() == [2, 2, 2]
    assert parameter.tolist() == [0, 0, 0]
    assert not parameter.requires_grad


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_every_layer_of_a_loaded_network_is_trained(tmp_path: Path, architecture: str) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    network = load_network(encoder).train()
    side = encoder.preprocessing.size
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.randint(256, (2, 3, side, side), dtype=torch.uint8)).square().sum().backward()
    optimizer.step()
    for parameter, earlier in zip(network.parameters(), before, strict=True):
        assert not torch.equal(parameter, earlier)


def timm_file(suffix: str) -> Callable[[Path], tuple[Path, Any]]:
    def write(folder: Path) -> tuple[Path, Any]:
        state = timm.create_model("test_vit", num_classes=0).state_dict()
        path = folder / f"weights{suffix}"
        return path, encoder_of("test_vit", state, path)

    return write


def text_folder(folder: Path) -> tuple[Path, Any]:
    write_text_folder(folder / "bert", "bert")
    encoder = find_text_encoder(f"hf:{folder / 'bert'}", folders=[Path("/")])
    return folder / "bert/model.safetensors", encoder


def image_folder(folder: Path) -> tuple[Path, Any]:
    write_text_folder(folder / "clip", "clip")
    encoder = find_image_encoder(ImageChoice(f"hf:{folder / 'clip'}"), folders=[Path("/")])
    return folder / "clip/model.safetensors", encoder


def scorer_folder(folder: Path) -> tuple[Path, Any]:
    return write_clip(folder / "clip") / "model.safetensors", find_scorer("clipscore", folder / "clip")


@pytest.mark.parametrize(
    "write",
    [timm_file(".pth"), timm_file(".safetensors"), text_folder, image_folder, scorer_folder],
    ids=["timm-pth", "timm-safetensors", "text", "image", "scorer"],
)
def test_a_file_that_is_overwritten_changes_no_loaded_weight(
    tmp_path: Path, write: Callable[[Path], tuple[Path, Any]]
) -> None:
    path, encoder = write(tmp_path)
    network = load_network(encoder)
    with path.open("r+b") as file:  # in place, as `cp` and `rsync --inplace` write
        file.write(bytes(path.stat().st_size))
    for name, tensor in named_tensors(network).items():
        if name.endswith("weight"):
            assert tensor.any(), name


def test_a_network_that_does_not_fit_into_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = tiny_encoder(tmp_path)
    to = nn.Module.to

    def refuse(network: nn.Module, *place: Any, **options: Any) -> nn.Module:
        if place == (CPU,):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return to(network, *place, **options)

    monkeypatch.setattr(nn.Module, "to", refuse)
    with pytest.raises(ExtractionError, match="'cpu': pass --precision bf16, or another --device"):
        load_for_encoding(encoder, CPU, compiled=False)
