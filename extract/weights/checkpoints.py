"""Reading tensors from weight files, without running code from the files."""

import argparse
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tier4k.extract.weights.files import WeightsError, is_index, shard_of_tensor, shard_paths
from tier4k.extract.weights.state_dicts import StateDict, several_state_dicts, state_dicts

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
    """Read the largest state dict of a checkpoint; see `read_state_dicts`.

    Raises:
        WeightsError: The file is damaged, contains code, or contains no state dict or two equally large ones.
    """
    states = sorted(read_state_dicts(path), key=lambda state: -len(state.tensors))
    largest, *others = states
    if others and len(others[0].tensors) == len(largest.tensors):
        raise several_state_dicts(largest, others[0], path)
    if all(name.startswith("module.") for name in largest.tensors):
        largest = largest.under("module.")
    return dict(largest.tensors)


def read_state_dicts(path: Path) -> list[StateDict]:
    """Read the state dicts of a .safetensors or PyTorch file, or of an index.

    Pickled code is refused, not run. A file of PyTorch is mapped into memory, so that only tensors that are
    used are read.

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
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    # Training scripts keep their options in a Namespace, an object without code of its own.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def require_fit(
    expected: "Mapping[str, torch.Tensor]",
    found: "Mapping[str, torch.Tensor]",
    path: Path,
) -> None:
    """Refuse tensors of another network.

    Args:
        expected: The network's tensors by name.
        found: The file's tensors by name.
        path: The file, for the message.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, or not of dense real numbers.
    """
    missing = []
    reshaped = []
    for name, tensor in expected.items():
        if name not in found:
            missing.append(name)
        elif tensor.shape != found[name].shape:
            reshaped.append(name)
    unexpected = [name for name in found if name not in expected]
    lines = []
    if missing:
        shape = tuple(expected[missing[0]].shape)
        lines.append(f"  {len(missing)} tensors are missing, first {missing[0]!r} {shape}")
    if unexpected:
        shape = tuple(found[unexpected[0]].shape)
        lines.append(
            f"  {len(unexpected)} tensors belong to another network, first {unexpected[0]!r} {shape}"
        )
    if reshaped:
        shapes = f"expected {tuple(expected[reshaped[0]].shape)}, found {tuple(found[reshaped[0]].shape)}"
        lines.append(f"  {len(reshaped)} tensors have another shape, first {reshaped[0]!r}: {shapes}")
    if lines:
        heading = f"{path} does not fit this encoder:"
        raise WeightsError("\n".join([heading, *lines, "Pass weights of this architecture."]))
    for name, tensor in expected.items():
        _require_kind(name, tensor, found[name], path)


def _require_kind(
    name: str,
    expected: "torch.Tensor",
    found: "torch.Tensor",
    path: Path,
) -> None:
    """Refuse a tensor whose values cannot be copied into the network as they are."""
    import torch

    is_real = found.is_floating_point() or not expected.is_floating_point()
    if found.layout == torch.strided and not found.is_meta and is_real:
        return
    kind = "without values (meta)" if found.is_meta else f"{found.dtype}, {found.layout}"
    raise WeightsError(
        f"{path}: the tensor {name!r} is {kind}, where the network has real numbers: save the tensors as "
        "dense floating-point numbers (quantised ones with .dequantize()) and pass that file"
    )


def require_finite(tensors: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Refuse NaN and infinity, for example of a training that diverged.

    Args:
        tensors: Tensors by name, as loaded.
        path: The file, for the message.

    Raises:
        WeightsError: A tensor has such a value.
    """
    import torch

    for name, tensor in tensors.items():
        if tensor.numel() and tensor.is_floating_point():
            low, high = torch.aminmax(tensor)  # both are NaN if one value is
            if not (torch.isfinite(low) and torch.isfinite(high)):
                raise WeightsError(
                    f"{path}: the tensor {name!r} contains NaN or infinity, so every feature would: pass "
                    "weights of a training that did not diverge, or download the file again"
                )
