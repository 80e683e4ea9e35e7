"""Loading of weights into networks of timm."""

import zipfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tier4k.extract.encoders.timm_checkpoints import find_tensors, is_counter
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.weights.checkpoints import read_state_dict
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.tensor_checks import require_finite, require_fit


def load_timm_weights(
    model: nn.Module,
    architecture: str,
    weights: Path,
    by_order: bool = False,
) -> tuple[str, ...]:
    """Load weights into a network of timm; every tensor must fit.

    A checkpoint may hold several state dicts, and the network's tensors under a prefix of their names. Names
    of the published code are converted by timm's own function.

    Args:
        model: The network.
        architecture: timm's name of the network.
        weights: A .safetensors or PyTorch file, or an index, or for vision transformers Google's .npz file.
        by_order: Whether the file has the network's tensors in the same order under other names, with the
            tensors of the classifier last.

    Returns:
        Notes for the user: which of several weights are used, which tensors are left out.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, NaN or infinite.
    """
    notes: tuple[str, ...] = ()
    if weights.suffix == ".npz":
        _load_npz(model, weights)
    elif by_order:
        tensors = dict(zip(model.state_dict(), read_state_dict(weights).values(), strict=False))
        _load(model, architecture, tensors, weights)
    else:
        choice = find_tensors(model, architecture, weights)
        notes = choice.notes
        _load(model, architecture, choice.state.tensors, weights)
    require_finite(model.state_dict(), weights)
    return notes


def _load(
    model: nn.Module,
    architecture: str,
    tensors: Mapping[str, Tensor],
    path: Path,
) -> None:
    expected = model.state_dict()
    state = dict(tensors)
    for name in _classifier_tensors(architecture, state.keys() - expected.keys()):
        del state[name]
    for name, tensor in expected.items():
        if is_counter(name):
            state.setdefault(name, tensor)
    require_fit(expected, state, path)
    model.load_state_dict(state)


def _classifier_tensors(architecture: str, left_over: AbstractSet[str]) -> set[str]:
    """Return the names of the classifier's tensors.

    Args:
        architecture: timm's name of the network.
        left_over: Names of tensors that the network without its classifier does not have.
    """
    declared = timm_config(architecture).classifier or ()
    classifiers = (declared,) if isinstance(declared, str) else declared
    prefixes = tuple(f"{name}." for name in classifiers)
    if all(name.startswith(prefixes) for name in left_over):
        return set(left_over)
    # Some descriptions lack a part of the classifier. The whole network has every part, but is slow to build.
    with torch.device("meta"):  # names without weights
        return left_over & timm.create_model(architecture, num_classes=1000).state_dict().keys()


def _load_npz(model: Any, path: Path) -> None:
    if not hasattr(model, "load_pretrained"):  # a method of timm's vision transformers only
        raise WeightsError(
            f"{path}: .npz weights are supported for vision transformers only: pass a .pth or .safetensors "
            "file"
        )
    for parameter in model.parameters():
        nn.init.constant_(parameter, torch.nan)  # shows the tensors that the file does not fill
    try:
        model.load_pretrained(str(path))
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} does not fit this encoder or is damaged ({error})") from error
    unfilled = [name for name, parameter in model.named_parameters() if torch.isnan(parameter).any()]
    if unfilled:
        raise WeightsError(
            f"{path} does not fit this encoder: {len(unfilled)} tensors are missing, first {unfilled[0]!r}"
        )
