"""Reading checkpoints of scorers in Hugging Face's layout, and loading tensors into their networks."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BlipConfig, CLIPConfig

from tier4k.cache.text import read_text, shortened
from tier4k.extract.weights.checkpoints import read_state_dict
from tier4k.extract.weights.files import WeightsError, folder_weights_file
from tier4k.extract.weights.tensor_checks import require_finite, require_fit

State = dict[str, Tensor]


def clip_checkpoint(folder: Path) -> tuple[Any, State]:
    """Configuration and tensors of a CLIP folder.

    Raises:
        WeightsError: They cannot be read, or are not of a CLIP.
    """
    config = read_config(folder, CLIPConfig)
    state = read_folder_state(folder)
    # Older files hold the positions 0, 1, 2, …, which `load_all` computes.
    for name in list(state):
        if name.endswith(".position_ids"):
            del state[name]
    return config, state


def read_config(folder: Path, kind: type[BlipConfig] | type[CLIPConfig]) -> Any:
    """Read the configuration of a folder in Hugging Face's layout.

    Raises:
        WeightsError: It cannot be read, or is of another kind of model.
    """
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(read_text(path))
        if values["model_type"] != kind.model_type:
            raise ValueError(f"the model type is {values['model_type']!r}, not {kind.model_type!r}")
        return kind.from_dict(values)
    except Exception as error:  # checks of many kinds of values raise errors of many classes
        raise WeightsError(
            f"{path} is not the configuration of a {kind.model_type.upper()} model ({shortened(error)})"
        ) from error


def read_folder_state(folder: Path) -> State:
    """Read the tensors of a folder in Hugging Face's layout.

    Raises:
        WeightsError: The file is missing or damaged, or holds no tensors.
    """
    return read_state_dict(folder_weights_file(folder, str(folder)))


@contextmanager
def without_memory(path: Path) -> Iterator[None]:
    """Build models on the meta device: their random weights take no memory, as the checkpoint replaces them.

    Raises:
        WeightsError: No model has the sizes of the checkpoint `path`.
    """
    try:
        with torch.device("meta"):
            yield
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(
            f"no network has the sizes in {path} ({error}): use the published files without changes"
        ) from error


def load_all(
    model: nn.Module,
    state: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Give every parameter of a model made without memory its tensor in float32, in memory of its own.

    Tensors of a file are pages of the file, which would change with it.

    Raises:
        WeightsError: A tensor is missing, left over or of another shape.
    """
    require_fit(model.state_dict(), state, path)
    require_finite(state, path)
    floats = {name: tensor.to(torch.float32, copy=True) for name, tensor in state.items()}
    model.load_state_dict(floats, assign=True)
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids"), name
        positions = torch.arange(buffer.shape[-1]).expand(1, -1)
        module, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(module), attribute, positions)
