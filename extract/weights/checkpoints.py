"""Reading tensors from weight files, without running code from the files, and loading into networks."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tier4k.extract.weights.files import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

WRAPPINGS = ("state_dict", "model", "model_state_dict")  # keys under which checkpoints keep the state dict


def read_state_dict(path: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a .safetensors or PyTorch file; pickled code is refused, not run.

    Raises:
        WeightsError: The file is damaged, contains code, or contains no state dict.
    """
    from safetensors import SafetensorError

    try:
        content = _read(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} was not loaded: it contains pickled Python objects besides tensors, which could run "
            "code, or is damaged. Save only the state_dict of the model (torch.save(model.state_dict(), …) "
            "or safetensors) and pass that file."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({error}): the file is damaged or half downloaded; "
            "download it again"
        ) from error
    state = _unwrap(content)
    if not _is_state_dict(state):
        raise WeightsError(
            f"{path} contains no state dict (a mapping from names to tensors): pass a file that does"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _read(path: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(content: Any) -> Any:
    for name in WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    return content


def _is_state_dict(content: Any) -> bool:
    import torch

    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(value, torch.Tensor) for value in content.values())


def load_into(
    model: "nn.Module",
    weights: Path,
    classifier: str,
    by_order: bool = False,
) -> None:
    """Load weights into a network without a classifier; every tensor must fit.

    Args:
        model: The network, in timm's naming, whose classifier has been removed.
        weights: A .safetensors or PyTorch file, or for vision transformers Google's .npz file.
        classifier: Name of the classifier, whose tensors are not loaded; "" if the network keeps it.
        by_order: Whether the file has other names in the same order, with the tensors of the classifier last.

    Raises:
        WeightsError: A tensor is missing, left over or of another shape.
    """
    if weights.suffix == ".npz":
        _load_npz(model, weights)
        return
    state = read_state_dict(weights)
    expected = model.state_dict()
    if by_order:
        state = dict(zip(expected, state.values(), strict=False))
    else:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")}
    for name, tensor in expected.items():
        # Files older than PyTorch 0.4.1, such as torchvision's first files, lack these counters, which
        # evaluation does not read.
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, tensor)
    require_fit(expected, state, weights)
    model.load_state_dict(state)


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
        WeightsError: A tensor is missing, left over or of another shape.
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


def _load_npz(model: Any, path: Path) -> None:
    import torch

    if not hasattr(model, "load_pretrained"):  # a method of timm's vision transformers only
        raise WeightsError(
            f"{path}: .npz weights are supported for vision transformers only: pass a .pth or .safetensors "
            "file"
        )
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)  # shows the tensors that the file does not fill
    try:
        model.load_pretrained(str(path))
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} does not fit this encoder or is damaged ({error})") from error
    unfilled = [name for name, parameter in model.named_parameters() if torch.isnan(parameter).any()]
    if unfilled:
        raise WeightsError(
            f"{path} does not fit this encoder: {len(unfilled)} tensors are missing, first {unfilled[0]!r}"
        )
