"""The data types of networks."""

import torch
from torch import Tensor

from tier4k.extract.encoders.choices import Precision

# With "tf32", products and convolutions of float32 tensors round their inputs: see `arithmetic.py`.
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or as it is in float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
