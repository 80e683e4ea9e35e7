"""Networks that are made faster on a CPU compute the same, forwards and backwards."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import Tensor, nn

from tier4k.extract.encoders import cpu
from tier4k.extract.encoders.cpu import OneDnnLinear, with_onednn, with_plain_attention

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
SHAPES = [(7, 5), (1, 5), (2, 3, 5), (2, 3, 4, 5), (5,), (0, 5)]


@pytest.fixture(autouse=True)
def avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these processors are given computes the same on every other one."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(cpu, "is_intel", lambda: False)


def faster(layer: nn.Linear) -> OneDnnLinear:
    """Another layer with its parameters, which runs on oneDNN."""
    made = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    made.weight, made.bias = layer.weight, layer.bias
    found = with_onednn(made)
    assert isinstance(found, OneDnnLinear)
    return found


def gradients_of(layer: nn.Module, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What a layer makes of inputs, and the slopes of a sum that weighs every number of it otherwise."""
    inputs = inputs.clone().requires_grad_()
    found = layer(inputs)
    weights = torch.arange(1, found.numel() + 1, dtype=found.dtype).reshape(found.shape).sin()
    return found, list(torch.autograd.grad((found * weights).sum(), [inputs, *layer.parameters()]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_what_it_is_in_float64(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(5, 3, bias), torch.randn(shape)
    expected, expected_slopes = gradients_of(deepcopy(layer).double(), inputs.double())
    found, found_slopes = gradients_of(faster(layer), inputs)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for one, other in zip(found_slopes, expected_slopes, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_inputs_and_slopes_may_lie_in_memory_as_they_like() -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(6, 4), torch.randn(6, 9, 2).transpose(0, 2)
    expected = gradients_of(deepcopy(layer).double(), inputs.double())
    found = gradients_of(faster(layer), inputs)
    torch.testing.assert_close(
        [found[0], *found[1]], [expected[0], *expected[1]], check_dtype=False, rtol=1e-5, atol=1e-5
    )
    every_third = torch.randn(5, 12)[:, ::2]
    torch.testing.assert_close(faster(layer)(every_third), layer(every_third), rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(faster(layer)(every_third).sum(), layer.bias)[0].tolist() == [5] * 4, (
        "a slope without strides"
    )


def test_frozen_weights_get_no_slopes() -> None:
    layer = faster(nn.Linear(5, 3)).requires_grad_(False)
    inputs = torch.randn(2, 5, requires_grad=True)
    layer(inputs).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    output = layer(inputs)  # holds the tensors that are saved for its gradient
    held = output.grad_fn.next_functions[0][0].saved_tensors
    assert len(held) == 2 and held[0] is None, "inputs should not be kept for nothing"
    torch.testing.assert_close(inputs.grad, layer.weight.sum(0).expand(2, 5))


@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_what_comes_out_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    layer, inputs = nn.Linear(5, 3), torch.randn(shape)
    expected = gradients_of(nn.Sequential(layer, nn.ReLU()), inputs)
    torch.testing.assert_close(
        gradients_of(nn.Sequential(faster(layer), nn.ReLU(inplace=True)), inputs), expected
    )


def test_layers_of_two_names_stay_one_and_those_with_computed_weights_as_they_are() -> None:
    shared, normalised = nn.Linear(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    network = nn.Sequential(shared, normalised, shared)
    inputs = torch.randn(3, 4)
    expected = network(inputs)
    changed = with_onednn(network)
    assert changed[0] is changed[2] and isinstance(changed[0], OneDnnLinear)
    torch.testing.assert_close(changed(inputs), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_a_bfloat16_layer_rounds_the_exact_outputs(bias: bool) -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(64, 32, bias).bfloat16(), torch.randn(2, 10, 64).bfloat16()
    found = faster(layer)(inputs)
    expected = deepcopy(layer).double()(inputs.double())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("kind", ["float64", "autocast"])
def test_other_numbers_are_torchs_to_the_last_bit(kind: str) -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(64, 32), torch.randn(10, 64)
    changed = faster(layer)
    if kind != "autocast":
        layer, changed, inputs = layer.to(torch.float64), changed.to(torch.float64), inputs.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        expected, found = layer(inputs), changed(inputs)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_network_keeps_its_parameters_and_computes_the_same() -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2).train()
    pictures, parameters, expected = torch.randn(2, 3, 224, 224), dict(network.named_parameters()), None
    expected = gradients_of(network, pictures)
    changed = with_onednn(network)
    assert [name for name, module in changed.named_modules() if isinstance(module, OneDnnLinear)][:2] == [
        "blocks.0.attn.qkv",
        "blocks.0.attn.proj",
    ]
    assert not any(type(module) is nn.Linear for module in changed.modules())
    assert all(parameter is parameters[name] for name, parameter in changed.named_parameters()) and len(
        parameters
    ) == len(list(changed.parameters()))
    assert all(module.training for module in changed.modules())
    for kind in (with_onednn, with_plain_attention):
        found = gradients_of(kind(changed), pictures)
        torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)
        for one, other in zip(found[1], expected[1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
    assert not any(module.fused_attn for module in changed.modules() if hasattr(module, "fused_attn"))


def test_other_processors_keep_torchs_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    network = nn.Sequential(nn.Linear(2, 2))
    assert type(with_onednn(network)[0]) is nn.Linear


def test_intel_processors_keep_the_float32_products_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "is_intel", lambda: True)
    assert type(with_onednn(nn.Sequential(nn.Linear(2, 2)))[0]) is nn.Linear
    assert type(with_onednn(nn.Sequential(nn.Linear(2, 2).bfloat16()))[0]) is OneDnnLinear


def test_compilers_see_an_ordinary_layer() -> None:
    layer = with_onednn(nn.Sequential(nn.Linear(5, 3)))
    exported = torch.export.export(layer, (torch.randn(2, 5),))
    assert not any(
        "mkldnn" in str(node.target) or "apply" in str(node.target) for node in exported.graph.nodes
    )
