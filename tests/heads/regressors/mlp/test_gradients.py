"""Gradients written out by hand equal autograd's, with torch's private operators and without them."""

import pytest
import torch
from torch import Tensor

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.mlp import gradients
from tier4k.heads.regressors.mlp.gradients import (
    autograd_gradients,
    plain_relu_gradient,
    published_gradients,
    relu_gradient,
)
from tier4k.heads.regressors.mlp.losses import mse
from tier4k.heads.regressors.mlp.network import Network

HEADS, ROWS, WIDTH, HIDDEN = 3, 5, 4, 6


@pytest.fixture(name="random")
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_private_operator_of_relu_and_its_plain_formula_agree_to_the_last_bit(
    random: torch.Generator,
) -> None:
    output = torch.relu(torch.randn(HEADS, ROWS, HIDDEN, generator=random))
    output[0, 0, 0] = torch.nan  # NaN stays NaN, so that a head that diverges is noticed
    by_output = torch.randn(HEADS, ROWS, HIDDEN, generator=random)
    plain = plain_relu_gradient(by_output, output)
    assert torch.equal(relu_gradient(by_output, output), plain)
    assert plain[0, 0, 0] == by_output[0, 0, 0]
    assert bool((plain[output == 0] == 0).all())


@pytest.mark.parametrize("private", [True, False])
def test_gradients_of_the_published_head_equal_those_of_autograd(
    random: torch.Generator, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not private:
        monkeypatch.setattr(gradients, "relu_gradient", plain_relu_gradient)
    network = Network.of(Streams.of(image=WIDTH), HIDDEN, "relu", "concatenation")
    flat = torch.stack([network.initial(random) for _ in range(HEADS)])
    layers = network.tensors(flat)
    inputs = torch.randn(HEADS, ROWS, WIDTH, generator=random)
    scores = torch.randn(HEADS, ROWS, generator=random)
    products = network.products(layers, inputs)
    by_hand = network.tensors(torch.zeros_like(flat))
    by_autograd = network.tensors(torch.zeros_like(flat))
    loss, found = published_gradients(network, layers, by_hand, products, scores)
    expected_loss, expected = autograd_gradients(network, mse, layers, by_autograd, products, scores, None)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(found["fc1"], expected["fc1"])
    assert_last_layer_close(by_hand, by_autograd)


def assert_last_layer_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in ("fc2.weight", "fc2.bias"):
        torch.testing.assert_close(found[name], expected[name])
