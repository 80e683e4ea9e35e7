"""Reading: inputs are decoded, preprocessed and collected into chunks."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.content import content_key
from tier4k.extract.images.crops import CENTRE_CROP, Crops, RandomCrops
from tier4k.extract.images.decode import decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.pipeline.chunks import Chunk, SentChunk, stack_by_shape
from tier4k.extract.pipeline.device import IMAGES_PER_CHUNK
from tier4k.extract.pipeline.missing_inputs import Work
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.shared_memory import possible_workers

CHUNK_BYTES = 2**26  # of preprocessed images in a chunk; every worker keeps some chunks ready

USUAL_SIDE = 1024  # assumed for images that are not resized, when memory is planned


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
    """Makes the crops (3, H, W) uint8 of an RGB image, the centre first.

    This is a class, not a nested function, so that it can be sent to worker processes.

    Args:
        variant: Preprocessing and random crops of the images.
    """

    def __init__(self, variant: ImageVariant) -> None:
        self._centre = variant.preprocessing.transform()
        self._random = RandomCrops(variant.preprocessing, variant.crops)

    def __call__(self, image: Image.Image, key: bytes) -> list[Tensor]:
        """Return the crops of an image; the image's key seeds the random crops."""
        return [self._centre(image), *self._random(image, key)]


@dataclass(frozen=True)
class CroppedImage:
    """One image that was read.

    Attributes:
        number: Index of the image among all distinct inputs.
        crops: For each variant the crops (3, H, W) uint8; none for a variant that does not need the image.
    """

    number: int
    crops: list[list[Tensor]]


class ImageDataset(Dataset[CroppedImage | ExtractionError]):
    """Reads, checks and decodes each missing image once, and crops it for every variant that needs it.

    If an image fails, the error is returned as the item, not raised: torch would put a worker's exception
    into another one with a long traceback.

    Args:
        images: N places, indexed by key in hexadecimal.
        missing: (V, N) bool: the images that each variant needs.
        variants: The V variants.
    """

    def __init__(
        self,
        images: pd.Series,
        missing: np.ndarray,
        variants: Sequence[ImageVariant],
    ) -> None:
        self._keys = list(map(bytes.fromhex, images.index))
        self._places = list(images)
        self._missing = missing
        self._numbers = np.flatnonzero(missing.any(axis=0))
        self._croppers = list(map(ImageCropper, variants))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, position: int) -> CroppedImage | ExtractionError:
        number = int(self._numbers[position])
        try:
            image = self._read(number)
        except ImageError as error:
            remedy = "the features encoded so far are kept: correct the image and run the same command again"
            return ExtractionError(f"{self._places[number]}: {error}; {remedy}")
        crops: list[list[Tensor]] = []
        for cropper, missing in zip(self._croppers, self._missing[:, number], strict=True):
            crops.append(cropper(image, self._keys[number]) if missing else [])
        return CroppedImage(number, crops)

    def _read(self, number: int) -> Image.Image:
        data = read_bytes(self._places[number])
        # The features are stored under this key, so they must come from the bytes that the key identifies.
        if content_key(data) != self._keys[number]:
            raise ImageError("the file changed while the extraction ran")
        return decode(data)


