"""Standardisation folded into a head's weights.

A head's first layers are linear in the fused vector, and its score is linear in the hidden units. So weights
for standardised vectors and scores can be changed into weights for raw vectors and scores, whatever the
fusion and the activation.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tier4k.heads.regressors.mlp.network import Network
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import Weights


def fold(
    network: Network,
    flat: Tensor,
    scaling: Standardization,
) -> Weights:
    """Return float32 weights for raw inputs and scores.

    Args:
        network: The head's network.
        flat: Parameters (P,) that act on standardised inputs and give standardised scores.
        scaling: The standardisation of inputs and scores.
    """
    tensors: dict[str, Tensor] = {}
    for name, view in network.tensors(flat[None]).items():
        tensors[name] = view[0].double().cpu()
    mean = torch.from_numpy(scaling.mean)
    scale = torch.from_numpy(scaling.scale)
    for layer in network.first_layers:
        columns = network.columns(layer)
        tensors[f"{layer}.weight"] /= scale[columns]
        tensors[f"{layer}.bias"] -= tensors[f"{layer}.weight"] @ mean[columns]
    tensors["fc2.weight"] *= scaling.score_scale
    tensors["fc2.bias"] *= scaling.score_scale
    tensors["fc2.bias"] += scaling.score_mean
    return {name: tensors[name].float().reshape(shape).numpy() for name, shape in network.shapes().items()}


def unfold(
    network: Network,
    weights: Mapping[str, np.ndarray],
    scaling: Standardization,
) -> Tensor:
    """Return the parameters (P,) that `fold` maps to these weights.

    Raises:
        HeadError: The weights belong to a network of another shape.
    """
    _require_shapes(network, weights)
    raw = {name: values.astype(np.float64) for name, values in weights.items()}
    for layer in network.first_layers:
        columns = network.columns(layer)
        raw[f"{layer}.bias"] = raw[f"{layer}.bias"] + raw[f"{layer}.weight"] @ scaling.mean[columns]
        raw[f"{layer}.weight"] = raw[f"{layer}.weight"] * scaling.scale[columns]
    raw["fc2.weight"] = raw["fc2.weight"] / scaling.score_scale
    raw["fc2.bias"] = (raw["fc2.bias"] - scaling.score_mean) / scaling.score_scale
    flat = torch.zeros(network.size)
    for name, view in network.tensors(flat[None]).items():
        view.copy_(torch.from_numpy(raw[name].reshape(view.shape)))
    return flat


def _require_shapes(network: Network, weights: Mapping[str, np.ndarray]) -> None:
    shapes = {name: values.shape for name, values in weights.items()}
    expected = network.shapes()
    if shapes != expected:
        raise HeadError(
            f"the head to start from has tensors of shapes {shapes}, but this head has {expected}: "
            "use the same options for both heads"
        )
