"""Reading tensors of weight files and loading them into networks."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tier4k.extract.encoders.weights import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn


def read_state_dict(path: Path) -> "dict[str, torch.Tensor]":
    """Tensors of a .safetensors or PyTorch file; pickled code is refused, not run.

    Raises:
        WeightsError: The file is damaged, holds code, or holds no state dict.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds pickled Python objects besides tensors, which could run code, or is damaged; it was not loaded. "
            "Save its state_dict alone (torch.save(model.state_dict(), …) or safetensors) and give that file."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({error}): it is damaged or half downloaded"
        ) from error
    return _unwrapped(content, path)


def _unwrapped(content: object, path: Path) -> "dict[str, torch.Tensor]":
    import torch

    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise WeightsError(f"{path} holds no state dict (a mapping from names to tensors)")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_into(model: "nn.Module", weights: Path, classifier: str, by_order: bool = False) -> None:
    """Load weights into a network without a classifier; every tensor must find its place.

    Args:
        model: The network, in timm's naming, whose classifier has been removed.
        weights: .safetensors, PyTorch or (vision transformers) Google's .npz.
        classifier: Name of the classifier, whose tensors are left out.
        by_order: The file has other names in the same order; its last tensors are the classifier's.

    Raises:
        WeightsError: A tensor is missing, left over or of another shape.
    """
    if weights.suffix == ".npz":
        _load_npz(model, weights)
        return
    state = read_state_dict(weights)
    here = model.state_dict()
    if by_order:
        state = dict(zip(here, state.values(), strict=False))
    else:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")}
    # Files older than PyTorch 0.4.1, as torchvision's first ones, lack these counters, which no evaluation reads.
    state = {name: here[name] for name in here if name.endswith("num_batches_tracked")} | state
    require_fit(here, state, weights)
    model.load_state_dict(state)


def require_fit(here: "Mapping[str, torch.Tensor]", state: "Mapping[str, torch.Tensor]", path: Path) -> None:
    missing = [name for name in here if name not in state]
    unexpected = [name for name in state if name not in here]
    shapes = [name for name in here if name in state and here[name].shape != state[name].shape]
    lines = []
    if missing:
        lines.append(
            f"  {len(missing)} tensors are missing, first {missing[0]!r} {tuple(here[missing[0]].shape)}"
        )
    if unexpected:
        lines.append(
            f"  {len(unexpected)} are not of this network, first {unexpected[0]!r} {tuple(state[unexpected[0]].shape)}"
        )
    if shapes:
        expected, found = tuple(here[shapes[0]].shape), tuple(state[shapes[0]].shape)
        lines.append(
            f"  {len(shapes)} have another shape, first {shapes[0]!r}: expected {expected}, found {found}"
        )
    if lines:
        raise WeightsError(
            "\n".join(
                [f"{path} does not fit this encoder:", *lines, "Give the weights of this architecture."]
            )
        )


def _load_npz(model: Any, path: Path) -> None:
    import torch

    if not hasattr(model, "load_pretrained"):
        raise WeightsError(
            f"{path}: only vision transformers have .npz weights; give a .pth or .safetensors file"
        )
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)  # so that what the file does not fill shows
    try:
        model.load_pretrained(str(path))
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} does not fit this encoder or is damaged ({error})") from error
    unfilled = [name for name, parameter in model.named_parameters() if torch.isnan(parameter).any()]
    if unfilled:
        raise WeightsError(
            f"{path} does not fit this encoder: {len(unfilled)} tensors are missing, first {unfilled[0]!r}"
        )
