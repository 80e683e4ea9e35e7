"""Reading tensors from weight files, without running code from the files."""

import argparse
import pickle
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tier4k.cache.text import utf8_path
from tier4k.extract.weights.files import WeightsError, is_index, shard_of_tensor, shard_paths
from tier4k.extract.weights.state_dicts import StateDict, ambiguity_error, state_dicts
from tier4k.extract.weights.tensor_file import read_tensors

if TYPE_CHECKING:
    import torch

# What the readers raise on damaged files. PyTorch's unpickler runs into its own errors on arbitrary bytes.
UNREADABLE = (
    SafetensorError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
)


def read_state_dict(path: Path) -> "dict[str, torch.Tensor]":
    """Read the state dict with the most tensors of a checkpoint; see `read_state_dicts`.

    A prefix "module." of all names is removed.

    Raises:
        WeightsError: The file is damaged, contains code, or contains no state dict or two equally large ones.
    """
    states = read_state_dicts(path)
    states.sort(key=lambda state: len(state.tensors), reverse=True)
    largest = states[0]
    if len(states) > 1 and len(states[1].tensors) == len(largest.tensors):
        raise ambiguity_error(largest, states[1], path)
    if all(name.startswith("module.") for name in largest.tensors):
        largest = largest.under("module.")
    return dict(largest.tensors)


def read_state_dicts(path: Path) -> list[StateDict]:
    """Read the state dicts of a .safetensors or PyTorch file, or of an index.

    Pickled code is refused, not run. A PyTorch file is mapped into memory: unused tensors are not read.

    Raises:
        WeightsError: The file is damaged, contains code, or contains no state dict.
    """
    content = _read_shards(path) if is_index(path) else _read(path)
    states = state_dicts(content)
    if not states:
        raise WeightsError(
            f"{path} contains no state dict (a mapping from names to tensors): pass a file that does"
        )
    return states


def _read_shards(index: Path) -> "dict[str, torch.Tensor]":
    tensors: dict[str, torch.Tensor] = {}
    for shard in shard_paths(index):
        tensors.update(_read(shard))
    for name, shard_name in shard_of_tensor(index).items():
        if name not in tensors:
            raise WeightsError(
                f"{index} says that {shard_name} has the tensor {name!r}, but no file has it: download "
                f"{index.name} and all its files again"
            )
    return tensors


def _read(path: Path) -> Any:
    try:
        return _content(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} was not loaded: it contains pickled Python objects besides tensors, which could run "
            "code, or is damaged. Save only the state_dict of the model (torch.save(model.state_dict(), …) "
            "or safetensors) and pass that file."
        ) from error
    except UNREADABLE as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({error}): the file is damaged or half downloaded; "
            "download it again"
        ) from error


def _content(path: Path) -> Any:
    import torch

    if path.suffix == ".safetensors":
        return read_tensors(path)
    # Training scripts keep their options in a Namespace, an object without code of its own.
    with torch.serialization.safe_globals([argparse.Namespace]), utf8_path(path) as readable:
        return torch.load(readable, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
