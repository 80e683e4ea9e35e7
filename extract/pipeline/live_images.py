"""Images that callers pass, decoded and preprocessed for every network."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.pixels import pixels_of
from tier4k.extract.images.resize import is_exact
from tier4k.extract.images.resize_tensor import resize_tensor
from tier4k.extract.pipeline.chunks import CPU, Chunk, CropStack, join_chunks, stack_by_shape
from tier4k.extract.pipeline.given_images import (
    ImageInput,
    as_image,
    group_by_shape,
    is_planes,
    pixels_of_planes,
)
from tier4k.extract.pipeline.image_reader import ImageCropper, ImageVariant, ImageVariants
from tier4k.extract.pipeline.threads import map_ahead, possible_threads
from tier4k.extract.pipeline.upload import Uploader

RESIZING_DEVICES = ("cuda",)  # types of devices that resize tensors; on a CPU, `resize` is faster

Defects = dict[int, ImageError]


class LiveImages:
    """Reads images that callers pass, and makes the crops that networks encode. Threads may share it.

    Tensors (3, H, W) for a GPU are preprocessed there, to the same bytes, and are not copied to the memory of
    the machine. Random crops are always made in the memory of the machine.

    Args:
        variants: Preprocessing and crops of each network.
        device: The device of the networks.
        workers: Number of threads that read images ahead of the networks; with 0, the calling thread does it.
        batch_size: Number of images that are read together.
    """

    def __init__(
        self,
        variants: Sequence[ImageVariant],
        device: torch.device,
        workers: int,
        batch_size: int,
    ) -> None:
        # The readers preprocess on any device: images in memory come one by one.
        distinct = ImageVariants.of(variants, CPU)
        self.of_network = distinct.of_encoder
        self._variants = distinct.variants
        self._croppers = list(map(ImageCropper, self._variants))
        self._upload = Uploader(device, distinct)
        self._device = device
        self._threads = possible_threads(workers)
        self._batch_size = batch_size
        has_random_crops = any(variant.crops.count for variant in self._variants)
        self._resizes = device.type in RESIZING_DEVICES and not has_random_crops

    def chunks(self, images: Sequence[ImageInput], defects: Defects | None) -> Iterator[Chunk]:
        """Yield the images in chunks on the device, with the crops of every variant.

        Args:
            images: The images.
            defects: Receives the errors of images that cannot be used, by number of the image; they
                are left out. None raises the first error.

        Raises:
            ImageError: A value is not an image, and `defects` is None.
        """
        starts = range(0, len(images), self._batch_size)

        def read(start: int, is_stopped: Callable[[], bool]) -> list[Chunk]:
            """Read the images of one batch."""
            numbers = range(start, min(start + self._batch_size, len(images)))
            return self._crop(images, numbers, defects, is_stopped)

        for parts in map_ahead(read, starts, self._threads, _bytes_of):
            if parts:
                yield join_chunks([self._upload(part) for part in parts])

    def _crop(
        self,
        images: Sequence[ImageInput],
        numbers: Sequence[int],
        defects: Defects | None,
        is_stopped: Callable[[], bool],
    ) -> list[Chunk]:
        """Return the crops of images for every variant: of decoded images, and of tensors of each shape."""
        errors: Defects = {}
        tensors: dict[int, Tensor] = {}
        to_decode: list[int] = []
        for number in numbers:
            if self._reads_on_device(images[number]):
                tensors[number] = torch.as_tensor(images[number])
            else:
                to_decode.append(number)
        parts = [self._crop_decoded(images, to_decode, errors, defects is None, is_stopped)]
        parts += [self._crop_tensors(tensors, group, errors) for group in group_by_shape(tensors)]
        if errors and defects is None:
            raise errors[min(errors)]
        if defects is not None:
            defects |= errors
        return [part for part in parts if len(part.numbers)]

    def _reads_on_device(self, image: ImageInput) -> bool:
        return self._resizes and is_planes(image) and is_exact()

    def _crop_decoded(
        self,
        images: Sequence[ImageInput],
        numbers: Sequence[int],
        errors: Defects,
        stops_at_error: bool,
        is_stopped: Callable[[], bool],
    ) -> Chunk:
        """Decode images and crop them in the memory of the machine; add those that fail to `errors`."""
        crops: list[list[list[np.ndarray]]] = [[] for _ in self._croppers]
        cropped_numbers: list[int] = []
        for number in numbers:
            if is_stopped() or (stops_at_error and errors):
                break
            try:
                image, key = as_image(images[number])  # one at a time, as decoded images are large
            except ImageError as error:
                errors[number] = error
                continue
            pixels = pixels_of(image)
            cropped_numbers.append(number)
            for cropped, cropper in zip(crops, self._croppers, strict=True):
                cropped.append(cropper(pixels, key))
        return Chunk(np.array(cropped_numbers, np.int64), tuple(map(stack_by_shape, crops)))

    @torch.no_grad()
    def _crop_tensors(
        self,
        tensors: Mapping[int, Tensor],
        numbers: Sequence[int],
        errors: Defects,
    ) -> Chunk:
        """Crop tensors of one shape and type on the device; add those with wrong pixels to `errors`."""
        stacked = torch.stack([tensors[number].to(self._device) for number in numbers])
        pixels, row_errors = pixels_of_planes(stacked)
        errors |= {numbers[row]: error for row, error in row_errors.items()}
        _, height, width, _ = pixels.shape
        rows = np.arange(len(numbers))
        stacks: list[tuple[CropStack, ...]] = []
        for variant in self._variants:
            preprocessing = variant.preprocessing
            geometry = preprocessing.geometry(width, height)
            crops = resize_tensor(pixels, geometry, preprocessing.interpolation)
            stacks.append((CropStack(rows, np.zeros_like(rows), crops),))
        return _drop_rows(Chunk(np.array(numbers), tuple(stacks)), row_errors)


def _drop_rows(chunk: Chunk, dropped: Defects) -> Chunk:
    """Return a chunk, with one stack for each variant, without the rows that are keys of `dropped`."""
    if not dropped:
        return chunk
    kept = np.array([row for row in range(len(chunk.numbers)) if row not in dropped], np.int64)
    stacks: list[tuple[CropStack, ...]] = []
    for (stack,) in chunk.images:
        places = np.arange(len(kept))
        crops = stack.pixels[torch.from_numpy(kept).to(stack.pixels.device)]
        stacks.append((CropStack(places, np.zeros_like(places), crops),))
    return Chunk(chunk.numbers[kept], tuple(stacks))


def _bytes_of(parts: Sequence[Chunk]) -> int:
    return sum(part.bytes for part in parts)
