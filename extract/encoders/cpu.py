"""Changes that make networks faster on a CPU, with outputs equal up to rounding."""

import platform
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Network = TypeVar("Network", bound=nn.Module)

ONEDNN_DTYPES = (torch.float32, torch.bfloat16)


def with_onednn(network: Network) -> Network:
    """Return this network with oneDNN's products in its linear layers, where the processor gains from them.

    Parameters stay the same objects. Cast the network first: which layers gain depends on the type of their
    weights.
    """
    for module in network.modules():
        if is_plain_linear(module) and _gains(module.weight.dtype):
            module.__class__ = OneDnnLinear
    return network


def is_plain_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Return whether a layer is torch's linear layer with a weight of its own."""
    return type(layer) is nn.Linear and has_own_weight(layer)


def has_own_weight(layer: nn.Module) -> bool:
    """Return whether the weight is a parameter of the layer, not computed from others as by `weight_norm`."""
    return "weight" in layer._parameters


def _gains(dtype: torch.dtype) -> bool:
    """Return whether products of this type are faster by oneDNN's operator than by torch's linear layer.

    - float32: torch's linear layer uses MKL, which uses half of an AVX-512 unit on processors of other makers
      than Intel. oneDNN is faster there, and slower on processors of Intel (docs/benchmarks.md).
    - bfloat16: torch's linear layer uses oneDNN, but first copies the bias to every row of the output.
    """
    if not has_onednn("_linear_pointwise"):
        return False
    if dtype == torch.float32:
        return not is_intel()
    return dtype == torch.bfloat16


def has_onednn(operator: str) -> bool:
    """Return whether torch offers a private operator of oneDNN, and the processor has AVX-512."""
    return (
        hasattr(torch.ops.mkldnn, operator)
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    )


@cache
def is_intel() -> bool:
    """Return whether Intel made the processor; False if the system does not report the maker."""
    try:
        description = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        description = platform.processor()
    return "GenuineIntel" in description


def with_plain_attention(network: Network) -> Network:
    """Return this network with attention written out as products, for bfloat16 training on a CPU.

    With the 200 tokens of an image of 224 x 224, the products take a third of the time of torch's fused
    kernel. The products keep one number per pair of tokens for the backward pass, which takes too much memory
    with many more tokens.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):  # timm's attention
            module.fused_attn = False  # type: ignore[assignment]
    return network


def accepts_onednn(inputs: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN's operators accept inputs: on a CPU only, without autocast, outside exports.

    Args:
        inputs: Inputs of a layer, of any shape.
        weight: Weight of the layer, of any shape.
    """
    if inputs.device.type != "cpu" or not inputs.numel() or torch.compiler.is_compiling():
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    return inputs.dtype == weight.dtype and weight.dtype in ONEDNN_DTYPES


class OneDnnLinear(nn.Linear):
    """`nn.Linear` with oneDNN's product on a CPU; `nn.Linear` itself elsewhere and in exports."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (…, out) of inputs (…, in)."""
        weight = self.weight  # once, as adapters of end-to-end training compute it
        if not accepts_onednn(inputs, weight):
            return nn.functional.linear(inputs, weight, self.bias)
        # `_Linear` gets rows: for other shapes it would return a view, and torch forbids in-place changes of
        # views that custom functions return.
        rows = inputs.reshape(-1, self.in_features)
        product = _Linear.apply(rows, weight, self.bias)
        return product.view(*inputs.shape[:-1], self.out_features)


class _Linear(torch.autograd.Function):
    """Computes x W^T + b (N, out) from x (N, in), W (out, in) and b, (out,) or None."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the output; save x only if the gradient of W is needed, and W only if that of x is."""
        needs_inputs, needs_weight, _ = context.needs_input_grad
        saved_inputs = inputs if needs_weight else None
        saved_weight = weight if needs_inputs else None
        context.save_for_backward(saved_inputs, saved_weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, W and b from the gradient (N, out) of the output.

        A gradient that is not needed is None.
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
    """Return left right^T + bias (m, n) of left (m, k) and right (n, k)."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
