"""The meaning of fp32: products and convolutions have full precision on every device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 products and convolutions without TF32, in extraction and in training alike.

    By default, torch rounds the inputs of float32 convolutions to 10 bits on recent NVIDIA GPUs. Features
    would then depend on the device, which is not part of a store's signature. The earlier settings are
    restored afterwards.
    """
    earlier_precision = torch.get_float32_matmul_precision()
    earlier_allow_tf32 = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(earlier_precision)
        torch.backends.cudnn.allow_tf32 = earlier_allow_tf32
