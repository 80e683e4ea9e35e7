"""Read the images of units: from their places to crops for a network, or to pixels that a device crops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tier4k.extract.images.crops import Crops, RandomCrops
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.fast_decoders import choose_decoders
from tier4k.extract.images.pixels import Pixels, read_pixels
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.images.resize import is_exact
from tier4k.extract.pipeline.chunks import Chunk, DecodedStack, group_by_shape, stack_arrays, stack_by_shape
from tier4k.extract.pipeline.listener import UnreadableImage
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.pipeline.units import Unit

USUAL_SIDE = 1024  # assumed for images that are not resized, when memory is planned

# What a thread reads at a time, at most.
IMAGES_PER_PART = 8
BYTES_PER_PART = 2**24


@dataclass(frozen=True)
class ImageVariant:
    """One way of preprocessing and cropping each image. Encoders with equal variants share the crops.

    Attributes:
        preprocessing: Resizing and cropping.
        crops: Random crops beside the centre crop.
    """

    preprocessing: Preprocessing
    crops: Crops

    @property
    def crop_count(self) -> int:
        """Crops of each image, the centre included."""
        return 1 + self.crops.count

    @property
    def approximate_bytes(self) -> int:
        """Approximate number of bytes of the crops of one image."""
        side = self.preprocessing.size or self.preprocessing.resize or USUAL_SIDE
        return 3 * side**2 * self.crop_count


class ImageCropper:
    """Makes the crops (3, H, W) uint8 of an image, the centre first.

    Args:
        variant: Preprocessing and random crops of the images.
    """

    def __init__(self, variant: ImageVariant) -> None:
        self._preprocessing = variant.preprocessing
        self._random = RandomCrops(variant.preprocessing, variant.crops)

    def __call__(self, pixels: Pixels, key: bytes) -> list[np.ndarray]:
        """Return the crops of an image; the image's key seeds the random crops."""
        return [self._preprocessing.apply(pixels), *self._random(pixels, key)]


