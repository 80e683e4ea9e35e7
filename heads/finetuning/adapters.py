"""Low-rank adapters (LoRA) of the attention layers of encoders.

Each projection of an attention layer (query, key, value, output) computes with W + (16 / r) B A instead of
its frozen weight W (out, in), and only B (out, r) and A (r, in) are trained (Hu et al., "LoRA: Low-Rank
Adaptation of Large Language Models", ICLR 2022). B starts at zero, so that training starts from the encoder
itself. The kept encoders have W + (16 / r) B A as their weight and no adapters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tier4k.heads.finetuning.errors import FinetuningError

SCALE = 16  # times the rank's inverse: so the best learning rate hardly depends on the rank


class LowRankUpdate(nn.Module):
    """Maps the weight W (out, in) of a layer to W + (16 / r) B A.

    Args:
        weight: The weight, for its shape and device.
        rank: The rank r of the update.
        generator: Random numbers for A, on the CPU.

    Attributes:
        down: A (r, in), which starts as the weights of a linear layer do.
        up: B (out, r), which starts at zero.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        bound = inputs**-0.5
        down = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))
        self.scale = SCALE / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight (out, in) that the layer computes with."""
        return weight + self.scale * (self.up @ self.down)


def add_adapters(
    backbone: nn.Module,
    rank: int,
    seed: int,
) -> None:
    """Add an adapter to every projection of a network's attention layers, in place.

    Args:
        backbone: The network of an encoder, on the device where it is trained.
        rank: The rank of the adapters.
        seed: Seed of the matrices A.

    Raises:
        FinetuningError: The network has no attention layers.
    """
    layers = _attention_projections(backbone)
    if not layers:
        raise FinetuningError(
            f"--finetune lora adapts attention layers, and {type(backbone).__name__} has none: pass "
            "--finetune all, image, text or last:N, or a transformer as encoder, such as "
            "--image-encoder clip"
        )
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRankUpdate(layer.weight, rank, generator))


def adapter_parameters(network: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of all adapters of a network."""
    parameters: set[nn.Parameter] = set()
    for module in network.modules():
        if isinstance(module, LowRankUpdate):
            parameters.update(module.parameters())
    return parameters


@torch.no_grad()
def merged_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network by name, with adapters merged into the weights."""
    tensors = network.state_dict()
    for name, layer in network.named_modules(remove_duplicate=False):
        if not _has_adapter(layer):
            continue
        prefix = f"{name}.parametrizations.weight."
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}
        tensors[f"{name}.weight"] = layer.weight
    return tensors


def _has_adapter(layer: nn.Module) -> bool:
    if not parametrize.is_parametrized(layer, "weight"):
        return False
    parametrizations: Any = layer.parametrizations
    return isinstance(parametrizations.weight[0], LowRankUpdate)


def _attention_projections(network: nn.Module) -> list[nn.Linear]:
    """Return the linear layers inside a network's attention layers.

    Some attention layers contain a perceptron, for biases or as their second half: it is left out.
    """
    projections: dict[nn.Linear, None] = {}
    for module in network.modules():
        if not _is_attention(module):
            continue
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear) and "mlp" not in name:
                projections[layer] = None
    return list(projections)


def _is_attention(module: nn.Module) -> bool:
    """Return whether a module is an attention layer of a block, not one that pools tokens.

    timm and transformers call their classes `Attention`, `WindowAttention`, `BertSelfAttention` and the like;
    they use torch's class for pooling only.
    """
    name = type(module).__name__
    return "Attention" in name and "Pool" not in name and not isinstance(module, nn.MultiheadAttention)
