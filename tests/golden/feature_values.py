"""What stage 1 computes of images and prompts by formula: preprocessed pixels, features, zero-shot scores."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertModel

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.preset import ImagePreset
from tier4k.extract.encoders.presets import HALF, IMAGE_PRESETS, image_preset
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.images.choices import ImageSize
from tier4k.extract.images.crops import Crops
from tier4k.extract.images.preprocessing import Preprocessing, native
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import file_weights
from tier4k.tests.builders.golden import fill, picture, write_tiny_bert
from tier4k.tests.builders.preprocessed import preprocessed, random_crops_of
from tier4k.tests.builders.scorers import write_blip_folder, write_clip, write_image_reward
from tier4k.tests.golden.signature_values import TOKENIZER, WEIGHTS, packaged_encoders

# Resizing computes with whole numbers, so pixels are equal everywhere; networks differ by rounding.
TOLERANCES = {
    "preprocessing": 0.0,
    "random crops": 0.0,
    "image encoders": 1e-4,
    "text encoders": 1e-4,
    "scorers": 1e-4,
}
SLOW_TOLERANCES = {"vit": 1e-4, "clip": 1e-4, "bert-base-uncased": 1e-4}
SMALL_SIZE = 96  # of whole images: what a preset computes does not depend on it
FORMULA_WEIGHTS = ("resnet18", "resnet50", "inceptionv4")
PROMPTS = (
    "a red fox",
    "two paper boats, highly detailed, 8k, trending on artstation",
    "the city at night " * 300,  # more tokens than any encoder takes
)


@cache
def images() -> dict[str, Image.Image]:
    """A wide image, a high one, and a strip that is smaller than what any network sees."""
    return {
        "wide": picture(0, 1).resize((333, 251)),
        "high": picture(0, 2).resize((241, 398)),
        "strip": picture(0, 3).resize((90, 25)),
    }


def feature_values() -> dict[str, Any]:
    """The golden values of the fast tests, by section."""
    return _values_of(TOLERANCES)


def slow_feature_values() -> dict[str, Any]:
    """The golden values of networks of their real size, by section."""
    return _values_of(SLOW_TOLERANCES)


def _values_of(sections: dict[str, float]) -> dict[str, Any]:
    values = {}
    for section in sections:
        with tempfile.TemporaryDirectory() as folder:
            values[section] = section_values(section, Path(folder) / "golden")
    return values


def section_values(section: str, root: Path) -> dict[str, Any]:
    """The golden values of one section, computed from files in a new folder."""
    root.mkdir()
    compute: dict[str, Callable[[Path], dict[str, Any]]] = {
        "preprocessing": preprocessing,
        "random crops": random_crops,
        "image encoders": image_encoders,
        "text encoders": text_encoders,
        "scorers": scorers,
        "vit": vit,
        "clip": clip,
        "bert-base-uncased": bert_base,
    }
    return compute[section](root)


def preprocessing(_: Path) -> dict[str, Any]:
    """The pixels that every preset's network is given."""
    values = {}
    for name, preset in IMAGE_PRESETS.items():
        for variant in ("reference", "native"):
            for size in (None, SMALL_SIZE, "full"):
                preprocessing = preset.preprocessing(variant, size)
                values[f"{name}, {variant}, {size or 'cropped'}"] = _prepared(preprocessing)
    squashed = image_preset("timm:coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k")
    values["timm, squashed"] = _prepared(squashed.preprocessing("native"))
    values["timm, with a border"] = _prepared(native(224, 248, HALF, HALF, crop="border"))
    for name, preset in SCORERS.items():
        values[f"{name}, 224 pixels"] = _prepared(Scorer(preset, WEIGHTS, TOKENIZER).preprocessing(224))
    return values


def _prepared(preprocessing: Preprocessing) -> dict[str, Any]:
    values: dict[str, Any] = {"mean": list(preprocessing.mean), "std": list(preprocessing.std)}
    for name, image in images().items():
        values[name] = _pixels(preprocessed(preprocessing, image))
    return values


def _pixels(prepared: Tensor) -> list[int]:
    """Width, height, the sum of each channel, and the colours of five pixels on the diagonal."""
    pixels = prepared.numpy().astype(int)
    _, height, width = pixels.shape
    values = [width, height, *pixels.sum(axis=(1, 2)).tolist()]
    for part in (0.1, 0.3, 0.5, 0.7, 0.9):
        values += pixels[:, int(part * height), int(part * width)].tolist()
    return values


def random_crops(_: Path) -> dict[str, Any]:
    """The pixels of two random crops of an image, of every way to prepare it that has them."""
    values = {}
    for name, size in (("cropped", None), ("whole", SMALL_SIZE)):
        preprocessing = image_preset("resnet18").preprocessing("reference", size)
        crops = random_crops_of(preprocessing, Crops(2, seed=7), images()["wide"], key=bytes(range(32)))
        for number, crop in enumerate(crops):
            values[f"{name}, crop {number}"] = _pixels(crop)
    return values


def image_encoders(root: Path) -> dict[str, Any]:
    """Features of the presets with weights by formula, and of the one whose weights are installed."""
    values = {}
    for name in FORMULA_WEIGHTS:
        preset = image_preset(name)
        values |= _feature_points(ImageEncoder(preset, _formula_weights(preset, root), preset.reference))
    installed, _ = packaged_encoders()
    values |= _feature_points(replace(installed, preprocessing=installed.preset.reference))
    preset = replace(image_preset("timm:test_vit"), feature="class-token-before-norm")
    encoder = ImageEncoder(preset, _formula_weights(preset, root), preset.reference)
    values |= _feature_points(encoder, (None, SMALL_SIZE))
    return values


