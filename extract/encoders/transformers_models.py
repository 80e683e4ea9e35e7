"""Image encoders in folders of Hugging Face, described without loading their weights."""

import math
from pathlib import Path
from typing import Any

from tier4k.extract.encoders.image_processors import image_preprocessing
from tier4k.extract.encoders.levels import TOKEN_STATISTICS, Levels, block_levels
from tier4k.extract.encoders.names import HF, EncoderError
from tier4k.extract.encoders.preset import ImagePreset
from tier4k.extract.encoders.transformers_families import VisionModel, vision_model
from tier4k.extract.images.preprocessing import reference
from tier4k.extract.weights.known import hugging_face_weights


def transformers_preset(name: str, folder: Path) -> ImagePreset:
    """Describe the vision model, or the vision tower, in a folder of Hugging Face.

    Args:
        name: Value of --image-encoder, `hf:NAME_OR_PATH`.
        folder: Folder with config.json and preprocessor_config.json.

    Raises:
        EncoderError: The folder has no vision model of transformers, or the model or its image processor does
            something that this program does not do.
        WeightsError: A file is missing or damaged.
    """
    model = vision_model(folder)
    native = image_preprocessing(folder, model.patch)
    # A NaFlex model takes images of any shape; the size is that of a square image.
    size = native.size or model.patch * math.isqrt(native.patches or 1)
    levels = _probe(model, folder, size)
    return ImagePreset(
        name=name,
        architecture=f"transformers {model.family.model}",
        weights=hugging_face_weights(name, name.removeprefix(HF), "image"),
        reference=reference(size, round(size * 256 / 224)),
        native=native,
        default_preprocessing="native",
        feature=model.family.feature,
        levels=levels,
        multiple=model.patch if model.known or _encodes(model, size + 64, size + 32) else None,
        library="transformers",
    )


def _probe(
    model: VisionModel,
    folder: Path,
    size: int,
) -> Levels | None:
    """Return the levels of a model, by the shapes of its outputs; None where hidden states are no levels.

    Raises:
        EncoderError: The model cannot encode images of this size, or has no pooled embedding.
    """
    try:
        outputs = _outputs(model, size, size)
    except Exception as error:  # models of any kind fail in any way
        raise EncoderError(
            f"{model.family.model} in {folder} cannot encode images of {size} x {size} pixels ({error}): "
            "pass another model"
        ) from error
    if not _has_embedding(model, outputs):
        raise EncoderError(
            f"{model.family.model} in {folder} gives no pooled embedding ({model.family.embedding}): pass "
            "another model"
        )
    return _levels(model, [tuple(state.shape) for state in model.hidden_states(outputs)], size)


def _outputs(
    model: VisionModel,
    height: int,
    width: int,
) -> Any:
    """Return the outputs of a network without weights for an image, which have shapes but no values."""
    import torch

    with torch.device("meta"):
        network = model.model_class(model.config, **dict(model.family.options)).eval()
    with torch.no_grad():
        return model.outputs(network, torch.empty(1, 3, height, width, device="meta"), levels=True)


def _encodes(
    model: VisionModel,
    height: int,
    width: int,
) -> bool:
    """Return whether a network takes images of this size."""
    try:
        _outputs(model, height, width)
    except Exception:  # models of any kind fail in any way
        return False
    return True


def _has_embedding(model: VisionModel, outputs: Any) -> bool:
    """Return whether outputs contain a vector (1, D) for the image."""
    try:
        return model.embedding(outputs).ndim == 2
    except AttributeError:
        return False


def _levels(
    model: VisionModel,
    shapes: list[tuple[int, ...]],
    size: int,
) -> Levels | None:
    """Return the levels of hidden states with these shapes: every stage, or four blocks."""
    if not model.known:
        return None  # their order, or their axes, may be others
    if not model.family.has_patches and all(len(shape) == 4 for shape in shapes):
        names = tuple(f"stage{number}" for number in range(1, len(shapes) + 1))
        return Levels(names, tuple(shape[1] for shape in shapes))
    tokens = (size // model.patch) ** 2 + model.tokens_before_patches
    if any(len(shape) != 3 or shape[1] != tokens for shape in shapes):
        return None
    statistics = TOKEN_STATISTICS if model.family.class_token else TOKEN_STATISTICS[1:]
    return block_levels([shape[2] for shape in shapes], statistics)
