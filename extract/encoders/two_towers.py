"""Checkpoints of two towers: an image encoder and a text encoder that were trained together."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.presets import hf_repository


def require_checkpoint(name: str) -> None:
    """Refuse a name that is not `hf:NAME_OR_PATH`: the known encoders have one tower.

    Raises:
        EncoderError: The message names the alternatives.
    """
    if not hf_repository(name):
        raise EncoderError(
            f"{name!r} is no checkpoint of two towers: pass one of CLIP or SigLIP as --encoder "
            "hf:NAME_OR_PATH, or pass --image-encoder and --text-encoder"
        )


def find_text_tower(image: ImageEncoder, folders: Sequence[Path] = ()) -> TextEncoder:
    """Find the text encoder in the folder of an image encoder, of the same precision.

    Args:
        image: The image encoder `hf:NAME_OR_PATH`.
        folders: Folders that a relative path may start from.

    Raises:
        EncoderError: The checkpoint has no text tower.
        WeightsError: The folder has no tokenizer.
    """
    from transformers import AutoConfig

    name = image.preset.name
    config = AutoConfig.from_pretrained(image.weights.path, local_files_only=True)
    if not hasattr(config, "text_config"):
        raise EncoderError(
            f"{name} ({config.model_type}) has no text tower: pass it as --image-encoder, and a text encoder "
            "as --text-encoder"
        )
    return find_text_encoder(name, folders=folders, precision=image.precision)