def _formula_weights(preset: ImagePreset, root: Path) -> Any:
    path = root / f"{preset.architecture}.safetensors"
    with torch.device("meta"):
        classes = timm_config(preset.architecture).num_classes
        state = timm.create_model(preset.architecture, num_classes=classes).state_dict()
    tensors = fill({name: torch.empty_like(tensor, device="cpu") for name, tensor in state.items()}, 70)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return file_weights(path, "test")


def _feature_points(
    encoder: ImageEncoder, sizes: Sequence[ImageSize | None] = (SMALL_SIZE,)
) -> dict[str, Any]:
    """Pooled features by the reference preprocessing, and multilevel ones by the native one at some sizes."""
    preset = encoder.preset
    values = {f"{preset.name}, reference, pooled": _pooled(encoder)}
    for size in sizes:
        other = replace(encoder, preprocessing=preset.preprocessing("native", size), feature="multilevel")
        values[f"{preset.name}, native, {size or 'cropped'}, multilevel"] = _by_level(other)
    return values


def _encoded(encoder: ImageEncoder) -> dict[str, np.ndarray]:
    """Features (D,) of two images by name."""
    network = load_network(encoder).frozen("fp32")
    values = {}
    with torch.inference_mode():
        for name in ("wide", "high"):
            values[name] = network(preprocessed(encoder.preprocessing, images()[name])[None])[0].numpy()
    return values


def _pooled(encoder: ImageEncoder) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, feature in _encoded(encoder).items():
        values[name] = _sampled(feature)
    return values


def _by_level(encoder: ImageEncoder) -> dict[str, Any]:
    levels = Levels.parse(encoder.signature.feature)
    values: dict[str, Any] = {}
    for name, feature in _encoded(encoder).items():
        values[name] = {"width": len(feature)}
        for level, columns in levels.slices().items():
            values[name][level] = _sampled(feature[columns])
    return values


def _sampled(feature: np.ndarray) -> list[float]:
    """Mean and standard deviation of a feature, and six of its values."""
    places = np.linspace(0, len(feature) - 1, 6).astype(int)
    return [float(feature.mean()), float(feature.std()), *feature[places].astype(float).tolist()]


def text_encoders(root: Path) -> dict[str, Any]:
    """Features of prompts by the encoder whose weights are installed, and by a BERT of two layers."""
    write_tiny_bert(root / "bert")
    _, installed = packaged_encoders()
    return {
        "minilm": _of_prompts(installed),
        "bert of two layers": _of_prompts(find_text_encoder("bert-base-uncased", root / "bert")),
    }


def _of_prompts(encoder: TextEncoder) -> dict[str, Any]:
    network = load_network(encoder).frozen("fp32")
    with torch.inference_mode():
        features = network(network.tokenize(PROMPTS)).numpy()
    values: dict[str, Any] = {"tokens": network.token_counts(PROMPTS)}
    for prompt, feature in zip(PROMPTS, features, strict=True):
        values[prompt[:20]] = _sampled(feature)
    return values


def scorers(root: Path) -> dict[str, Any]:
    """Scores of every image and prompt by small networks; test_golden_scorers.py has those of real size."""
    clip, blip = write_clip(root / "clip"), write_blip_folder(root / "blip")
    for folder in (clip, blip):
        save_file(
            fill(load_file(folder / "model.safetensors"), 73), folder / "model.safetensors", {"format": "pt"}
        )
    reward = write_image_reward(root / "ImageReward.pt", blip)
    torch.save(fill(torch.load(reward, weights_only=True), 73), reward)
    weights = {"clipscore": clip, "pickscore": clip, "blipscore": blip, "imagereward": reward}
    values = {}
    for name in SCORERS:
        values[name] = _scores(find_scorer(name, weights[name]))
    return values


def _scores(scorer: Scorer) -> list[float]:
    network = load_network(scorer).frozen("fp32")
    preprocessing = scorer.preprocessing(network.side)
    values = []
    with torch.inference_mode():
        texts = network.encode_texts(PROMPTS)
        for image in images().values():
            encoded = network.encode_images(preprocessed(preprocessing, image)[None])
            values += network.score(encoded.expand(len(texts), *encoded.shape[1:]), texts).tolist()
    return values


def vit(root: Path) -> dict[str, Any]:
    """Features of the vision transformer of TIER-4K, of its real size."""
    preset = image_preset("vit")
    return _feature_points(ImageEncoder(preset, _formula_weights(preset, root), preset.reference), (None,))


def clip(root: Path) -> dict[str, Any]:
    """Features of CLIP's image tower, of its real size."""
    preset = image_preset("clip")
    return _feature_points(ImageEncoder(preset, _formula_weights(preset, root), preset.reference), (None,))


def bert_base(root: Path) -> dict[str, Any]:
    """Features of prompts by a BERT of the published size."""
    write_tiny_bert(root)
    config = BertConfig()
    config.save_pretrained(root)
    with torch.device("meta"):
        state = BertModel(config).state_dict()
    tensors = {name: torch.empty_like(tensor, device="cpu") for name, tensor in state.items()}
    torch.save(fill(tensors, 71), root / "pytorch_model.bin")
    return _of_prompts(find_text_encoder("bert-base-uncased", root))
