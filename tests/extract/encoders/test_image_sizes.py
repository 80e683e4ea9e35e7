"""Networks read whole images of any size that they can take; others refuse to."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.from_signature import image_choice, image_encoder_of
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.preset import ImagePreset
from tier4k.extract.encoders.presets import IMAGE_PRESETS
from tier4k.extract.encoders.timm_models import side_multiple
from tier4k.extract.images.choices import ImageSize
from tier4k.extract.images.crops import Crops
from tier4k.extract.images.preprocessing import reference
from tier4k.extract.pipeline.load import load_network
from tier4k.tests.builders.data import make_picture, tiny_encoder
from tier4k.tests.builders.preprocessed import preprocessed, random_crops_of

pytestmark = pytest.mark.usefixtures("no_hub")

NATIVE = 160  # side of the images of timm's smallest transformers


def at(encoder: ImageEncoder, size: ImageSize, feature: Any = "pooled") -> ImageEncoder:
    """The encoder with whole images."""
    preprocessing = encoder.preset.preprocessing("reference", size)
    return replace(encoder, preprocessing=preprocessing, feature=feature)


def features(encoder: ImageEncoder, image: Image.Image) -> Tensor:
    with torch.inference_mode():
        return load_network(encoder)(preprocessed(encoder.preprocessing, image)[None])


def normalised(encoder: ImageEncoder, image: Image.Image) -> Tensor:
    mean, std = (
        torch.tensor(one).view(3, 1, 1) for one in (encoder.preprocessing.mean, encoder.preprocessing.std)
    )
    return (preprocessed(encoder.preprocessing, image)[None] / 255 - mean) / std


@pytest.mark.parametrize("preset", IMAGE_PRESETS.values(), ids=IMAGE_PRESETS)
def test_the_multiple_of_every_preset_is_that_of_its_architecture(preset: ImagePreset) -> None:
    assert preset.multiple == side_multiple(preset.architecture)


@pytest.mark.parametrize(
    ("architecture", "multiple"),
    [
        ("test_resnet", 1),
        ("test_convnext", 1),
        ("test_vit", 16),
        ("vit_small_patch14_dinov2", 14),
        ("vit_small_patch16_dinov3", 16),
        ("vit_tiny_r_s16_p8_224", 32),  # patches of a map of a CNN
        ("dla34", 32),  # maps are halved five times and brought together again
    ],
)
def test_sides_are_multiples_of_what_a_network_needs(architecture: str, multiple: int) -> None:
    assert side_multiple(architecture) == multiple


@pytest.mark.parametrize("architecture", ["test_vit", "test_vit2", "test_vit3"])
@pytest.mark.parametrize("feature", ["pooled", "multilevel"])
def test_a_whole_image_of_the_native_size_has_the_features_of_the_cropped_one(
    tmp_path: Path, architecture: str, feature: str
) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    cropped = replace(encoder, preprocessing=reference(NATIVE, NATIVE), feature=feature)
    image = make_picture(0, (NATIVE, NATIVE))
    assert torch.equal(features(cropped, image), features(at(encoder, NATIVE, feature), image))
    assert torch.equal(features(cropped, image), features(at(encoder, "full", feature), image))


def test_positions_are_interpolated_to_the_patches_of_the_image(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path, "test_vit")
    whole, image = at(encoder, 96), make_picture(1, (300, 200))
    inputs = normalised(whole, image)
    height, width = inputs.shape[2:]
    assert (height, width) == (96, 144)
    state = torch.load(encoder.weights.path, weights_only=True)
    first, grid = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    side = NATIVE // 16
    grid = torch.nn.functional.interpolate(
        grid.reshape(1, side, side, -1).permute(0, 3, 1, 2),
        (height // 16, width // 16),
        mode="bicubic",
        antialias=True,
    )
    state["pos_embed"] = torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)
    model = timm.create_model("test_vit", img_size=(height, width), dynamic_img_size=False).eval()
    model.load_state_dict(state)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(inputs), pre_logits=True)
    torch.testing.assert_close(features(whole, image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_dinov2_reads_its_native_size_both_ways_and_any_other(tmp_path: Path) -> None:
    architecture = "vit_small_patch14_dinov2"
    encoder = replace(tiny_encoder(tmp_path, architecture), preprocessing=reference(518, 518))
    image = make_picture(2, (518, 518))
    native = features(encoder, image)
    assert torch.equal(features(at(encoder, 518), image), native)
    wide = features(at(encoder, 112), make_picture(2, (518, 300)))
    assert wide.shape == native.shape and torch.isfinite(wide).all()


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("size", [(100, 1), (33, 47), (31, 400)])
def test_images_of_every_shape_are_read_whole(
    tmp_path: Path, architecture: str, size: tuple[int, int]
) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    for asked in (90, "full"):
        whole = at(encoder, asked)
        found = features(whole, make_picture(3, size))
        assert torch.isfinite(found).all() and found.shape == (1, found.numel())
        network = load_network(whole)
        for crop in random_crops_of(whole.preprocessing, Crops(2), make_picture(3, size), bytes(32)):
            with torch.inference_mode():
                assert torch.isfinite(network(crop[None])).all()


@pytest.mark.parametrize("name", ["vit", "timm:test_vit", "resnet18", "timm:vit_small_patch14_dinov2"])
@pytest.mark.parametrize("size", [448, "full"])
@pytest.mark.parametrize("feature", ["pooled", "multilevel"])
def test_the_encoder_of_a_signature_reads_images_of_the_same_size(
    tmp_path: Path, name: str, size: ImageSize, feature: Any
) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    choice = ImageChoice(name, "native", size, feature, "fp32", store_dtype="float32")
    encoder = find_image_encoder(choice, tmp_path / "w.pth")
    assert image_choice(encoder.signature) == choice
    assert image_encoder_of(encoder.signature, tmp_path / "w.pth") == encoder


@pytest.mark.parametrize(
    "name",
    [
        "timm:swin_tiny_patch4_window7_224",
        "timm:test_maxvit",
        "timm:coatnet_0_rw_224",
        "timm:beit_base_patch16_224",
        "timm:gmixer_12_224",
    ],
)
@pytest.mark.parametrize("size", [384, "full"])
def test_an_encoder_of_one_size_refuses_uncropped_images(tmp_path: Path, name: str, size: ImageSize) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(EncoderError, match=r"accepts images of \d+ x \d+ only: do not pass --image-size"):
        find_image_encoder(ImageChoice(name, image_size=size), tmp_path / "w.pth")
