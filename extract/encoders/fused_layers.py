"""Layers of frozen networks that are computed in one step, with outputs equal up to rounding."""

from typing import Any

import torch
from timm.layers import QuickGELU
from timm.layers.mlp import Mlp
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from tier4k.extract.encoders.cpu import accepts_onednn, has_onednn, has_own_weight, is_plain_linear

QUICK_GELU_SLOPE = 1.702
CONVOLUTION = "_convolution_pointwise"
CONVOLUTION_IN_PLACE = "_convolution_pointwise_"


def replace_quick_gelu(network: nn.Module) -> None:
    """Replace quick GELU by SiLU in timm's perceptrons, in place, for evaluation only.

    Quick GELU is x s(1.702 x) for the logistic function s (Hendrycks and Gimpel, 2016), which torch computes
    in three passes over memory. SiLU, y s(y) for y = 1.702 x, takes one pass. The weights before the
    activation are multiplied by 1.702, those after it are divided by it. Call this before weights are rounded
    to half precision.
    """
    for module in network.modules():
        if type(module) is Mlp and _can_be_scaled(module):
            _scale(module)
            module.act = nn.SiLU()


def _can_be_scaled(perceptron: Mlp) -> bool:
    """Return whether only quick GELU lies between two layers whose weights are parameters."""
    layers = (perceptron.fc1, perceptron.fc2)
    if type(perceptron.act) is not QuickGELU or type(perceptron.norm) is not nn.Identity:
        return False
    return all(map(is_plain_linear, layers))


@torch.no_grad()
def _scale(perceptron: Mlp) -> None:
    perceptron.fc1.weight.mul_(QUICK_GELU_SLOPE)
    if perceptron.fc1.bias is not None:
        perceptron.fc1.bias.mul_(QUICK_GELU_SLOPE)
    perceptron.fc2.weight.div_(QUICK_GELU_SLOPE)


def fuse_residual_blocks(network: nn.Module) -> None:
    """Let oneDNN compute convolutions, sums and activations of timm's ResNet blocks together, in place.

    A convolution, the sum with the shortcut and its ReLU then take one pass over memory instead of three.
    Call this after batch norms are folded, for evaluation only. Blocks with other parts, and blocks on
    processors without AVX-512, keep torch's layers.
    """
    if not has_onednn(CONVOLUTION) or not has_onednn(CONVOLUTION_IN_PLACE):
        return
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for number, block in enumerate(sequence):
            if _has_fusible_parts(block):
                block.__class__ = FUSED_CLASSES[type(block)]
                # Only this block reads the output of the block before it.
                block.may_overwrite_inputs = number > 0  # type: ignore[assignment]


def _has_fusible_parts(block: nn.Module) -> bool:
    """Return whether a block has only convolutions, ReLUs and a shortcut, apart from identities."""
    if type(block) not in FUSED_CLASSES:
        return False
    others = []
    for name, part in block.named_children():
        if name.startswith("conv"):
            if not _is_plain_convolution(part):
                return False
        elif name.startswith("act"):
            if type(part) is not nn.ReLU:
                return False
        elif name != "downsample":
            others.append(part)
    return all(type(part) is nn.Identity for part in others)


def _is_plain_convolution(layer: Any) -> bool:
    if type(layer) is not nn.Conv2d or not has_own_weight(layer):
        return False
    return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


class FusedBasicBlock(BasicBlock):
    """Two convolutions with ReLUs and a shortcut, fused on a CPU; timm's block elsewhere and in exports."""

    may_overwrite_inputs: bool

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (B, C', H', W') of inputs (B, C, H, W)."""
        if not _can_fuse(x, self.conv1):
            return super().forward(x)
        return _add_shortcut(self, x, self.conv2, _activated(self.conv1, x))


class FusedBottleneck(Bottleneck):
    """Three convolutions with ReLUs and a shortcut, fused on a CPU; timm's block elsewhere and in exports."""

    may_overwrite_inputs: bool

    def forward(self, x: Tensor) -> Tensor:
        """Return the output (B, C', H', W') of inputs (B, C, H, W)."""
        if not _can_fuse(x, self.conv1):
            return super().forward(x)
        return _add_shortcut(self, x, self.conv3, _activated(self.conv2, _activated(self.conv1, x)))


FUSED_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    BasicBlock: FusedBasicBlock,
    Bottleneck: FusedBottleneck,
}


def _can_fuse(inputs: Tensor, convolution: nn.Conv2d) -> bool:
    """Return whether oneDNN's operators accept the inputs.

    The operators have no gradients, and fuse the sum only where channels are innermost.
    """
    weight = convolution.weight
    if inputs.stride(1) != 1 or inputs.shape[2:].numel() == 1:
        return False
    if torch.is_grad_enabled() and (inputs.requires_grad or weight.requires_grad):
        return False
    return accepts_onednn(inputs, weight)


def _activated(convolution: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return ReLU(convolution(inputs))."""
    return torch.ops.mkldnn._convolution_pointwise(inputs, *_arguments(convolution), "relu", [], "")


def _add_shortcut(
    block: Any,
    inputs: Tensor,
    convolution: nn.Conv2d,
    hidden: Tensor,
) -> Tensor:
    """Return ReLU(convolution(hidden) + shortcut).

    Args:
        block: The block, for its shortcut.
        inputs: Inputs of the block (B, C, H, W), which are overwritten if the block allows this.
        convolution: The last convolution of the block.
        hidden: Inputs of the last convolution (B, C'', H', W').
    """
    if block.downsample is not None:
        shortcut = block.downsample(inputs)
    else:
        shortcut = inputs if block.may_overwrite_inputs else inputs.clone()
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        shortcut, hidden, *_arguments(convolution), "add", 1.0, "relu", [], None
    )


def _arguments(convolution: nn.Conv2d) -> tuple[Any, ...]:
    return (
        convolution.weight,
        convolution.bias,
        convolution.padding,
        convolution.stride,
        convolution.dilation,
        convolution.groups,
    )
