"""Finding an encoder and its weights.

Weights are taken from the path that the user passes, from folders, from an installed package, or from the
Hugging Face hub.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.presets import hf_repository, image_preset, text_preset
from tier4k.extract.encoders.transformers_models import transformers_preset
from tier4k.extract.images.crops import CENTRE_CROP, REPLACEABLE_CROPS
from tier4k.extract.weights.files import Weights, file_weights, folder_weights
from tier4k.extract.weights.image_folders import find_image_folder


def find_image_encoder(
    choice: ImageChoice,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
) -> ImageEncoder:
    """Find an image encoder and its weights.

    Args:
        choice: Name of the encoder, and options of its features.
        weights: A file that the user passes, or for `hf:` a folder; if set, no other place is searched.
        folders: Folders that may contain `pretrained/`, or for `hf:` the encoder's folder.

    Raises:
        EncoderError: The encoder does not exist or does not support the options.
        WeightsError: No weights are found; the message names the file, its source and where to put it.
    """
    if repository := hf_repository(choice.encoder):
        found = find_image_folder(repository, weights, folders)
        return _image_encoder(choice, transformers_preset(choice.encoder, found.path), lambda: found)
    preset = image_preset(choice.encoder)
    return _image_encoder(choice, preset, lambda: _image_weights(preset, weights, folders))


def _image_encoder(
    choice: ImageChoice,
    preset: ImagePreset,
    find_weights: Callable[[], Weights],
) -> ImageEncoder:
    """Return the encoder of a preset.

    Options that the encoder does not support are refused before weights are searched.
    """
    preprocessing = preset.preprocessing(choice.preprocessing, choice.image_size)
    feature = choice.feature or "pooled"
    preset.feature_point(feature)
    crops = choice.crops or CENTRE_CROP
    if crops.count and preprocessing.crop not in REPLACEABLE_CROPS:
        raise EncoderError(
            f"{preset.name} crops images by {preprocessing.crop!r}, which does not support random crops: "
            "do not pass --crops"
        )
    return ImageEncoder(
        preset=preset,
        weights=find_weights(),
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
        weights: A folder that the user passes; if set, no other place is searched.
        folders: Folders that may contain the encoder's folder.
        precision: Arithmetic of the network; None uses "fp32".

    Raises:
        EncoderError: The encoder does not exist.
        WeightsError: No weights are found; the message names the folder, its source and where to put it.
    """
    preset = text_preset(name)
    return TextEncoder(preset, _text_weights(preset, weights, folders), precision or "fp32")


def _image_weights(
    preset: ImagePreset,
    user_file: Path | None,
    folders: Sequence[Path],
) -> Weights:
    if user_file is not None:
        return file_weights(user_file, "--image-weights")
    return preset.weights.find(preset.name, folders)


def _text_weights(
    preset: TextPreset,
    user_folder: Path | None,
    folders: Sequence[Path],
) -> Weights:
    if user_folder is not None:
        return folder_weights(user_folder, "--text-weights")
    return preset.weights.find(preset.name, folders)
