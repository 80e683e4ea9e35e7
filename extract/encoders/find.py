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
from tier4k.extract.encoders.presets import HF, image_preset, text_preset
from tier4k.extract.encoders.transformers_models import transformers_preset
from tier4k.extract.images.crops import CENTRE_CROP, REPLACEABLE_CROPS
from tier4k.extract.weights.files import (
    IMAGE_SUFFIXES,
    MODEL_FILES,
    PROCESSOR_FILES,
    SHARD_INDEX,
    TEXT_FILES,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)
from tier4k.extract.weights.hub import from_hub

CONFIG_FILES = ("config.json", *PROCESSOR_FILES)
SAFETENSORS = ("model.safetensors", "model-*.safetensors", SHARD_INDEX)


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
    if choice.encoder.startswith(HF):
        found = _folder_weights(choice.encoder.removeprefix(HF), weights, folders)
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
    if local_file := find_file(_file_names(preset), folders):
        return file_weights(local_file, str(local_file))
    if preset.package and (package_file := preset.package.find()):
        return file_weights(package_file, f"package {preset.package.module}")
    if hub_folder := from_hub(preset.hub, ("model.safetensors",)):
        return file_weights(hub_folder / "model.safetensors", f"hub {preset.hub}")
    file = preset.files[0].replace(".*", ".pth")
    folder = folders[0] if folders else Path.cwd()
    raise WeightsError(
        f"there are no weights for the image encoder {preset.name}: put {file} into {folder}/pretrained/ "
        "(or a pretrained/ folder beside the data), or pass --image-weights FILE.\n"
        f"Download the file from: {preset.download}"
    )


def _folder_weights(
    repository: str,
    user_folder: Path | None,
    folders: Sequence[Path],
) -> Weights:
    """Return the weights of an image encoder in a folder of Hugging Face.

    Args:
        repository: Path of a folder, or name on the hub.
        user_folder, folders: As for `find_image_encoder`.
    """
    if user_folder is not None:
        return folder_weights(user_folder, "--image-weights", MODEL_FILES)
    for folder in folders:
        path = folder / repository
        if path.is_dir():
            return folder_weights(path, str(path), MODEL_FILES)
    if hub_folder := from_hub(repository, (*CONFIG_FILES, *SAFETENSORS)):
        if not any(hub_folder.glob("*.safetensors")):
            hub_folder = from_hub(repository, (*CONFIG_FILES, *MODEL_FILES)) or hub_folder
        return folder_weights(hub_folder, f"hub {repository}", MODEL_FILES)
    folder = folders[0] if folders else Path.cwd()
    raise WeightsError(
        f"there is no image encoder {HF}{repository}: put a folder {repository}/ (config.json, "
        f"preprocessor_config.json and model.safetensors) into {folder} or beside the data, or pass "
        f"--image-weights DIR.\nDownload the folder from: https://huggingface.co/{repository}"
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
    user_folder: Path | None,
    folders: Sequence[Path],
) -> Weights:
    if user_folder is not None:
        return folder_weights(user_folder, "--text-weights")
    for folder in folders:
        path = folder / preset.folder
        if path.is_dir():
            return folder_weights(path, str(path))
    if preset.package and (package_folder := preset.package.find()):
        return folder_weights(package_folder, f"package {preset.package.module}")
    if hub_folder := from_hub(preset.hub, TEXT_FILES):
        return folder_weights(hub_folder, f"hub {preset.hub}")
    folder = folders[0] if folders else Path.cwd()
    raise WeightsError(
        f"there are no weights for the text encoder {preset.name}: put a folder {preset.folder}/ "
        "(config.json, vocab.txt or tokenizer.json, and model.safetensors or pytorch_model.bin) into "
        f"{folder} or beside the data, or pass --text-weights DIR.\n"
        f"Download the folder from: https://huggingface.co/{preset.hub}"
    )
