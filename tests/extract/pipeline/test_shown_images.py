"""What stage 1 stores of turned and transparent images is what a person and a live encoder see."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageOps

from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.images.crops import CENTRE_CROP
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.images.place_names import parquet_place
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.inputs import Inputs, values_of
from tier4k.extract.pipeline.cut_units import image_units
from tier4k.extract.pipeline.given_images import as_image
from tier4k.extract.pipeline.image_reader import ImageReader, ImageVariant, ImageVariants
from tier4k.extract.pipeline.loaded_encoders import LiveEncoders
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.read import image_chunks
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.data import make_picture, tiny_encoder, write_table
from tier4k.tests.builders.images import STORE, coloured, exif, file_bytes, on_white, png, png_chunk
from tier4k.tests.builders.listener import Silent

OPTIONS = ExtractionOptions(workers=0, batch_size=3, device="cpu")


def orientation(number: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = number
    return tags


def faded(seed: int) -> Image.Image:
    image = make_picture(seed).convert("RGBA")
    image.putalpha(Image.fromarray(coloured(30, 40, 1)[..., 0]))
    return image


def shown(path: Path) -> Image.Image:
    """What a person sees of an image file, by functions of Pillow."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a plain image, a turned JPEG, a turned TIFF, transparent images, and both at once."""
    folder = tmp_path_factory.mktemp("data")
    names = ["plain.png", "turned.jpg", "turned.tiff", "faded.png", "both.webp", "gif.gif"]
    rows = {"image": names, "prompt": [f"prompt {name}" for name in names], "mos": np.arange(6.0)}
    path = write_table(folder / "t.csv", pd.DataFrame(rows))
    make_picture(1).save(folder / "turned.jpg", exif=orientation(6))
    make_picture(2).save(folder / "turned.tiff", exif=orientation(5))
    faded(3).save(folder / "faded.png")
    faded(4).save(folder / "both.webp", exif=orientation(7), lossless=True)
    make_picture(5).quantize(8).save(folder / "gif.gif", transparency=3)
    return path


def test_stored_features_are_those_of_what_a_person_sees_and_of_live_encoders(
    tmp_path: Path, encoder: ImageEncoder, table: Path
) -> None:
    manifest = check(table).manifest
    extract(DatasetInputs.of(manifest), [encoder], tmp_path, OPTIONS, Silent())
    images = manifest.images()
    keys = key_array(map(bytes.fromhex, images.index))
    stored = FeatureStore.open(tmp_path / encoder.signature.folder_name).read(keys)
    live = LiveEncoders({"e": encoder}, {}, "cpu")
    np.testing.assert_allclose(live.images(list(images))["e"], stored, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(live.images(list(map(Image.open, images)))["e"], stored, rtol=1e-4, atol=1e-5)
    seen = [np.asarray(shown(Path(path))) for path in images]
    np.testing.assert_allclose(live.images(seen)["e"], stored, rtol=1e-4, atol=1e-5)
    as_stored = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    others = np.abs(live.images(as_stored)["e"] - stored).max(axis=1)
    assert others[0] < 1e-5 and (others[[1, 3, 4, 5]] > 1e-3).all()  # Pillow turns a TIFF image itself


def test_stored_keys_tell_images_that_are_treated(table: Path) -> None:
    for key, path in check(table).manifest.images().items():
        content = Path(path).read_bytes()
        mark = b"" if path.endswith("plain.png") else b"upright-on-white-1"
        assert key == hashlib.sha256(content + mark).hexdigest()


def test_images_in_a_table_are_extracted_and_trained_on_like_files(
    tmp_path: Path, encoder: ImageEncoder, table: Path
) -> None:
    images = check(table).manifest.images()
    structs = [{"bytes": Path(path).read_bytes(), "path": path} for path in images]
    pq.write_table(pa.table({"image": structs}), tmp_path / "t.parquet", row_group_size=2)
    rows = [parquet_place(tmp_path / "t.parquet", "image", row) for row in range(len(images))]
    places = pd.Series(rows, index=images.index)
    assert torch.equal(pixels(encoder, places, workers=2), pixels(encoder, images, workers=0))
    from_files, from_rows = (DecodedImages(one, encoder.preprocessing, 2) for one in (images, places))
    for number in range(len(images)):
        assert torch.equal(from_files.centre(number), from_rows.centre(number))
    with pytest.raises(ImageError, match=r"t\.parquet/#image\[0\]: the file changed after it was checked"):
        DecodedImages(pd.Series(rows[:1], index=images.index[1:2]), encoder.preprocessing, 1)


def pixels(encoder: ImageEncoder, images: pd.Series, workers: int) -> torch.Tensor:
    """The crops (N, 3, H, W) that extraction makes of images."""
    inputs = Inputs(key_array(map(bytes.fromhex, images.index)), values_of(images))
    device = torch.device("cpu")
    variants = ImageVariants.of([ImageVariant(encoder.preprocessing, CENTRE_CROP)], device)
    units = image_units(inputs, np.ones((1, len(images)), bool), 2)
    chunks = image_chunks(ImageReader(variants, device), units, workers, lambda chunk: chunk)
    return torch.cat([stack.pixels for _, chunk in chunks for stack in chunk.images[0]])


RGBA = coloured(channels=4)
SEEN = on_white(RGBA[..., :3], RGBA[..., 3])


@pytest.mark.parametrize(
    "value",
    [
        RGBA,
        RGBA / 255,
        torch.from_numpy(RGBA).permute(2, 0, 1),
        torch.from_numpy(RGBA).permute(2, 0, 1).float() / 255,
        Image.fromarray(RGBA),
        Image.open(io.BytesIO(file_bytes(Image.fromarray(RGBA), "PNG"))),
    ],
    ids=["array", "floats", "tensor", "tensor of floats", "image", "opened image"],
)
def test_a_fourth_channel_of_any_input_is_composed_over_white(value: object) -> None:
    np.testing.assert_allclose(np.asarray(as_image(value)[0]), SEEN, rtol=0, atol=0.51)


def test_premultiplied_alpha_is_composed_over_white() -> None:
    image = Image.fromarray(np.dstack([RGBA[..., :3], RGBA[..., 3] | 128]))
    expected = np.asarray(as_image(image)[0]).astype(int)
    found = np.asarray(as_image(image.convert("RGBa"))[0]).astype(int)
    assert np.abs(found - expected).max() <= 3
    grey = image.convert("LA")
    premultiplied = grey.convert("La")
    difference = np.asarray(as_image(premultiplied)[0]).astype(int) - np.asarray(as_image(grey)[0])
    assert np.abs(difference).max() <= 3


UPRIGHT = coloured()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("number", STORE)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_opened_image_is_turned_once_in_whatever_state_it_is(kind: str, number: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORE[number](UPRIGHT)))
    data = file_bytes(stored, kind, exif=orientation(number))
    loaded = opened(data)
    loaded.load()
    for image in (opened(data), loaded, opened(data).copy(), ImageOps.exif_transpose(opened(data))):
        for _ in range(2):
            assert np.array_equal(np.asarray(as_image(image)[0]), UPRIGHT)


def test_exif_data_after_the_pixels_turn_an_opened_image() -> None:
    data = png(np.rot90(UPRIGHT), 8, 2, after=png_chunk(b"eXIf", exif(6)))
    assert np.array_equal(np.asarray(as_image(opened(data))[0]), UPRIGHT)


def test_a_truncated_opened_image_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="truncated"):
        as_image(opened(file_bytes(Image.fromarray(UPRIGHT), "PNG")[:-30]))
