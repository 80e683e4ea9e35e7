"""Layers that are computed in one step give the outputs of the plain modules."""

from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
from timm.layers import QuickGELU
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from tier4k.extract.encoders.batch_norm_folding import fold_batch_norms
from tier4k.extract.encoders.fused_layers import (
    FUSED_CLASSES,
    fuse_residual_blocks,
    replace_quick_gelu,
)

FUSED = tuple(FUSED_CLASSES.values())

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_convolution_pointwise") or not torch.backends.mkldnn.is_available(),
    reason="this torch has no oneDNN",
)


@pytest.fixture
def avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def resnet(block: str, **options: Any) -> nn.Module:
    """A small folded ResNet whose blocks all change their inputs (timm starts with sums that add nothing)."""
    torch.manual_seed(0)
    kinds = {kind.__name__: kind for kind in FUSED_CLASSES}
    network = timm.models.resnet.ResNet(
        kinds[block], (2, 3, 1, 2), channels=(8, 16, 24, 32), stem_width=8, num_classes=0, **options
    ).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    fold_batch_norms(network)
    return network.requires_grad_(False)


def pixels() -> Tensor:
    return torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def fused_blocks(network: nn.Module) -> int:
    return sum(isinstance(module, FUSED) for module in network.modules())


@needs_onednn
@pytest.mark.usefixtures("avx512")
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize(
    ("block", "options"),
    [
        ("BasicBlock", {}),
        ("Bottleneck", {}),
        ("Bottleneck", {"cardinality": 4, "base_width": 16}),
        ("Bottleneck", {"avg_down": True}),
        ("BasicBlock", {"output_stride": 8}),
    ],
    ids=str,
)
def test_every_level_of_a_fused_resnet_is_that_of_the_plain_one(
    block: str,
    options: dict[str, Any],
    memory_format: torch.memory_format,
) -> None:
    plain = resnet(block, **options).to(memory_format=memory_format)
    fused = deepcopy(plain)
    fuse_residual_blocks(fused)
    assert fused_blocks(fused) == 8
    inputs = pixels().contiguous(memory_format=memory_format)
    with torch.inference_mode():
        expected, expected_maps = plain.double().forward_intermediates(inputs.double())
        found, maps = fused.forward_intermediates(inputs)
    for one, other in zip([found, *maps], [expected, *expected_maps], strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5 * scale)


@needs_onednn
@pytest.mark.usefixtures("avx512")
@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 in oneDNN here")
def test_a_fused_bfloat16_resnet_differs_from_float32_no_more_than_the_plain_one() -> None:
    exact = resnet("Bottleneck").to(memory_format=torch.channels_last)
    plain = deepcopy(exact).bfloat16()
    fused = deepcopy(plain)
    fuse_residual_blocks(fused)
    inputs = pixels().contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = exact(inputs)
        plain_error = (plain(inputs.bfloat16()).float() - expected).norm()
        fused_error = (fused(inputs.bfloat16()).float() - expected).norm()
    assert 0 < fused_error <= 1.25 * plain_error


@needs_onednn
@pytest.mark.usefixtures("avx512")
def test_channels_outermost_and_maps_of_one_pixel_take_the_plain_path() -> None:
    plain = resnet("Bottleneck").bfloat16()
    fused = deepcopy(plain)
    fuse_residual_blocks(fused)
    with torch.inference_mode():
        for inputs in (pixels().bfloat16(), pixels()[..., :8, :8].bfloat16()):
            assert torch.equal(fused(inputs), plain(inputs))


@needs_onednn
@pytest.mark.usefixtures("avx512")
def test_inputs_of_the_first_block_of_a_stage_are_kept() -> None:
    network = resnet("BasicBlock")
    fuse_residual_blocks(network)
    inputs = torch.randn(2, 64, 9, 9).contiguous(memory_format=torch.channels_last)
    kept = inputs.clone()
    with torch.inference_mode():
        network.layer1(inputs)
    assert torch.equal(inputs, kept)


@needs_onednn
@pytest.mark.usefixtures("avx512")
def test_gradients_autocast_and_exports_take_the_plain_path() -> None:
    plain = resnet("BasicBlock").to(memory_format=torch.channels_last)
    fused = deepcopy(plain)
    fuse_residual_blocks(fused)
    inputs = pixels().contiguous(memory_format=torch.channels_last).requires_grad_()
    (expected,) = torch.autograd.grad(plain(inputs).sum(), inputs)
    (found,) = torch.autograd.grad(fused(inputs).sum(), inputs)
    assert torch.equal(found, expected)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(fused(inputs), plain(inputs))
    maps = torch.randn(2, 64, 9, 9).contiguous(memory_format=torch.channels_last)
    exported = torch.export.export(fused.layer1, (maps,))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.usefixtures("avx512")
@pytest.mark.parametrize(
    "options",
    [
        {"act_layer": nn.SiLU},
        {"block_args": {"attn_layer": "se"}},
    ],
    ids=str,
)
def test_blocks_with_other_parts_are_not_fused(options: dict[str, Any]) -> None:
    network = resnet("Bottleneck", **options)
    expected = network(pixels())
    fuse_residual_blocks(network)
    assert torch.allclose(network(pixels()), expected, rtol=1e-4, atol=1e-4)
    assert fused_blocks(network) == 0


@pytest.mark.usefixtures("avx512")
def test_unfolded_blocks_are_not_fused() -> None:
    network = timm.create_model("test_resnet", num_classes=0).eval()
    fuse_residual_blocks(network)
    assert fused_blocks(network) == 0


def test_other_processors_keep_plain_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    network = resnet("BasicBlock")
    fuse_residual_blocks(network)
    assert fused_blocks(network) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_quick_gelu_as_silu_gives_the_same_outputs(bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(Mlp(8, 32, act_layer=QuickGELU, bias=bias)).eval()
    changed = deepcopy(plain)
    replace_quick_gelu(changed)
    inputs = 3 * torch.randn(2, 5, 8)
    assert type(changed[0].act) is nn.SiLU
    torch.testing.assert_close(
        changed(inputs).double(), plain.double()(inputs.double()), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("perceptron", [Mlp(8, 32), Mlp(8, 32, act_layer=QuickGELU, norm_layer=nn.LayerNorm)])
def test_other_perceptrons_keep_their_activation(perceptron: Mlp) -> None:
    activation = perceptron.act
    replace_quick_gelu(perceptron)
    assert perceptron.act is activation
