"""Gradients of a stack's loss: written out for the published head and loss, by autograd for all others.

Both functions return the loss (K,) and its gradients by the first layers' products, (K, B, h) by layer, and
write the gradients by the last layer's weights and bias into buffers that exist already.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tier4k.heads.regressors.mlp.losses import Loss
from tier4k.heads.regressors.mlp.network import Network, Tensors

LAST_LAYER = ("fc2.weight", "fc2.bias")


def published_gradients(
    network: Network,
    layers: Tensors,
    layer_gradients: Tensors,
    products: Tensors,
    scores: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return loss and gradients of the published network with the mean squared error.

    Args:
        network: The published network.
        layers: The tensors of K heads.
        layer_gradients: Buffers of the gradients of `layers`; the gradients of the last layer are written.
        products: The first layer's products (K, B, h).
        scores: Standardised scores (K, B).
    """
    hidden = network.hidden_units(products)
    error = network.scores(layers, hidden) - scores
    by_score = (error * (2 / scores.shape[1])).unsqueeze(2)
    torch.bmm(by_score.mT, hidden, out=layer_gradients["fc2.weight"])
    torch.sum(by_score, 1, keepdim=True, out=layer_gradients["fc2.bias"])
    product_gradient = relu_gradient(by_score * layers["fc2.weight"], hidden)
    return error.square().mean(1), {"fc1": product_gradient}


def autograd_gradients(
    network: Network,
    loss: Loss,
    layers: Tensors,
    layer_gradients: Tensors,
    products: Tensors,
    scores: Tensor,
    mask: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return loss and gradients of any network with any loss.

    Args:
        network: Shape of the K networks.
        loss: Loss function of `LOSSES`.
        layers: The tensors of K heads.
        layer_gradients: Buffers of the gradients of `layers`; the gradients of the last layer are written.
        products: The first layers' products (K, B, h).
        scores: Standardised scores (K, B).
        mask: Factors (K, B, h) of the hidden units; None without dropout.
    """
    leaves = _leaves(products, layers)
    with torch.enable_grad():
        hidden = network.hidden_units(leaves)
        if mask is not None:
            hidden = hidden * mask
        losses = loss(network.scores(leaves, hidden), scores)
        gradients = torch.autograd.grad(losses.sum(), list(leaves.values()))
    by_leaf = dict(zip(leaves, gradients, strict=True))
    for name in LAST_LAYER:
        layer_gradients[name].copy_(by_leaf.pop(name))
    return losses.detach(), by_leaf


def relu_gradient(by_output: Tensor, output: Tensor) -> Tensor:
    """Return the gradient by ReLU's input, from the gradient by its output and that output.

    An operator of torch does this in one pass. The operator is private, so a plain formula is used where the
    operator is missing.
    """
    if hasattr(torch.ops.aten, "threshold_backward"):
        return torch.ops.aten.threshold_backward(by_output, output, 0)
    return plain_relu_gradient(by_output, output)


def plain_relu_gradient(by_output: Tensor, output: Tensor) -> Tensor:
    """Return what `relu_gradient` returns: 0 where the output is 0, and `by_output` elsewhere."""
    return torch.where(output <= 0, 0.0, by_output)


def _leaves(products: Tensors, layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inputs = dict(products)
    for name in LAST_LAYER:
        inputs[name] = layers[name]
    return {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
