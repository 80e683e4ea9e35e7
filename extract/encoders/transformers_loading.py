"""Loading networks of transformers from local files, without running code from the files."""

import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tier4k.cache.errors import TierError
from tier4k.cache.text import utf8_path
from tier4k.extract.weights.files import WeightsError

WEIGHT_SUFFIXES = (".safetensors", ".bin")

LARGEST_GROWTH = 8
"""How much larger than its files a network in float32 may be; files of float16 double."""

SPARE = 2**27  # bytes of small networks with weights in other files


def load_transformer(
    model_class: Any,
    path: Path,
    stream: str,
    unused: Iterable[str] = (),
    **options: Any,
) -> Any:
    """Build a network and load its weights, in float32 and in memory of their own.

    Tensors in the files that the network does not have, such as those of a classifier or of another tower,
    are left out.

    Args:
        model_class: A class of transformers with `from_pretrained`.
        path: A folder of Hugging Face.
        stream: "image" or "text", for messages.
        unused: Beginnings of the names of tensors that are not used and may be missing.
        options: Further options of `from_pretrained`.

    Raises:
        WeightsError: The files of the folder are damaged or do not match.
    """
    with explain_loading_errors(path, stream), _no_progress_bars(), utf8_path(path) as readable:
        _require_fitting_size(model_class, readable, options.get("config"))
        network, loading = model_class.from_pretrained(
            readable,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            dtype=torch.float32,
            **options,
        )
    _require_complete(loading, path, tuple(unused))
    _require_no_more_blocks(network, loading["unexpected_keys"], path)
    _copy_out_of_files(network)
    return network


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Let transformers print no bar of its own while it loads weights."""
    from transformers.utils import logging

    showed_bars = logging.is_progress_bar_enabled()
    if showed_bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if showed_bars:
            logging.enable_progress_bar()


@contextmanager
def explain_loading_errors(path: Path, stream: str) -> Iterator[None]:
    """Turn the errors of transformers about the files of a folder into `WeightsError`."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"the weights in {path} were not loaded: they contain pickled Python objects besides "
            "tensors, which could run code, or are damaged. Download the files again, or save the model "
            "as safetensors."
        ) from error
    except TierError:
        raise
    except Exception as error:  # damaged files of many kinds raise errors of many classes
        reason = shorten(f"{type(error).__name__}: {error}", 500)
        raise WeightsError(
            f"the {stream} encoder in {path} cannot be loaded ({reason}): download the whole folder again, "
            "or pass another encoder"
        ) from error


def recompute_activations(network: Any) -> None:
    """Compute the activations of a network of transformers again in the backward pass.

    Raises:
        AttributeError, ValueError: transformers cannot do so for this network.
    """
    if has_private_checkpointing(network):
        # The public method also makes the embeddings require gradients, which costs time with `last:N`.
        network._set_gradient_checkpointing(True, partial(checkpoint, use_reentrant=False))
    else:
        network.activation_checkpointing_enable({"use_reentrant": False})


def has_private_checkpointing(network: nn.Module) -> bool:
    """Whether this version of transformers has the private method that `recompute_activations` prefers."""
    return hasattr(network, "_set_gradient_checkpointing")


def _copy_out_of_files(network: nn.Module) -> None:
    """Copy weights into own memory: transformers maps files, so that a changed file would change features."""
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone()


def _require_fitting_size(
    model_class: Any,
    folder: Path,
    config: Any,
) -> None:
    """Refuse a network that is much larger than its weights, before memory for it is taken.

    Raises:
        WeightsError: config.json describes such a network.
    """
    from transformers import AutoConfig

    if config is None:
        config_class = getattr(model_class, "config_class", None) or AutoConfig
        config = config_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        is_auto = hasattr(model_class, "from_config")  # an AutoModel, which has no networks of its own
        network = model_class.from_config(config) if is_auto else model_class(config)
    needed = 4 * sum(parameter.numel() for parameter in network.parameters())
    stored = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in WEIGHT_SUFFIXES)
    if needed > LARGEST_GROWTH * stored + SPARE:
        raise WeightsError(
            f"{folder / 'config.json'} describes a network of {needed / 1e9:,.1f} GB, and the weights beside "
            f"it have {stored / 1e9:,.1f} GB: take both files from one download"
        )


def _require_complete(
    loading: Mapping[str, Any],
    path: Path,
    unused: tuple[str, ...],
) -> None:
    """Refuse weights that lack tensors of the network."""
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith(unused))
    reshaped = sorted(name for name, *_ in loading["mismatched_keys"])
    if missing or reshaped:
        first = missing[0] if missing else reshaped[0]
        raise WeightsError(
            f"the weights in {path} do not fit the config.json there: {len(missing) + len(reshaped)} tensors "
            f"are missing or of another shape, first {first!r}; take both files from one download"
        )


def _require_no_more_blocks(
    network: nn.Module,
    left_over: Iterable[str],
    path: Path,
) -> None:
    """Refuse weights with more blocks than the network, which would give the features of a middle block."""
    lengths = {
        f"{name}.": len(part) for name, part in network.named_modules() if isinstance(part, nn.ModuleList)
    }
    for tensor in sorted(left_over):
        for start, length in lengths.items():
            number = tensor.removeprefix(start).partition(".")[0]
            if tensor.startswith(start) and number.isdecimal() and int(number) >= length:
                raise WeightsError(
                    f"the weights in {path} do not fit the config.json there: the model has {length} parts "
                    f"{start}N, and the weights also have {tensor!r}; take both files from one download"
                )
