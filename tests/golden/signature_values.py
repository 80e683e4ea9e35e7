"""The folder names of the stores of every preset, which end in the digests of their signatures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.preset import ImagePreset, TextPreset
from tier4k.extract.encoders.presets import IMAGE_PRESETS, TEXT_PRESETS, image_preset, text_preset
from tier4k.extract.images.choices import ImageSize
from tier4k.extract.images.crops import Crops
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import Weights, file_weights, folder_weights

# Most weights are not installed, so a fixed hash stands for them. See `packaged_encoders` for those that are.
WEIGHTS = Weights(Path("weights"), "0123456789abcdef" * 4, "test")
TOKENIZER = Weights(Path("tokenizer"), "fedcba9876543210" * 4, "test")
IMAGE_SIZES = (None, 512, "full")
TIMM = (
    "timm:convnext_tiny.in12k_ft_in1k",
    "timm:vit_small_patch14_dinov2.lvd142m",
    "timm:swin_tiny_patch4_window7_224",
)
HUGGING_FACE = ("hf:sentence-transformers/all-mpnet-base-v2", "hf:models/my-bert")


def folder_names() -> dict[str, dict[str, str]]:
    """Folder names of stores, by what a user asks for."""
    named_images, named_texts = [*IMAGE_PRESETS, *TIMM], [*TEXT_PRESETS, *HUGGING_FACE]
    images: dict[str, str] = {}
    for name in named_images:
        images |= _image_names(image_preset(name))
    texts: dict[str, str] = {}
    for name in named_texts:
        texts |= _text_names(text_preset(name))
    return {"image": images, "text": texts, "score": _score_names(), "installed weights": _packaged_names()}


def accepted_sizes(preset: ImagePreset, sizes: Sequence[ImageSize | None]) -> tuple[ImageSize | None, ...]:
    """Those of some image sizes that an encoder accepts."""
    try:
        preset.preprocessing(image_size="full")
    except EncoderError:
        return (None,)
    return tuple(sizes)


def _image_names(preset: ImagePreset) -> dict[str, str]:
    names = {}
    for preprocessing in ("reference", "native"):
        for size in accepted_sizes(preset, IMAGE_SIZES):
            encoder = ImageEncoder(preset, WEIGHTS, preset.preprocessing(preprocessing, size))
            for feature in ("pooled", "multilevel"):
                where = f"{preset.name} {preprocessing} {size or 'cropped'} {feature}"
                names[where] = _name(replace(encoder, feature=feature).signature)
    encoder = ImageEncoder(preset, WEIGHTS, preset.preprocessing())
    for precision in get_args(Precision):
        names[f"{preset.name} {precision}"] = _name(replace(encoder, precision=precision).signature)
    names[f"{preset.name} stored in float16"] = _name(replace(encoder, store_dtype="float16").signature)
    names[f"{preset.name} with 4 random crops, seed 7"] = _name(replace(encoder, crops=Crops(4, 7)).signature)
    return names


def _text_names(preset: TextPreset) -> dict[str, str]:
    names = {}
    for precision in get_args(Precision):
        names[f"{preset.name} {precision}"] = _name(TextEncoder(preset, WEIGHTS, precision).signature)
    half = TextEncoder(preset, WEIGHTS, store_dtype="float16")
    names[f"{preset.name} stored in float16"] = _name(half.signature)
    return names


def _score_names() -> dict[str, str]:
    names = {}
    for name, preset in SCORERS.items():
        for precision in get_args(Precision):
            names[f"{name} {precision}"] = _name(Scorer(preset, WEIGHTS, TOKENIZER, precision).signature)
    return names


def packaged_encoders() -> tuple[ImageEncoder, TextEncoder]:
    """The encoders whose weights are installed with the program."""
    image, text = IMAGE_PRESETS["efficientnet-lite0"], TEXT_PRESETS["minilm"]
    image_place, text_place = image.weights.in_package(), text.weights.in_package()
    assert image_place is not None and text_place is not None
    image_file, text_folder = image_place.path, text_place.path
    pictures = ImageEncoder(image, file_weights(image_file, "package"), image.preprocessing())
    return pictures, TextEncoder(text, folder_weights(text_folder, "package"))


def _packaged_names() -> dict[str, str]:
    image, text = packaged_encoders()
    best = replace(image, preprocessing=image.preset.preprocessing(None, 512), feature="multilevel")
    encoders = {"efficientnet-lite0": image, "efficientnet-lite0 --preset best": best, "minilm": text}
    names = {}
    for name, encoder in encoders.items():
        names[name] = _name(encoder.signature)
    return names


def _name(signature: Signature) -> str:
    assert signature.folder_name.endswith(f"-{signature.digest}")
    return signature.folder_name
