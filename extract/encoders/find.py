"""Finding an encoder and its weights.

Weights are taken from the path that the user passes, from folders, from an installed package, or from the
Hugging Face hub.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tier4k.extract.encoders.choices import Precision, StoreDtype
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.function import ImageEncoderFunction, function_named
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.preset import ImagePreset
from tier4k.extract.encoders.presets import IMAGE_PRESETS, hf_repository, image_preset, text_preset
from tier4k.extract.encoders.text_families import text_model
from tier4k.extract.encoders.transformers_config import CONFIG
from tier4k.extract.encoders.transformers_models import transformers_preset
from tier4k.extract.images.crops import CENTRE_CROP, REPLACEABLE_CROPS
from tier4k.extract.weights.files import MODEL_FILES, Weights, file_weights, folder_weights
from tier4k.extract.weights.known import FoundWeights, KnownWeights, hugging_face_weights


def find_image_encoder(
    choice: ImageChoice,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
) -> ImageEncoder:
    """Find an image encoder and its weights.

    Args:
        choice: Name or import path of the encoder, and options of its features.
        weights: A file that the user passes, or for `hf:` a folder; if set, no other place is searched.
        folders: Folders that may contain `pretrained/`, or for `hf:` the encoder's folder.

    Raises:
        EncoderError: The encoder does not exist or does not support the options.
        PluginError: An encoder in code cannot be imported.
        WeightsError: No weights are found; the message names the file, its source and where to put it.
    """
    function = choice.function
    if function is None and choice.encoder not in IMAGE_PRESETS:
        function = function_named(choice.encoder)
    if function is not None:
        if weights is not None:
            raise EncoderError(
                f"{choice.encoder} is a function, which has its own weights: leave out --image-weights"
            )
        return function_encoder(function, choice)
    if repository := hf_repository(choice.encoder):
        known = hugging_face_weights(choice.encoder, repository, "image")
        found = _find_folder(known, choice.encoder, weights, folders)
        preset = transformers_preset(choice.encoder, found.path)
        return _image_encoder(choice, preset, lambda: folder_weights(found.path, found.source, MODEL_FILES))
    preset = image_preset(choice.encoder)
    return _image_encoder(choice, preset, lambda: _image_weights(preset, weights, folders))


def function_encoder(
    function: ImageEncoderFunction,
    choice: ImageChoice,
) -> ImageEncoder:
    """Return the image encoder of a function.

    Args:
        function: The function with its name, version and preprocessing.
        choice: Options of the features; the name in it has no meaning.

    Raises:
        EncoderError: The name is that of a preset, or a function does not support the options.
    """
    if function.name in IMAGE_PRESETS:
        raise EncoderError(f"{function.name} is an image encoder of tier4k: give the function another name")
    if choice.precision in ("bf16", "fp16"):
        raise EncoderError(
            f"{function.name} is a function, which decides its precision itself: do not pass --precision "
            f"{choice.precision}"
        )
    preset = ImagePreset(
        name=function.name,
        architecture=function.architecture,
        weights=KnownWeights(function.name, "of its author"),
        reference=function.preprocessing,
        native=function.preprocessing,
        default_preprocessing="native",
        feature=f"pooled: the output of version {function.version}",
        library="function",
    )
    return replace(_image_encoder(choice, preset, lambda: function.weights), function=function)


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
        store_dtype=choice.store_dtype or "float32",
    )


def find_text_encoder(
    name: str,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    precision: Precision | None = None,
    store_dtype: StoreDtype | None = None,
) -> TextEncoder:
    """Find a text encoder and its folder.

    Args:
        name: A preset, or `hf:NAME_OR_PATH`.
        weights: A folder that the user passes; if set, no other place is searched.
        folders: Folders that may contain the encoder's folder.
        precision: Arithmetic of the network; None uses "fp32".
        store_dtype: Type of the stored numbers; None uses "float32".

    Raises:
        EncoderError: The encoder does not exist, or its folder holds none that this program reads.
        WeightsError: No weights are found; the message names the folder, its source and where to put it.
    """
    preset = text_preset(name)
    found = _find_folder(preset.weights, preset.name, weights, folders)
    model = text_model(found.path, found.source, preset.reads_modules)
    weights_of_folder = folder_weights(found.path, found.source, model.weight_files)
    return TextEncoder(preset, weights_of_folder, precision or "fp32", model, store_dtype or "float32")


def _image_weights(
    preset: ImagePreset,
    user_file: Path | None,
    folders: Sequence[Path],
) -> Weights:
    if user_file is not None:
        return file_weights(user_file, "--image-weights")
    return preset.weights.find(preset.name, folders).weights()


def _find_folder(
    known: KnownWeights,
    encoder: str,
    user_folder: Path | None,
    folders: Sequence[Path],
) -> FoundWeights:
    """Find a folder of Hugging Face with a configuration; `user_folder` takes precedence."""
    if user_folder is not None:
        found = FoundWeights(user_folder, f"--{known.stream}-weights")
    else:
        found = known.find(encoder, folders)
    folder_weights(found.path, found.source, (CONFIG,))
    return found
