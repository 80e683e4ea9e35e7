"""Images are decoded as Pillow does, refused with a reason, and preprocessed exactly as the published code
and timm do.
"""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import nn
from torchvision import transforms

from tier4k.extract.encoders.presets import IMAGE_PRESETS, image_preset
from tier4k.extract.encoders.timm_models import timm_config
from tier4k.extract.encoders.timm_network import TimmNetwork
from tier4k.extract.images.choices import ImageSize
from tier4k.extract.images.decode import decode, inspect
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.opening import MAX_PIXELS
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, MAX_WHOLE_PIXELS, MIN_SIDE
from tier4k.tests.builders.data import make_picture
from tier4k.tests.builders.preprocessed import preprocessed

SIZES = [(300, 260), (260, 411), (256, 256), (97, 64), (1000, 230)]
SIZE_OF = {"inceptionv4": (320, 299)}  # resized to, cropped to; else 256 and 224


def encoded(kind: str, size: tuple[int, int] = (200, 150), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    make_picture(0, size).convert(mode).save(out, kind)
    return out.getvalue()


def first_layer_input(preprocessing, image: Image.Image) -> torch.Tensor:
    """What the encoder's first layer sees."""
    backbone = nn.Identity()
    backbone.register_parameter("dtype", nn.Parameter(torch.zeros(1)))
    network = TimmNetwork(backbone, preprocessing)
    return network(preprocessed(preprocessing, image)[None])[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preset", IMAGE_PRESETS.values(), ids=IMAGE_PRESETS)
def test_reference_preprocessing_is_that_of_the_published_code(preset, size: tuple[int, int]) -> None:
    resize, crop = SIZE_OF.get(preset.name, (256, 224))
    published = [transforms.Resize(resize), transforms.CenterCrop(crop), transforms.ToTensor()]
    expected = transforms.Compose([*published, transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])(
        make_picture(1, size)
    )
    torch.testing.assert_close(
        first_layer_input(preset.reference, make_picture(1, size)), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in IMAGE_PRESETS if name != "clip"),
        "timm:convnext_tiny",
        "timm:deit3_small_patch16_224",
        "timm:test_resnet",
    ],
)
def test_native_preprocessing_is_that_of_timm(name: str, size: tuple[int, int]) -> None:
    preset = image_preset(name)
    config = resolve_data_config(
        pretrained_cfg=timm_config(preset.weights.hub.removeprefix("timm/")).to_dict()
    )
    expected = create_transform(**config)(make_picture(2, size))
    torch.testing.assert_close(
        first_layer_input(preset.native, make_picture(2, size)), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("size", SIZES)
def test_native_preprocessing_of_clip_is_that_of_openai(size: tuple[int, int]) -> None:
    published = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
        ]
    )
    found = first_layer_input(image_preset("clip").native, make_picture(2, size))
    torch.testing.assert_close(found, published(make_picture(2, size)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_is_decoded_as_pillow_does(kind: str) -> None:
    data = encoded(kind)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(np.asarray(decode(data)), expected)
    inspect(data)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert decode(encoded("TIFF", mode=mode)).mode == "RGB"


@pytest.mark.parametrize("check", [decode, inspect])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_image_is_refused_at_every_length(check, kind: str) -> None:
    data = encoded(kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            check(data[: int(len(data) * share)])


@pytest.mark.parametrize("check", [decode, inspect])
@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "zero bytes"), (b"<svg/>", "not an image of the formats"), (b"%PDF-1.4", "not an image")],
)
def test_other_files_are_refused(check, data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        check(data)


@pytest.mark.parametrize("check", [decode, inspect])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(check) -> None:
    for factor in (1.01, 3):
        out = io.BytesIO()
        Image.new("1", (int(MAX_PIXELS * factor / 5000), 5001)).save(out, "PNG")
        assert len(out.getvalue()) < 100_000
        with warnings.catch_warnings(), pytest.raises(ImageError, match="decompression bomb"):
            check(out.getvalue())


def test_the_text_of_a_preprocessing_names_everything_that_changes_a_number() -> None:
    told = {
        str(preprocessing)
        for preset in IMAGE_PRESETS.values()
        for preprocessing in (preset.reference, preset.native)
    }
    distinct = {
        preprocessing
        for preset in IMAGE_PRESETS.values()
        for preprocessing in (preset.reference, preset.native)
    }
    assert len(told) == len(distinct)


def test_a_strip_that_would_be_scaled_up_to_gigabytes_is_refused() -> None:
    for size in ((20_000, 1), (1, 20_000)):
        for look in (decode, inspect):
            with pytest.raises(ImageError, match="one side of the image.* is more than 100 times the other"):
                look(encoded("PNG", size))
    assert decode(encoded("PNG", (100, 1))).size == (100, 1)


@pytest.mark.parametrize("size", [(300, 260), (260, 411), (64, 97), (40, 32)])
@pytest.mark.parametrize("side", [32, 96, 300])
@pytest.mark.parametrize(
    ("name", "resample"), [("reference", Image.Resampling.BILINEAR), ("native", Image.Resampling.BICUBIC)]
)
def test_a_whole_image_has_the_asked_shorter_side_and_is_not_cropped(
    name, resample, side: int, size: tuple[int, int]
) -> None:
    preset, image = image_preset("inceptionv4"), make_picture(3, size)
    width, height = (int(side * length / min(size)) for length in size)
    found = preprocessed(preset.preprocessing(name, side), image)
    assert min(found.shape[1:]) == side and found.dtype == torch.uint8
    assert abs(width / height - size[0] / size[1]) <= size[0] / size[1] / side * 2
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(image.resize((width, height), resample)))