def image_chunks(
    images: pd.Series,
    missing: np.ndarray,
    variants: Sequence[ImageVariant],
    options: ExtractionOptions,
    device: torch.device,
) -> Iterator[Chunk]:
    """Yield chunks of images.

    Args:
        images: N places, indexed by key in hexadecimal.
        missing: (V, N) bool: the images that each variant needs.
        variants: The V variants.
        options: Number of reading processes and batch size.
        device: The device that encodes.

    Raises:
        ExtractionError: An image changed or cannot be decoded, or there is too little memory to pass images
            from reading processes.
    """
    dataset = ImageDataset(images, missing, variants)
    chunk_size = _images_per_chunk(variants, options, device)
    chunk_count = -(-len(dataset) // chunk_size)
    workers = possible_workers(min(options.workers, chunk_count))
    loader = DataLoader(
        dataset,
        batch_size=chunk_size,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=collate_and_send if workers else _collate,
    )
    for chunk in loader:
        if isinstance(chunk, ExtractionError):
            raise chunk
        yield chunk.received() if isinstance(chunk, SentChunk) else chunk


def _images_per_chunk(
    variants: Sequence[ImageVariant],
    options: ExtractionOptions,
    device: torch.device,
) -> int:
    if options.batch_size:
        return options.batch_size
    image_bytes = sum(variant.approximate_bytes for variant in variants)
    return min(IMAGES_PER_CHUNK[device.type], max(CHUNK_BYTES // image_bytes, 1))


def _collate(items: Sequence[CroppedImage | ExtractionError]) -> Chunk | ExtractionError:
    images: list[CroppedImage] = []
    for item in items:
        if isinstance(item, ExtractionError):
            return item
        images.append(item)
    numbers = np.array([image.number for image in images])
    by_variant = zip(*[image.crops for image in images], strict=True)
    return Chunk(numbers, tuple(map(stack_by_shape, by_variant)))


def collate_and_send(items: Sequence[CroppedImage | ExtractionError]) -> SentChunk | ExtractionError:
    """Return a chunk of images in the form that is sent to the encoding process, or else the first error."""
    chunk = _collate(items)
    if isinstance(chunk, ExtractionError):
        return chunk
    try:
        return SentChunk(chunk)
    except OSError as error:
        problem = f"there is too little memory for images in reading processes ({error.strerror or error})"
        return ExtractionError(f"{problem}: free memory, or pass --workers 0")


def _leave_interrupts_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def text_chunks(
    work: Work,
    network: TextNetwork,
    options: ExtractionOptions,
) -> Iterator[Chunk]:
    """Return chunks of missing texts, sorted by length, so that short texts are not padded to long texts.

    Raises:
        EncoderError: A text has no token, or one that the network lacks. It is raised at once, and not while
            the chunks are read.
    """
    numbers = np.flatnonzero(work.missing)
    lengths = network.token_counts(work.inputs.iloc[numbers].tolist())
    numbers = numbers[np.argsort(lengths, kind="stable")]
    if not min(lengths):
        network.tokenize([work.inputs.iloc[numbers[0]]])  # refuses the text
    return _chunks_of_tokens(work, network, numbers, options.text_batch_size)


def _chunks_of_tokens(
    work: Work,
    network: TextNetwork,
    numbers: np.ndarray,
    batch_size: int,
) -> Iterator[Chunk]:
    for start in range(0, len(numbers), batch_size):
        part = numbers[start : start + batch_size]
        yield Chunk(part, tokens=network.tokenize(work.inputs.iloc[part].tolist()))


def pair_chunks(
    work: Work,
    preprocessing: Preprocessing,
    options: ExtractionOptions,
    device: torch.device,
) -> Iterator[Chunk]:
    """Yield chunks of images, with all missing pairs of each image.

    Raises:
        ExtractionError: An image changed or cannot be decoded, or there is too little memory to pass images
            from reading processes.
    """
    numbers = np.flatnonzero(work.missing)
    pairs = work.inputs.iloc[numbers]
    images = pairs.drop_duplicates("image_key").set_index("image_key")["image"]
    image_of_pair, _ = pd.factorize(pairs["image_key"])
    by_image = numbers[np.argsort(image_of_pair, kind="stable")]
    ends = np.cumsum(np.bincount(image_of_pair))
    pairs_of_image = np.split(by_image, ends[:-1])

    missing = np.ones((1, len(images)), bool)
    variants = [ImageVariant(preprocessing, CENTRE_CROP)]
    for chunk in image_chunks(images, missing, variants, options, device):
        chunk_pairs = [pairs_of_image[image] for image in chunk.numbers]
        counts = list(map(len, chunk_pairs))
        yield replace(
            chunk,
            numbers=np.concatenate(chunk_pairs),
            pair_images=np.repeat(np.arange(len(chunk_pairs)), counts),
        )
