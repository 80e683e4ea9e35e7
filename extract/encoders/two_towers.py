"""Checkpoints with two towers: an image encoder and a text encoder that were trained together."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.encoders.choices import Precision, StoreDtype
from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import hf_repository, text_preset
from tier4k.extract.encoders.text_families import FAMILIES
from tier4k.extract.encoders.transformers_config import read_config


def require_checkpoint(name: str) -> None:
    """Refuse a name that is not `hf:NAME_OR_PATH`: the known encoders have one tower.

    Raises:
        EncoderError: The message names the alternatives.
    """
    if not hf_repository(name):
        raise EncoderError(
            f"{name!r} is no checkpoint with two towers: pass one of CLIP or SigLIP as --encoder "
            "hf:NAME_OR_PATH, or pass --image-encoder and --text-encoder"
        )


def find_text_tower(
    name: str,
    folders: Sequence[Path] = (),
    precision: Precision | None = None,
    store_dtype: StoreDtype | None = None,
) -> TextEncoder:
    """Find the text encoder of a checkpoint.

    Args:
        name: The checkpoint, `hf:NAME_OR_PATH`.
        folders: Folders that a relative path may start from.
        precision: Arithmetic of the network; None uses "fp32".
        store_dtype: Type of the stored numbers; None uses "float32".

    Raises:
        EncoderError: The checkpoint has no text tower.
        WeightsError: The folder is nowhere, or lacks a file.
    """
    preset = text_preset(name)
    folder = preset.weights.find(preset.name, folders).path
    kind = str(read_config(folder).get("model_type"))
    if kind not in FAMILIES or not FAMILIES[kind].is_tower:
        raise EncoderError(
            f"{name} (model_type {kind!r}) has no text tower: pass it as --image-encoder, and a text encoder "
            "as --text-encoder"
        )
    return find_text_encoder(name, folders=folders, precision=precision, store_dtype=store_dtype)
