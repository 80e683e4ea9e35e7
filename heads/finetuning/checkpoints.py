"""Checkpoints of an end-to-end training: two .safetensors files in the folder of one head's encoders.

last.safetensors    weights, moving average, the optimizer's moments, the scale of float16's gradients and the
                    history after the last epoch; only the history after the end of the training
best.safetensors    the evaluated and kept weights after the best epoch, without adapters
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from tier4k.cache.atomic import publish
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.weights.tensor_file import read_tensors
from tier4k.extract.weights.write import without_aliases
from tier4k.heads.finetuning.adapters import merged_tensors
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.history import History
from tier4k.heads.finetuning.moving_average import MovingAverage
from tier4k.heads.finetuning.network import TierNetwork
from tier4k.heads.regressors.mlp.estimator import MLPHead

LAST = "last.safetensors"
BEST = "best.safetensors"

# Prefixes of tensor names.
NETWORK = "network."
AVERAGE = "average."
OPTIMIZER = "optimizer."
SCALER = "scaler."
HISTORY = "history."
HEAD = "head."


@dataclass(frozen=True)
class TrainingState:
    """Network, moving average, optimizer and scaler of a training: what it changes beside its history.

    Attributes:
        network: The network that is trained.
        averaged: The moving average of the network's weights, if there is one.
        optimizer: The optimizer of the network's parameters.
        scaler: The scaler of the gradients, enabled in float16 only.
    """

    network: TierNetwork
    averaged: MovingAverage | None
    optimizer: Optimizer
    scaler: GradScaler

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors."""
        state = _with_prefix(NETWORK, self.network.state_dict())
        if self.averaged:
            state |= _with_prefix(AVERAGE, self.averaged.tensors())
        for number, values in self.optimizer.state_dict()["state"].items():
            state |= _with_prefix(f"{OPTIMIZER}{number}.", values)
        for name, value in self.scaler.state_dict().items():
            state[f"{SCALER}{name}"] = torch.tensor(value)
        return state

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the state that `tensors` returned."""
        self.network.load_state_dict(_below(tensors, NETWORK))
        if self.averaged:
            self.averaged.load(_below(tensors, AVERAGE))
        self._load_optimizer(_below(tensors, OPTIMIZER))
        scaler = _below(tensors, SCALER)
        self.scaler.load_state_dict({name: value.item() for name, value in scaler.items()})

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            number, name = key.split(".", 1)
            parameter = parameters[int(number)]
            values = state.setdefault(int(number), {})
            # The fused update walks through memory: a moment needs the memory layout of its parameter.
            if tensor.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(tensor)
            else:
                values[name] = tensor
        param_groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": param_groups})


def write_last(
    folder: Path,
    history: History,
    state: TrainingState | None,
) -> None:
    """Write the checkpoint that training continues from.

    Args:
        folder: Folder of the checkpoints.
        history: The record of the finished epochs.
        state: The state of training; None where training has ended.

    Raises:
        StoreError: The folder has no room or cannot be written to.
    """
    tensors = state.tensors() if state else {}
    _write(folder / LAST, tensors | _history_tensors(history))


def write_best(folder: Path, network: TierNetwork) -> None:
    """Write the network of the best epoch, with its adapters merged into its weights.

    Raises:
        StoreError: The folder has no room or cannot be written to.
    """
    _write(folder / BEST, merged_tensors(network))


def read_last(folder: Path) -> tuple[History, dict[str, Tensor]] | None:
    """Return the history and the state's tensors of the last checkpoint; None where there is none.

    Raises:
        FinetuningError: The checkpoint is damaged.
    """
    path = folder / LAST
    if not path.exists():
        return None
    with readable(path):
        tensors = read_tensors(path)
        return _history(_below(tensors, HISTORY)), tensors


def best_head(folder: Path) -> MLPHead:
    """Return the head of the best epoch of a finished training.

    Raises:
        FinetuningError: The checkpoint is missing or damaged.
    """
    path = folder / BEST
    with readable(path):
        tensors = _below(read_tensors(path), HEAD)
        return MLPHead.from_weights({name: values.numpy() for name, values in tensors.items()})


def drop_encoders(folder: Path) -> None:
    """Reduce the best checkpoint to its head.

    Raises:
        StoreError: The folder cannot be written to.
    """
    head = _with_prefix(HEAD, _below(read_tensors(folder / BEST), HEAD))
    _write(folder / BEST, head)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise an error that names the remedy if a checkpoint is damaged or belongs to another training.

    Raises:
        FinetuningError: The checkpoint cannot be used.
    """
    try:
        yield
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FinetuningError(
            f"the checkpoint {path} cannot be read ({error}): "
            f"delete {path.parent} and run the same command again"
        ) from error


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with explain_write_errors(path.parent):
        publish(path, lambda temporary: save_file(without_aliases(kept), temporary))


def _history_tensors(history: History) -> dict[str, Tensor]:
    columns = {
        "training_loss": history.training_loss,
        "validation_loss": history.validation_loss,
        "predictions": np.array(history.predictions, np.float64),
        "seconds": history.seconds,
    }
    tensors = {name: torch.as_tensor(values, dtype=torch.float64) for name, values in columns.items()}
    return _with_prefix(HISTORY, tensors)


def _history(tensors: Mapping[str, Tensor]) -> History:
    return History(
        training_loss=tensors["training_loss"].tolist(),
        validation_loss=tensors["validation_loss"].tolist(),
        predictions=list(tensors["predictions"].numpy()),
        seconds=tensors["seconds"].tolist(),
    )


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, under their names without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
