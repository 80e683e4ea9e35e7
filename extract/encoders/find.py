"""Finding an encoder and its weights: given by the user, in folders, in an installed package, or in the hub's
cache.
"""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.hub import from_hub
from tier4k.extract.encoders.image_choice import ImageChoice
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
    choice: ImageChoice,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
) -> ImageEncoder:
    """Find an image encoder and its weights.

    Args:
        choice: The encoder and its options.
        weights: A file given by the user; no other place is searched then.
        folders: Folders that may hold `pretrained/`.

    Raises:
        EncoderError: There is no such encoder, or it does not allow these options.
        WeightsError: There are no weights; the message names the file, its source and where to put it.
    """
    preset = image_preset(choice.encoder)
    preprocessing = preset.preprocessing(choice.preprocessing, choice.image_size)
    feature = choice.feature or "pooled"
    # refuses multilevel features that do not exist, before weights are searched
    preset.feature_point(feature)
    crops = choice.crops or CENTRE_CROP
    if crops.count and preprocessing.crop not in ("center", "no"):
        raise EncoderError(
            f"{preset.name} crops images by {preprocessing.crop!r}, which has no random crops: leave "
            "--crops out"
        )
    return ImageEncoder(
        preset=preset,
        weights=_image_weights(preset, weights, folders),
        preprocessing=preprocessing,
        feature=feature,
        precision=choice.precision or "fp32",
        crops=crops,
    )


def find_text_encoder(
    name: str,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    precision: Precision | None = None,
) -> TextEncoder:
    """Find a text encoder and its folder.

    Args:
        name: A preset, or `hf:NAME_OR_PATH`.
        weights: A folder given by the user; no other place is searched then.
        folders: Folders that may hold the encoder's folder.
        precision: Arithmetic of the network; None is "fp32".

    Raises:
        EncoderError: There is no such encoder.
        WeightsError: There are no weights; the message names the folder, its source and where to put it.
    """
    preset = text_preset(name)
    return TextEncoder(preset, _text_weights(preset, weights, folders), precision or "fp32")


def _image_weights(
    preset: ImagePreset,
    given: Path | None,
    folders: Sequence[Path],
) -> Weights:
    if given is not None:
        return file_weights(given, "--image-weights")
    if found := find_file(_file_names(preset), folders):
        return file_weights(found, str(found))
    if preset.package and (packaged := preset.package.find()):
        return file_weights(packaged, f"package {preset.package.module}")
    if hub := from_hub(preset.hub, ("model.safetensors",)):
        return file_weights(hub / "model.safetensors", f"hub {preset.hub}")
    file = preset.files[0].replace(".*", ".pth")
    folder = folders[0] if folders else Path.cwd()
    raise WeightsError(
        f"no weights for the image encoder {preset.name}: put {file} into {folder}/pretrained/ "
        "(or a pretrained/ folder beside the data), or give --image-weights FILE.\n"
        f"Download it from: {preset.download}"
    )


def _file_names(preset: ImagePreset) -> list[str]:
    """Return the possible names of the weights, in the preset's order, with every suffix of a pattern."""
    names: list[str] = []
    for pattern in preset.files:
        stem = pattern.removesuffix(".*")
        if stem == pattern:
            names.append(pattern)
        else:
            names.extend(stem + suffix for suffix in IMAGE_SUFFIXES)
    return names


def _text_weights(
    preset: TextPreset,
    given: Path | None,
    folders: Sequence[Path],
) -> Weights:
    if given is not None:
        return folder_weights(given, "--text-weights")
    for folder in folders:
        path = folder / preset.folder
        if path.is_dir():
            return folder_weights(path, str(path))
    if preset.package and (packaged := preset.package.find()):
        return folder_weights(packaged, f"package {preset.package.module}")
    if hub := from_hub(preset.hub, TEXT_FILES):
        return folder_weights(hub, f"hub {preset.hub}")
    folder = folders[0] if folders else Path.cwd()
    raise WeightsError(
        f"no weights for the text encoder {preset.name}: put a folder {preset.folder}/ (config.json, "
        "vocab.txt or "
        f"tokenizer.json, and model.safetensors or pytorch_model.bin) into {folder} or beside the data, "
        f"or give --text-weights DIR.\nDownload it from: https://huggingface.co/{preset.hub}"
    )
