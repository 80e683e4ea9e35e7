"""Image processors of transformers become preprocessing with the same pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

from tier4k.extract.encoders.image_processors import image_preprocessing
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.images.preprocessing import Preprocessing, patch_grid
from tier4k.extract.weights.files import WeightsError
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.preprocessed import preprocessed

SIZES = [(61, 47), (47, 61), (33, 100), (224, 224), (32, 32), (20, 9), (301, 150), (7, 400)]
SQUARE = {"size": {"height": 32, "width": 32}}
PROCESSORS: dict[str, Any] = {
    "CLIP": hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    "CLIP with an odd margin": hf.CLIPImageProcessorPil(
        size={"shortest_edge": 37}, crop_size={"height": 32, "width": 32}, resample=1
    ),
    "SigLIP": hf.SiglipImageProcessorPil(**SQUARE),
    "ViT": hf.ViTImageProcessorPil(**SQUARE),
    "DeiT": hf.DeiTImageProcessorPil(size={"height": 38, "width": 38}, crop_size={"height": 32, "width": 32}),
    "BEiT": hf.BeitImageProcessorPil(**SQUARE),
    "BiT": hf.BitImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 28, "width": 28}),
    "small ConvNeXt": hf.ConvNextImageProcessorPil(size={"shortest_edge": 33}, crop_pct=0.87),
    "large ConvNeXt": hf.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    "SigLIP 2": hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=23),
    "without normalisation": hf.ViTImageProcessorPil(do_normalize=False, **SQUARE),
    "of whole numbers": hf.ViTImageProcessorPil(
        do_rescale=False, image_mean=[120.0, 110.0, 100.0], image_std=[60.0, 61.0, 62.0], **SQUARE
    ),
    "of another scale": hf.ViTImageProcessorPil(rescale_factor=1 / 127.5, image_mean=[1.0] * 3, **SQUARE),
}


def read(folder: Path, processor: Any) -> Preprocessing:
    processor.save_pretrained(folder)
    return image_preprocessing(folder, 8)


def normalised(preprocessing: Preprocessing, pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (pixels.float() / 255 - mean) / std


def images_of_patches(values: dict[str, Any]) -> np.ndarray:
    """Images (3, H, W) from the patches of SigLIP 2's processor, of 8 x 8 pixels, without padding."""
    rows, columns = (int(side) for side in values["spatial_shapes"][0])
    patches = np.asarray(values["pixel_values"][0])[: rows * columns]
    grid = patches.reshape(rows, columns, 8, 8, 3)
    return grid.transpose(4, 0, 2, 1, 3).reshape(3, rows * 8, columns * 8)


def processed(processor: Any, image: Any, **options: Any) -> np.ndarray:
    values = processor(images=image, return_tensors="np", **options)
    if "spatial_shapes" in values:
        return images_of_patches(values)
    return np.asarray(values["pixel_values"][0])


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_processor(tmp_path: Path, name: str) -> None:
    processor = PROCESSORS[name]
    preprocessing = read(tmp_path, processor)
    for seed, size in enumerate(SIZES):
        image = make_picture(seed, size)
        pixels = preprocessed(preprocessing, image)
        raw = processed(processor, image, do_normalize=False, do_rescale=False)
        np.testing.assert_array_equal(pixels.numpy(), raw)
        expected = processed(processor, image)
        found = normalised(preprocessing, pixels).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6 * max(1, np.abs(expected).max()))


def test_pixels_of_a_processor_without_a_pil_backend_differ_by_one_grey_level_at_most(tmp_path: Path) -> None:
    processor = hf.DINOv3ViTImageProcessor(**SQUARE)
    preprocessing = read(tmp_path, processor)
    for seed, size in enumerate(SIZES):
        image = make_picture(seed, size)
        raw = processor(images=image, do_normalize=False, return_tensors="pt")["pixel_values"][0] * 255
        assert (preprocessed(preprocessing, image).float() - raw).abs().max() <= 1
    assert preprocessing.mean == (0.485, 0.456, 0.406)


def test_the_grid_of_patches_is_that_of_transformers_for_images_of_any_shape() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        most = int(random.choice([3, 50, 500, 5000]))
        width, height = map(int, random.integers(1, most + 1, 2))
        patch, patches = int(random.choice([8, 14, 16])), int(random.choice([1, 64, 256, 1000]))
        expected = get_image_size_for_max_num_patches(height, width, patch, patches)
        columns, rows = patch_grid((width, height), patch, patches)
        assert (rows * patch, columns * patch) == expected


def test_the_text_of_a_preprocessing_tells_the_patches(tmp_path: Path) -> None:
    preprocessing = read(tmp_path, PROCESSORS["SigLIP 2"])
    assert str(preprocessing) == (
        "native: at most 23 patches bilinear, no crop, sides multiples of 8, mean (0.5, 0.5, 0.5), "
        "std (0.5, 0.5, 0.5)"
    )
    assert str(preprocessing.whole(64, 8)).startswith(
        "native at 64: shorter side 64 bilinear, no crop, sides"
    )


def test_files_of_every_age_are_read(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 30, "resample": 3}
    path.write_text(json.dumps(old))
    preprocessing = image_preprocessing(tmp_path, 8)
    assert (preprocessing.size, preprocessing.resize, preprocessing.crop) == (30, 32, "floor")
    path.rename(tmp_path / "old.json")
    nested = {"image_processor": {"image_processor_type": "ViTImageProcessorFast", **SQUARE}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert (image_preprocessing(tmp_path, 8).size, image_preprocessing(tmp_path, 8).crop) == (32, "squash")


REFUSED = {
    "size": {"size": {"height": 32, "width": 48}},
    "resample": {"resample": 0},
    "do_resize": {"do_resize": False},
    "do_pad": {"do_pad": True},
    "crop_size": {"do_center_crop": True, "crop_size": {"height": 31, "width": 31}},
    "do_center_crop": {"size": {"shortest_edge": 32}},
    "image_mean": {"image_mean": [0.5]},
}


@pytest.mark.parametrize("field", REFUSED)
def test_a_step_that_is_not_done_here_is_refused_by_its_field(tmp_path: Path, field: str) -> None:
    content = {"image_processor_type": "ViTImageProcessor", **SQUARE, **REFUSED[field]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=rf"ViTImageProcessor\) has {field} = "):
        image_preprocessing(tmp_path, 8)


def test_patches_of_another_size_and_unknown_processors_are_refused(tmp_path: Path) -> None:
    PROCESSORS["SigLIP 2"].save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="has patch_size = 8"):
        image_preprocessing(tmp_path, 16)
    hf.LevitImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"LevitImageProcessor\) is none of those that tier4k reads"):
        image_preprocessing(tmp_path, 16)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="lacks preprocessor_config.json"):
        image_preprocessing(tmp_path, 16)


@pytest.mark.parametrize(
    "content",
    [
        {"image_mean": ["a", "b", "c"]},
        {"image_mean": [10**400, 0.5, 0.5]},
        {"image_std": [-1, 0.5, 0.5]},
        {"image_std": [1e999, 0.5, 0.5]},
        {"rescale_factor": {}},
        {"size": {"height": 2**64, "width": 2**64}},
        {"size": {"height": 0, "width": 0}},
        {"resample": [1]},
    ],
)
def test_a_value_of_a_wrong_type_or_range_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    content = {"image_processor_type": "ViTImageProcessor", **SQUARE, **content}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises((EncoderError, WeightsError), match=str(tmp_path)):
        image_preprocessing(tmp_path, 8)
