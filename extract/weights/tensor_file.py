"""Read safetensors files at any path."""

from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.cache.text import utf8_path

if TYPE_CHECKING:
    import torch


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """Return the tensors of a safetensors file.

    Raises:
        OSError: The file cannot be read.
        SafetensorError: The file is damaged.
    """
    from safetensors.torch import load_file

    with utf8_path(path) as readable:
        return load_file(readable)
