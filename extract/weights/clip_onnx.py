"""CLIP's image tower from an ONNX file with rounded weights.

The file is what onnxruntime's dynamic quantization makes of `CLIPVisionModelWithProjection`: its linear
layers are `MatMulInteger` nodes with 8-bit weights, all other tensors are float32 under their own names. Only
the tensors are read; nothing is run.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tier4k.extract.weights.files import WeightsError

if TYPE_CHECKING:
    import torch

VIT_B_BLOCKS = 12

# Ends of the names of a rounded weight and of its scales. The names begin alike.
ROUNDED = "_quantized"

SCALE = "_scale"

VISION = "vision_model."

EMBEDDINGS = f"{VISION}embeddings."

PROJECTION = "visual_projection.weight"

# timm's names of the parts of a block, by their names in transformers, apart from query, key and value, which
# timm computes in one layer.
BLOCK_PARTS = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}

ATTENTION_INPUTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

NORMS = {"pre_layrnorm": "norm_pre", "post_layernorm": "norm"}


def clip_image_tower(content: bytes) -> "dict[str, torch.Tensor]":
    """Return the tensors of CLIP ViT-B's image tower by timm's names, from the bytes of an ONNX file.

    Raises:
        WeightsError: A tensor is missing or left over, or the bytes are no ONNX file.
    """
    import torch

    tensors = timm_tensors(transformers_tensors(content), VIT_B_BLOCKS)
    return {name: torch.tensor(array).contiguous() for name, array in tensors.items()}


def transformers_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Return the tensors (float32) of an ONNX file by their names in `CLIPVisionModelWithProjection`.

    Raises:
        WeightsError: The bytes are no ONNX file.
    """
    from google.protobuf.message import DecodeError
    from onnx import load_model_from_string, numpy_helper

    try:
        graph = load_model_from_string(content).graph
    except DecodeError as error:
        raise WeightsError(f"this is no ONNX file ({error})") from error
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tensors = {}
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            tensors[_weight_name(node)] = _take_rounded(arrays, node)
    return tensors | arrays


def _weight_name(node: Any) -> str:
    """Return "a.b.weight" for a node "/a/b/MatMul_quant"."""
    layer = node.name.strip("/").split("/")[:-1]
    return ".".join([*layer, "weight"])


def _take_rounded(arrays: dict[str, np.ndarray], node: Any) -> np.ndarray:
    """Remove a node's rounded weight (in, out), zero points and scales; return the weight (out, in).

    Each output channel has a scale and a zero point: weight = (rounded - zero point) * scale.
    """
    rounded, zero_point = node.input[1], node.input[3]
    scale = rounded.removesuffix(ROUNDED) + SCALE
    try:
        integers = arrays.pop(rounded).astype(np.float32)
        zeros = arrays.pop(zero_point).astype(np.float32)
        weight = (integers - zeros) * arrays.pop(scale)
    except KeyError as error:
        raise WeightsError(f"the ONNX node {node.name} has no weight {error}") from error
    return weight.T


def timm_tensors(tensors: Mapping[str, np.ndarray], blocks: int) -> dict[str, np.ndarray]:
    """Rename the tensors of `CLIPVisionModelWithProjection` as in timm's vision transformer with a head.

    Args:
        tensors: Tensors by their names in transformers.
        blocks: Number of the transformer's blocks.

    Raises:
        WeightsError: A tensor is missing or left over.
    """
    left = dict(tensors)
    try:
        renamed = _take_outer_tensors(left)
        for number in range(blocks):
            renamed |= _take_block_tensors(left, number)
    except KeyError as error:
        raise WeightsError(f"the image tower of CLIP lacks the tensor {error}") from error
    if left:
        raise WeightsError(
            f"{len(left)} tensors do not belong to the image tower of CLIP, first {min(left)!r}"
        )
    return renamed


def _take_outer_tensors(left: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove the tensors outside the blocks from `left`; return them by timm's names."""
    token = left.pop(f"{EMBEDDINGS}class_embedding")
    patches = left.pop(f"{EMBEDDINGS}patch_embedding.weight")
    positions = left.pop(f"{EMBEDDINGS}position_embedding.weight")
    projection = left.pop(PROJECTION)
    renamed = {
        "cls_token": token.reshape(1, 1, -1),
        "pos_embed": positions[None],
        "patch_embed.proj.weight": patches,
        "head.weight": projection,
        "head.bias": np.zeros(len(projection), projection.dtype),  # CLIP's projection has no bias
    }
    for own_name, timm_name in NORMS.items():
        for kind in ("weight", "bias"):
            renamed[f"{timm_name}.{kind}"] = left.pop(f"{VISION}{own_name}.{kind}")
    return renamed


def _take_block_tensors(left: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """Remove the tensors of one block from `left`; return them by timm's names."""
    layer = f"{VISION}encoder.layers.{number}"
    block = f"blocks.{number}"
    renamed = {}
    for kind in ("weight", "bias"):
        inputs = [left.pop(f"{layer}.{name}.{kind}") for name in ATTENTION_INPUTS]
        renamed[f"{block}.attn.qkv.{kind}"] = np.concatenate(inputs)
        for own_name, timm_name in BLOCK_PARTS.items():
            renamed[f"{block}.{timm_name}.{kind}"] = left.pop(f"{layer}.{own_name}.{kind}")
    return renamed