@pytest.mark.parametrize("size", [(300, 260), (33, 47)])
def test_a_full_image_keeps_its_pixels(size: tuple[int, int]) -> None:
    preprocessing, image = image_preset("resnet18").preprocessing(image_size="full"), make_picture(4, size)
    assert np.array_equal(preprocessed(preprocessing, image).permute(1, 2, 0).numpy(), np.asarray(image))
    assert str(preprocessing).startswith("reference at full: own size, no crop, mean (0.485")


@pytest.mark.parametrize(
    ("size", "given", "expected"),
    [
        ((31, 400), 32, (32, 412)),
        ((31, 400), "full", (32, 412)),  # no side has less than 32 pixels
        ((1, 100), "full", (32, 3200)),
        ((2048, 4096), "full", (2048, 4096)),
        ((4096, 4096), "full", (2896, 2896)),  # no image has more than 2048 x 4096 pixels
        ((6000, 3000), "full", (4096, 2048)),
        ((2000, 20), 2048, (28900, 289)),
    ],
)
def test_a_whole_image_keeps_its_proportions_within_what_encoders_can_take(
    size: tuple[int, int], given: ImageSize, expected: tuple[int, int]
) -> None:
    found = preprocessed(image_preset("resnet18").preprocessing(image_size=given), Image.new("RGB", size))
    assert tuple(found.shape) == (3, *reversed(expected))
    assert min(expected) >= MIN_SIDE and expected[0] * expected[1] <= MAX_WHOLE_PIXELS


@pytest.mark.parametrize("multiple", [14, 48])
@pytest.mark.parametrize("given", [32, 450, "full"])
@pytest.mark.parametrize("size", [(300, 260), (97, 64), (20, 20), (1, 100), (31, 400), (2900, 2900)])
def test_sides_of_a_whole_image_are_the_nearest_multiples_within_the_limits(
    size: tuple[int, int], given: ImageSize, multiple: int
) -> None:
    plain = image_preset("resnet18").preprocessing(image_size=given)
    image = Image.new("RGB", size)
    found = preprocessed(plain.whole(given, multiple), image).shape[1:]
    free = preprocessed(plain, image).shape[1:]
    assert min(found) >= MIN_SIDE and found[0] * found[1] <= MAX_WHOLE_PIXELS
    for side, free_side in zip(found, free, strict=True):
        assert side % multiple == 0
        if min(free) >= 2 * MIN_SIDE and free[0] * free[1] < MAX_WHOLE_PIXELS * 0.9:
            assert abs(side - free_side) <= multiple / 2
        assert abs(side - free_side) < multiple


def test_multiples_are_in_the_text_of_a_preprocessing_only_if_they_matter() -> None:
    whole = image_preset("resnet18").reference.whole(450)
    assert whole == image_preset("resnet18").reference.whole(450, 1)
    assert str(image_preset("resnet18").reference.whole(450, 14)) == str(whole).replace(
        "no crop", "no crop, sides multiples of 14"
    )


def test_whole_preprocessings_differ_by_size_in_their_text() -> None:
    preset = image_preset("resnet18")
    told = {
        str(preset.preprocessing(name, size))
        for name in ("reference", "native")
        for size in (None, 224, 256, 512, "full")
    }
    assert len(told) == 10
