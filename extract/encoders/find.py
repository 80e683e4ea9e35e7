"""Encoders: frozen descriptions with a signature, which load into torch modules when there is something to encode."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.hub import from_hub
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.presets import image_preset, text_preset
from tier4k.extract.encoders.weights import (
    IMAGE_SUFFIXES,
    TEXT_FILES,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)
from tier4k.extract.images.crops import CENTRE_CROP


def find_image_encoder(
    choice: ImageChoice, weights: Path | None = None, folders: Sequence[Path] = ()
) -> ImageEncoder:
    """Find an image encoder and its weights.

    Args:
        choice: What is asked for.
        weights: A file given by the user, which is then the only place looked at.
        folders: Folders that may hold `pretrained/`.

    Raises:
        EncoderError: No such encoder, or it cannot be used so.
        WeightsError: No weights; the message says which file, where it can be had and where to put it.
    """
    preset = image_preset(choice.encoder)
    preprocessing = preset.preprocessing(choice.preprocessing, choice.image_size)
    preset.feature_point(choice.feature or "pooled")
    crops = choice.crops or CENTRE_CROP
    if crops.count and preprocessing.crop not in ("center", "no"):
        raise EncoderError(
            f"{preset.name} prepares pictures by {preprocessing.crop!r}, which has no random crops: leave --crops out"
        )
    found = _image_weights(preset, weights, folders)
    return ImageEncoder(
        preset, found, preprocessing, choice.feature or "pooled", choice.precision or "fp32", crops
    )


def find_text_encoder(
    name: str, weights: Path | None = None, folders: Sequence[Path] = (), precision: Precision | None = None
) -> TextEncoder:
    """Find a text encoder and its folder; the other arguments and errors are those of `find_image_encoder`."""
    preset = text_preset(name)
    return TextEncoder(preset, _text_weights(preset, weights, folders), precision or "fp32")


def _image_weights(preset: ImagePreset, given: Path | None, folders: Sequence[Path]) -> Weights:
    if given is not None:
        return file_weights(given, "--image-weights")
    if found := find_file(_file_names(preset), folders):
        return file_weights(found, str(found))
    if preset.package and (path := preset.package.find()):
        return file_weights(path, f"package {preset.package.module}")
    if hub := from_hub(preset.hub, ("model.safetensors",)):
        return file_weights(hub / "model.safetensors", f"hub {preset.hub}")
    wanted = preset.files[0].replace(".*", ".pth")
    raise WeightsError(
        f"no weights for the image encoder {preset.name}: put {wanted} into {folders[0] if folders else Path.cwd()}/pretrained/ "
        f"(or a pretrained/ folder beside the data), or give --image-weights FILE.\nThey can be had from: {preset.download}"
    )


def _file_names(preset: ImagePreset) -> list[str]:
    """The names that weights may have, patterns spelled out, in the order of the preset."""
    names: list[str] = []
    for pattern in preset.files:
        stem = pattern.removesuffix(".*")
        names += [pattern] if stem == pattern else [stem + suffix for suffix in IMAGE_SUFFIXES]
    return names


def _text_weights(preset: TextPreset, given: Path | None, folders: Sequence[Path]) -> Weights:
    if given is not None:
        return folder_weights(given, "--text-weights")
    candidates = [folder / preset.folder for folder in folders]
    for path in candidates:
        if path.is_dir():
            return folder_weights(path, str(path))
    if preset.package and (packaged := preset.package.find()):
        return folder_weights(packaged, f"package {preset.package.module}")
    if hub := from_hub(preset.hub, TEXT_FILES):
        return folder_weights(hub, f"hub {preset.hub}")
    raise WeightsError(
        f"no weights for the text encoder {preset.name}: put a folder {preset.folder}/ (config.json, vocab.txt or tokenizer.json, and "
        f"model.safetensors or pytorch_model.bin) into {folders[0] if folders else Path.cwd()} or beside the data, or give "
        f"--text-weights DIR.\nIt can be had from: https://huggingface.co/{preset.hub}"
    )