@dataclass(frozen=True)
class ImageVariants:
    """The preprocessing variants of encoders that read together.

    Attributes:
        variants: The V distinct variants.
        of_encoder: The index of each encoder's variant.
        on_device: (V,) bool: the variants that the device preprocesses; readers only decode for them.
    """

    variants: tuple[ImageVariant, ...]
    of_encoder: tuple[int, ...]
    on_device: np.ndarray

    @classmethod
    def of(cls, of_encoders: Sequence[ImageVariant], device: torch.device) -> "ImageVariants":
        """Return the distinct variants among those of encoders.

        A GPU resizes faster than processors decode. The readers preprocess where the resize of tier4k differs
        from that of the installed Pillow, and where images have random crops, which differ for each image.
        """
        variants = tuple(dict.fromkeys(of_encoders))
        resizes = device.type == "cuda" and is_exact()
        on_device = np.array([resizes and not variant.crops.count for variant in variants], dtype=bool)
        return cls(variants, tuple(map(variants.index, of_encoders)), on_device)

    def needed(self, unit: Unit) -> np.ndarray:
        """Return (V, P) bool: the images of a unit of which each variant is needed."""
        needed = np.zeros((len(self.variants), len(unit.images)), bool)
        if unit.has_pairs:
            needed[:] = True
            return needed
        for variant, wanted in zip(self.of_encoder, unit.wanted, strict=True):
            needed[variant] |= wanted
        return needed

    @property
    def images_per_part(self) -> int:
        """Number of images that a thread should read at a time."""
        image_bytes = 4 * USUAL_SIDE**2 if self.on_device.any() else 0
        for variant, is_on_device in zip(self.variants, self.on_device, strict=True):
            image_bytes += 0 if is_on_device else variant.approximate_bytes
        return min(max(BYTES_PER_PART // image_bytes, 1), IMAGES_PER_PART)


class ImageReader:
    """Reads, checks and decodes images of units, and crops each for every variant that needs it.

    The reader can be pickled. Threads may share it.

    Args:
        variants: Preprocessing and crops.
        device: The device that is to copy the pixels.
    """

    def __init__(self, variants: ImageVariants, device: torch.device) -> None:
        self.variants = variants
        self._device = device
        self._croppers = list(map(ImageCropper, variants.variants))

    @staticmethod
    def prepare() -> None:
        """Choose the decoders and compile the resize now, so that threads need not wait for each other."""
        choose_decoders()
        is_exact()

    def read(self, unit: Unit) -> Chunk:
        """Return a unit of images or pairs; images that cannot be read are left out.

        Raises:
            ExtractionError: There is too little memory.
        """
        return with_pairs(unit, self.read_images(unit, range(len(unit.images))))

    def read_images(
        self,
        unit: Unit,
        numbers: Sequence[int],
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Chunk:
        """Return some images of a unit; those that cannot be read are left out.

        Args:
            unit: A unit with images.
            numbers: Numbers of images in the unit.
            is_stopped: Returns whether the chunk is no longer needed; if so, the rest is not read.

        Raises:
            ExtractionError: There is too little memory.
        """
        try:
            return self._read(unit, numbers, is_stopped)
        except MemoryError as error:
            raise ExtractionError(
                "there is too little memory to read images: pass a smaller --workers, or free memory"
            ) from error

    def _read(
        self,
        unit: Unit,
        numbers: Sequence[int],
        is_stopped: Callable[[], bool],
    ) -> Chunk:
        needed_images, on_device = self.variants.needed(unit), self.variants.on_device
        read: list[int] = []
        decoded: list[Pixels | None] = []
        crops: list[list[list[np.ndarray]]] = [[] for _ in self._croppers]
        left_out: list[int] = []
        unreadable: list[UnreadableImage] = []
        for number in numbers:
            if is_stopped():
                break
            place, key = unit.images[number], bytes(unit.image_keys[number])
            try:
                pixels = read_pixels(place, key)
            except ImageError as error:
                left_out.append(number)
                unreadable.append(UnreadableImage(place, str(error)))
                continue
            read.append(number)
            needed = needed_images[:, number]
            decoded.append(pixels if needed[on_device].any() else None)
            for cropper, is_needed, crops_of_variant in zip(
                self._croppers, needed & ~on_device, crops, strict=True
            ):
                crops_of_variant.append(cropper(pixels, key) if is_needed else [])
        return Chunk(
            numbers=np.array(read, dtype=np.int64),
            images=tuple(stack_by_shape(crops_of_variant, self._device) for crops_of_variant in crops),
            decoded=self._stack_decoded(decoded, needed_images[:, read]),
            left_out=np.array(left_out, dtype=np.int64),
            unreadable=tuple(unreadable),
        )

    def _stack_decoded(self, images: Sequence[Pixels | None], needed: np.ndarray) -> tuple[DecodedStack, ...]:
        """Stack decoded images of equal shape; None stands for images that no device preprocesses.

        Args:
            images: C images.
            needed: (V, C) bool: the images of which each variant is needed.
        """
        rows = np.array([row for row, image in enumerate(images) if image is not None])
        decoded = [image for image in images if image is not None]
        stacks: list[DecodedStack] = []
        for equal in group_by_shape(decoded):
            pixels = stack_arrays([decoded[index] for index in equal], self._device)
            stacks.append(DecodedStack(rows[equal], needed[:, rows[equal]], pixels))
        return tuple(stacks)


def with_pairs(unit: Unit, images: Chunk) -> Chunk:
    """Return a chunk of the pairs of a unit from a chunk of its images; one of images stays as it is."""
    if not unit.has_pairs:
        return images
    pairs = unit.inputs_of(images.numbers)
    return replace(
        images,
        numbers=pairs,
        texts=unit.texts,
        pair_images=np.searchsorted(images.numbers, unit.pair_images[pairs]),
        pair_texts=unit.pair_texts[pairs],
        left_out=unit.inputs_of(images.left_out),
    )
