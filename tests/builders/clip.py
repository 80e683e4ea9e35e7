"""A very small image tower of CLIP with weights rounded to 8 bits, as onnxruntime writes it."""

from dataclasses import dataclass

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

LAYERS = 2
WIDTH = 32
IMAGE_SIZE = 32
PROJECTION = 16


@dataclass(frozen=True)
class RoundedClip:
    """A network of transformers whose linear weights were rounded, and its ONNX file.

    Attributes:
        network: Has the values that the file describes.
        onnx: Bytes of the file.
    """

    network: CLIPVisionModelWithProjection
    onnx: bytes


def rounded_clip(left_out: str = "", added: str = "") -> RoundedClip:
    """Return a network with random weights and its file.

    Args:
        left_out: Name of a float32 tensor that the file lacks.
        added: Name of a tensor that the file has besides.
    """
    network = _network()
    tensors = network.state_dict()
    nodes = []
    arrays: dict[str, np.ndarray] = {added: np.zeros(3, np.float32)} if added else {}
    for number, (name, tensor) in enumerate(tensors.items()):
        if name.endswith(("proj.weight", "fc1.weight", "fc2.weight", "projection.weight")):
            base = f"onnx::MatMul_{1541 + number}"
            integers, zeros, scales = _round(tensor.numpy())
            arrays[f"{base}_quantized"] = integers.T
            arrays[f"{base}_zero_point"] = zeros
            arrays[f"{base}_scale"] = scales
            tensor.copy_(torch.from_numpy(_values(integers, zeros, scales)))
            layer = name.removesuffix(".weight").replace("encoder.layers.", "encoder/layers#")
            path = "/" + layer.replace(".", "/").replace("#", ".")
            nodes.append(_node(path, base))
        elif name != left_out:
            arrays[name] = tensor.numpy().copy()
    return RoundedClip(network.eval(), _model(nodes, arrays))


def _network() -> CLIPVisionModelWithProjection:
    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=PROJECTION,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=16,
        hidden_act="quick_gelu",
    )
    network = CLIPVisionModelWithProjection(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.requires_grad_(False)


def _round(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers (out, in), zero points (out,) and scales (out,) of a weight (out, in)."""
    low, high = weight.min(axis=1), weight.max(axis=1)
    scales = ((high - low) / 255).astype(np.float32)
    zeros = np.clip(np.round(-128 - low / scales), -128, 127).astype(np.int8)
    integers = np.clip(np.round(weight / scales[:, None]) + zeros[:, None], -128, 127).astype(np.int8)
    return integers, zeros, scales


def _values(integers: np.ndarray, zeros: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The weights that rounded integers stand for, computed in double precision."""
    centred = integers.astype(np.float64) - zeros.astype(np.float64)[:, None]
    return (centred * scales.astype(np.float64)[:, None]).astype(np.float32)


def _node(path: str, base: str) -> object:
    inputs = [
        f"{path}_input_quantized",
        f"{base}_quantized",
        f"{path}_input_zero_point",
        f"{base}_zero_point",
    ]
    return helper.make_node("MatMulInteger", inputs, [f"{path}_output"], name=f"{path}/MatMul_quant")


def _model(nodes: list, arrays: dict[str, np.ndarray]) -> bytes:
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()
    ]
    output = helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, [1, PROJECTION])
    graph = helper.make_graph(nodes, "clip", [], [output], initializers)
    return helper.make_model(graph).SerializeToString()
