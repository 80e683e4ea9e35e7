"""Encoders of every architecture family of timm compute what timm itself computes."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tier4k.extract.encoders.batch_norm_folding import fold_batch_norms
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.encoders.timm_models import UNFOLDED_MODULES
from tier4k.extract.images.preprocessing import reference
from tier4k.extract.weights.files import Weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_hub")]

# Families, which are modules of timm.models, that this test leaves out, at most one of 20.
LEFT_OUT = {
    "deepseek_vit": "the smallest has 412 million parameters",
    "gemma4_vit": "the smallest has 167 million parameters",
}
# Words in the names of timm's networks, from the smallest network to the largest.
SIZES = (
    "test", "zepto", "atto", "femto", "pico", "nano", "n", "xxxs", "xxs", "xxt", "xs", "extra",
    "xt", "tiny", "t", "t0", "mini", "small", "s", "s0", "s1", "m0", "b0", "lite0",
)  # fmt: skip
# Weights, repeated as often as a layer needs them; no width of a layer divides this prime number.
NUMBERS = torch.randn(1_048_573, generator=torch.Generator().manual_seed(0))
# Side in pixels of images for networks that accept more than one.
SIDE = 96
# Families whose networks accept more than one size, but not `SIDE`.
SIDES = {"byoanet": 224}


class WithoutRandomNumbers(TorchFunctionMode):
    """Leaves weights 0 where networks initialise them by random numbers, which takes most of the time."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        name = getattr(function, "__name__", "")
        if name == "erfinv_":
            return args[0]
        if name in ("uniform_", "normal_"):
            tensor = args[0] if args else given["tensor"]
            tensor.detach().zero_()
            return tensor
        return function(*args, **given)


def families() -> list[str]:
    return [name for name in timm.list_modules() if timm.list_models(module=name)]


def by_size(name: str) -> tuple[int, int, int, str]:
    """A key that sorts networks of a family from small to large, without building them."""
    words = [SIZES.index(word) for word in re.split(r"[_\W]", name) if word in SIZES]
    side = timm.get_pretrained_cfg(name).input_size[-1]
    numbers = sum(map(int, re.findall(r"\d+", name)))
    return (min(words, default=len(SIZES)), side, numbers, name)


def smallest(family: str) -> str:
    return min(timm.list_models(module=family), key=by_size)


def random_network(architecture: str) -> nn.Module:
    """A network of timm with random weights and random statistics of its batch normalisations."""
    torch.manual_seed(0)
    with WithoutRandomNumbers():
        network = timm.create_model(architecture).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            repeats = -(-parameter.numel() // len(NUMBERS))
            numbers = NUMBERS.repeat(repeats)[: parameter.numel()].view(parameter.shape)
            parameter.data = numbers / parameter[0].numel() ** 0.5
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.3)
            # Above 1, so that features stay small: rounding grows with them.
            module.running_var.uniform_(1, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.normal_(module.bias, 0, 0.3)
    return network


def encoder_of(architecture: str, network: nn.Module, side: int, folder: Path) -> ImageEncoder:
    """The multilevel encoder with the weights of a network, classifier included."""
    torch.save(network.state_dict(), folder / "weights.pth")
    preset = replace(image_preset(f"timm:{architecture}"), reference=reference(side, side))
    weights = Weights(folder / "weights.pth", "0" * 64, "test")
    return ImageEncoder(preset, weights, preset.reference, "multilevel")


def expected_levels(network: nn.Module, inputs: Tensor, levels: Levels) -> list[Tensor]:
    """The statistics of timm's intermediate features, by level."""
    if "class" in levels.statistics:
        blocks = [int(name.removeprefix("block")) - 1 for name in levels.names]
        outputs = network.forward_intermediates(
            inputs, indices=blocks, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
        )
        maps = [patches for patches, _ in outputs]
        parts = [[prefix[:, 0]] for _, prefix in outputs]
    else:
        last, maps = network.forward_intermediates(inputs)
        maps = [*maps, last] if levels.names[-1] == "head" else maps
        parts = [[] for _ in maps]
    statistics = []
    for level, part in zip(maps, parts, strict=True):
        positions = tuple(range(2, level.ndim)) if "class" not in levels.statistics else (1,)
        values = level.double()
        spread = [values.mean(positions), values.std(positions, correction=0)]
        statistics.append(torch.cat([*part, *spread], 1))
    return statistics


def assert_close(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-4 * float(expected.abs().max())
    assert tolerance > 0
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=tolerance)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def is_unfolded(frozen: ImageNetwork, plain: nn.Module) -> bool:
    """Whether batch norms of a frozen network could be folded and are not."""
    if norms(frozen) < norms(plain):
        return False
    return fold_batch_norms(copy.deepcopy(plain))


def test_few_families_are_left_out() -> None:
    assert set(LEFT_OUT) <= set(families()) and len(LEFT_OUT) <= 0.05 * len(families())


@pytest.mark.parametrize("family", [name for name in families() if name not in LEFT_OUT])
def test_features_are_those_of_timm(tmp_path: Path, family: str) -> None:
    architecture = smallest(family)
    config = timm.get_pretrained_cfg(architecture)
    side = config.input_size[-1] if config.fixed_input_size else SIDES.get(family, SIDE)
    plain = random_network(architecture)
    encoder = encoder_of(architecture, plain, side, tmp_path)
    images = torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(1))
    inputs = (images / 255 - torch.tensor(encoder.preprocessing.mean).view(3, 1, 1)) / torch.tensor(
        encoder.preprocessing.std
    ).view(3, 1, 1)
    try:
        with WithoutRandomNumbers():
            levels = encoder.preset.require_levels()
    except EncoderError:
        levels, encoder = None, replace(encoder, feature="pooled")
        assert not can_give_levels(plain, inputs)
    with WithoutRandomNumbers():
        network = load_image_network(encoder)
    with torch.inference_mode():
        expected = plain.forward_head(plain.forward_features(inputs), pre_logits=True)
        # The comparison when the network is frozen decides whether it is folded.
        network.levels = levels and replace(levels, folded=True)
        network = network.frozen("fp32")
        if levels is not None:
            widths = [width * len(levels.statistics) for width in levels.widths]
            found = network(images.byte()).split(widths, 1)
            for found_level, expected_level in zip(
                found, expected_levels(plain, inputs, levels), strict=True
            ):
                assert_close(found_level, expected_level)
        network.levels = None
        assert_close(network(images.byte()), expected)
    if levels is not None:
        unfolded = is_unfolded(network, plain)
        assert unfolded == (type(plain).__module__.removeprefix("timm.models.") in UNFOLDED_MODULES)
        assert levels.folded != unfolded


def can_give_levels(network: nn.Module, inputs: Tensor) -> bool:
    """Whether timm gives one map for each stage."""
    if not hasattr(network, "forward_intermediates"):
        return False
    with torch.inference_mode():
        maps = network.forward_intermediates(inputs, intermediates_only=True)
    return all(isinstance(one, Tensor) for one in maps)
