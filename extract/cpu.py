"""The same networks, faster on a CPU, up to rounding."""

from typing import Any, Self, TypeVar

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
        for name, module in list(network.named_modules()):
            if type(module) is nn.Linear:
                network.set_submodule(name, OneDnnLinear.of(module))
    return network


def with_plain_attention(network: Network) -> Network:
    """This network with attention as its formula has it, for training in bfloat16 on a CPU.

    Of a few hundred tokens the products take a third of the time of torch's fused kernel, which multiplies blocks too small for them.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):  # timm's
            module.fused_attn = False  # type: ignore[assignment]
    return network


class OneDnnLinear(nn.Linear):
    """`nn.Linear` up to rounding; the very same for other numbers than float32, on GPUs, and to compilers."""

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """With the parameters of a linear layer."""
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        float32 = inputs.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not float32 or inputs.device.type != "cpu" or not inputs.numel() or torch.compiler.is_compiling():
            return super().forward(inputs)
        return _Linear.apply(inputs, self.weight, self.bias)


class _Linear(torch.autograd.Function):
    """x (…, in), W (out, in) and b (out,) or None -> x W^T + b (…, out)."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = context.saved_tensors
        by_inputs, by_weight, by_bias = context.needs_input_grad
        rows = slope.reshape(-1, slope.shape[-1])
        return (
            _product(slope, weight.t()) if by_inputs else None,
            _product(rows.t(), inputs.reshape(len(rows), -1).t()) if by_weight else None,
            rows.sum(0) if by_bias else None,
        )


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left (…, k) and right (n, k) -> left right^T + bias (…, n)."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
