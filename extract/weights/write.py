"""Writing safetensors files whose bytes depend on nothing but the tensors and the metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HEADER_LENGTH_BYTES = 8  # at the beginning of a safetensors file


def write_tensors(
    path: Path,
    tensors: "Mapping[str, torch.Tensor]",
    metadata: dict[str, str],
) -> None:
    """Write a safetensors file with sorted metadata.

    The library writes the entries of the metadata in a random order. The same weights would then have another
    hash in every process, and other stores.

    Raises:
        OSError, SafetensorError: The system refuses to write.
    """
    from safetensors.torch import save_file

    save_file(without_aliases(tensors), path, metadata)
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(metadata.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(HEADER_LENGTH_BYTES)
        file.write(text.ljust(length))


def without_aliases(tensors: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return tensors of which no two share memory, as those of tied layers do: the second is copied."""
    own: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return own
