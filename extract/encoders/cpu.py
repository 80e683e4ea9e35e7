"""The same networks, faster on a CPU, equal up to rounding."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Network = TypeVar("Network", bound=nn.Module)


def with_onednn(network: Network) -> Network:
    """Return this network with oneDNN's products in its linear layers, where the processor has AVX-512.

    Parameters stay the same objects. torch multiplies bfloat16 matrices and convolves with oneDNN, but
    multiplies
    float32 matrices with MKL. MKL uses half of an AVX-512 unit on processors of other makers than Intel: on
    AMD's
    Zen 5 oneDNN is twice as fast.
    """
    if not _has_onednn():
        return network
    for module in network.modules():
        # A weight that is computed from others, as by `weight_norm`, is no parameter of the layer.
        if type(module) is nn.Linear and "weight" in module._parameters:
            module.__class__ = OneDnnLinear
    return network


def _has_onednn() -> bool:
    """Return whether torch offers oneDNN's product (a private operator) and the processor gains from it."""
    return (
        hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )


def with_plain_attention(network: Network) -> Network:
    """Return this network with attention written out as products, for bfloat16 training on a CPU.

    With the 200 tokens of an image of 224 x 224 the products take a third of the time of torch's fused
    kernel. They
    keep one number per pair of tokens for the backward pass, which takes too much memory with many more
    tokens.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):  # timm's attention
            module.fused_attn = False  # type: ignore[assignment]
    return network


class OneDnnLinear(nn.Linear):
    """`nn.Linear` with oneDNN's product for float32 on a CPU; `nn.Linear` itself elsewhere and in exports."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        if not self._uses_onednn(inputs):
            return super().forward(inputs)
        # For other shapes the product would be a view, which must not be changed in place after a custom
        # function.
        rows = inputs.reshape(-1, self.in_features)
        product = _Linear.apply(rows, self.weight, self.bias)
        return product.view(*inputs.shape[:-1], self.out_features)

    def _uses_onednn(self, inputs: Tensor) -> bool:
        if inputs.device.type != "cpu" or not inputs.numel() or torch.compiler.is_compiling():
            return False
        if torch.is_autocast_enabled("cpu"):
            return False
        return inputs.dtype == self.weight.dtype == torch.float32


class _Linear(torch.autograd.Function):
    """x (N, in), W (out, in) and b (out,) or None -> x W^T + b (N, out)."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the product; save x and W only where the gradient of the other is needed."""
        needs_inputs, needs_weight, _ = context.needs_input_grad
        saved_inputs = inputs if needs_weight else None
        saved_weight = weight if needs_inputs else None
        context.save_for_backward(saved_inputs, saved_weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, W and b from that of the product (N, out); None where they are not
        needed.
        """
        inputs, weight = context.saved_tensors
        inputs_gradient = None if weight is None else _product(gradient, weight.t())
        weight_gradient = None if inputs is None else _product(gradient.t(), inputs.t())
        bias_gradient = gradient.sum(0) if context.needs_input_grad[2] else None
        return inputs_gradient, weight_gradient, bias_gradient


def _product(
    left: Tensor,
    right: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """left (m, k) and right (n, k) -> left right^T + bias (m, n)."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
