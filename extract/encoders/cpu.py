"""The same networks, faster on a CPU, up to rounding."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Network = TypeVar("Network", bound=nn.Module)


def with_onednn(network: Network) -> Network:
    """This network with oneDNN's products in its linear layers, whose parameters stay, where the processor has AVX-512; else as it is.

    torch gives convolutions and products of bfloat16 to oneDNN, and products of float32 matrices to MKL, which takes a processor that is
    not Intel's for one without AVX-512: of AMD's Zen 5 half then lies idle, and oneDNN is twice as fast.
    """
    if torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512":
        for module in network.modules():
            if (
                type(module) is nn.Linear and "weight" in module._parameters
            ):  # not computed from others, as by `weight_norm`
                module.__class__ = OneDnnLinear
    return network


def with_plain_attention(network: Network) -> Network:
    """This network with attention as its formula has it, for training in bfloat16 on a CPU.

    With the 200 tokens of a picture of 224 x 224 the products take a third of the time of torch's fused kernel. What they make, a number
    for every pair of tokens, is kept for the backward pass: with many more tokens there is no room for it.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):  # timm's
            module.fused_attn = False  # type: ignore[assignment]
    return network


class OneDnnLinear(nn.Linear):
    """`nn.Linear` up to rounding; the very same for other numbers than float32, on GPUs, and when it is exported."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        float32 = inputs.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not float32 or inputs.device.type != "cpu" or not inputs.numel() or torch.compiler.is_compiling():
            return super().forward(inputs)
        # Of other shapes the product is a view, which must not be changed in place after a function of our own.
        rows = inputs.reshape(-1, self.in_features)
        return _Linear.apply(rows, self.weight, self.bias).view(*inputs.shape[:-1], self.out_features)


class _Linear(torch.autograd.Function):
    """x (N, in), W (out, in) and b (out,) or None -> x W^T + b (N, out)."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The product; x and W are kept only where the slopes of the other are wanted."""
        by_inputs, by_weight, _ = context.needs_input_grad
        context.save_for_backward(inputs if by_weight else None, weight if by_inputs else None)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Slopes by x, W and b of those by the product (N, out); None where they are not wanted."""
        inputs, weight = context.saved_tensors
        return (
            None if weight is None else _product(slope, weight.t()),
            None if inputs is None else _product(slope.t(), inputs.t()),
            slope.sum(0) if context.needs_input_grad[2] else None,
        )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left (m, k) and right (n, k) -> left right^T + bias (m, n)."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
