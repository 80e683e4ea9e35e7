"""Images that the device preprocesses are, byte for byte, those that the readers preprocess."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.images.crops import Crops
from tier4k.extract.images.preprocessing import native, reference
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline import image_reader
from tier4k.extract.pipeline.chunks import select_rows, stack_arrays
from tier4k.extract.pipeline.cut_units import image_units
from tier4k.extract.pipeline.image_reader import ImageReader, ImageVariant, ImageVariants
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.read import image_chunks
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.upload import Uploader
from tier4k.tests.builders.data import tiny_encoder, write_pku
from tier4k.tests.builders.listener import Silent

VARIANTS = [
    ImageVariant(reference(40, 48), Crops()),
    ImageVariant(native(32, 32, (0.5,) * 3, (0.5,) * 3), Crops()),
    ImageVariant(reference(24, 24).whole(36), Crops()),
]
CPU = torch.device("cpu")
MISSING = np.random.default_rng(0).random((3, 10)) < 0.7


def crops(data: Path, on_device: Sequence[bool]) -> list[torch.Tensor]:
    """The crops of each variant, in the order of images."""
    images = DatasetInputs.of(check(data).manifest).images
    variants = ImageVariants(tuple(VARIANTS), (0, 1, 2), np.array(on_device))
    reader, upload = ImageReader(variants, CPU), Uploader(CPU, variants)
    found: dict[tuple[int, bytes], torch.Tensor] = {}
    for unit, chunk in image_chunks(reader, image_units(images, MISSING, 4), 2, upload):
        assert not chunk.decoded
        for variant, stacks in enumerate(chunk.images):
            for stack in stacks:
                for row, pixels in zip(stack.rows, stack.pixels, strict=True):
                    found[variant, bytes(unit.keys[chunk.numbers[row]])] = pixels
    expected = {(int(variant), bytes(images.keys[number])) for variant, number in np.argwhere(MISSING)}
    assert set(found) == expected
    return [found[place] for place in sorted(found)]


@pytest.mark.parametrize("on_device", [(True, True, True), (True, False, True)])
def test_the_device_makes_the_crops_of_the_readers(tmp_path: Path, on_device: tuple[bool, ...]) -> None:
    write_pku(tmp_path)
    for found, expected in zip(crops(tmp_path, on_device), crops(tmp_path, (False,) * 3), strict=True):
        assert torch.equal(found, expected)


def test_stores_do_not_depend_on_who_preprocesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pku(tmp_path / "data")
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    encoders = [encoder, replace(encoder, preprocessing=encoder.preprocessing.whole(48))]
    options = ExtractionOptions(2, batch_size=3, device="cpu")
    extract(DatasetInputs.of(manifest), encoders, tmp_path / "readers", options, Silent())
    made = ImageVariants.of

    def preprocessed(of_encoders: Sequence[ImageVariant], device: torch.device) -> ImageVariants:
        variants = made(of_encoders, device)
        return replace(variants, on_device=np.ones(len(variants.variants), bool))

    monkeypatch.setattr(image_reader.ImageVariants, "of", preprocessed)
    for summary in extract(DatasetInputs.of(manifest), encoders, tmp_path / "device", options, Silent()):
        found = FeatureStore.open(summary.store)
        expected = FeatureStore.open(tmp_path / "readers" / summary.store.name)
        np.testing.assert_array_equal(found.read(expected.keys), expected.read(expected.keys))


def test_gpus_preprocess_what_has_no_random_crops() -> None:
    variants = [VARIANTS[0], ImageVariant(reference(40, 48), Crops(2)), VARIANTS[0]]
    on_gpu = ImageVariants.of(variants, torch.device("cuda"))
    assert on_gpu.variants == tuple(variants[:2])
    assert on_gpu.of_encoder == (0, 1, 0)
    assert on_gpu.on_device.tolist() == [True, False]
    for name in ("cpu", "mps"):
        assert not ImageVariants.of(variants, torch.device(name)).on_device.any()


def test_rows_are_selected_by_their_numbers() -> None:
    rows = torch.arange(12).view(4, 3)
    assert torch.equal(select_rows(rows, np.array([1, 3])), rows[[1, 3]])
    assert torch.equal(select_rows(rows, np.array([2, 0, 3, 1])), rows[[2, 0, 3, 1]])
    assert select_rows(rows, np.arange(4)) is rows


def test_pixels_for_a_gpu_are_pinned_for_that_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that names no GPU would pin for the first one."""
    empty, entered, pinned = torch.empty, [], []

    def unpinned(shape: tuple[int, ...], dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        pinned.append((pin_memory, list(entered)))
        return empty(shape, dtype=dtype)

    def enter(device: torch.device) -> AbstractContextManager[None]:
        entered.append(device)
        return nullcontext()

    monkeypatch.setattr(torch, "empty", unpinned)
    monkeypatch.setattr(torch.cuda, "device", enter)
    arrays = [np.full((2, 3), number, np.uint8) for number in range(4)]
    stacked = stack_arrays(arrays, torch.device("cuda:1"))
    assert pinned == [(True, [torch.device("cuda:1")])]
    assert np.array_equal(stacked.numpy(), np.stack(arrays))
