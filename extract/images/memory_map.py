"""Images decoded once into a memory-mapped file, for training that reads them in every epoch."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar, cast

import numpy as np
import pandas as pd

from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.images.crops import REPLACEABLE_CROPS, random_crop
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.geometry import whole
from tier4k.extract.images.pixels import read_pixels
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.images.resize import crop

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
Shape = tuple[int, ...]


class PixelFile(Protocol):
    """A file that is empty at first and vanishes once it is closed; several processes may share it."""

    def open(self) -> BinaryIO:
        """Return the file."""

    def once(self, write: Callable[[], Result]) -> Result:
        """Call the function that writes the file, in one of the processes; return its result in all."""


class OwnFile:
    """A temporary file of this process alone."""

    def open(self) -> BinaryIO:
        """Return the file."""
        return cast(BinaryIO, tempfile.TemporaryFile())

    def once(self, write: Callable[[], Result]) -> Result:
        """Call the function that writes the file."""
        return write()


class DecodedImages:
    """Resized, uncropped images, one after the other in a memory-mapped file that vanishes with this object.

    Threads decode, because decoding releases Python's lock. A crop is then only a copy and needs no worker
    process.

    Args:
        images: Place of each image, indexed by its key in hexadecimal.
        preprocessing: Preprocessing of the trained encoder, with one of `REPLACEABLE_CROPS`.
        threads: Number of threads that decode.
        progress: Called with (images decoded, images in all).
        file: The file of the pixels. Of the processes that share it, one decodes.

    Raises:
        ImageError: An image is damaged, or changed since its key was computed.
        StoreError: The temporary folder has too little space.
    """

    def __init__(
        self,
        images: pd.Series,
        preprocessing: Preprocessing,
        threads: int,
        progress: Callable[[int, int], None] = lambda *_: None,
        file: PixelFile | None = None,
    ) -> None:
        if preprocessing.crop not in REPLACEABLE_CROPS:
            raise ImageError(
                f"images cropped by {preprocessing.crop!r} have no random crops to train on: "
                "pass --preprocessing reference"
            )
        self._preprocessing = preprocessing
        self._keys = [bytes.fromhex(key) for key in images.index]
        file = file or OwnFile()
        with explain_write_errors(Path(tempfile.gettempdir())):
            self._file = file.open()
        self._shapes = file.once(lambda: self._decode(images, threads, progress))
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        self._bytes = np.memmap(self._file, np.uint8, "r")

    def _decode(
        self,
        images: pd.Series,
        threads: int,
        progress: Callable[[int, int], None],
    ) -> list[Shape]:
        """Write the pixels of all images; return their shapes."""
        shapes: list[Shape] = []
        with (
            explain_write_errors(Path(tempfile.gettempdir())),
            ThreadPoolExecutor(threads) as pool,
        ):
            for pixels in pool.map(self._resized, images, self._keys):
                self._file.write(pixels.tobytes())
                shapes.append(pixels.shape)
                progress(len(shapes), len(images))
            self._file.flush()
        return shapes

    def __len__(self) -> int:
        return len(self._shapes)

    def centre(self, number: int) -> "torch.Tensor":
        """Return the crop that features are computed from, (3, h, w) uint8."""
        import torch

        pixels = self._pixels(number)
        height, width = pixels.shape[:2]
        is_cropped = self._preprocessing.size is not None
        geometry = self._preprocessing.geometry(width, height) if is_cropped else whole(width, height)
        return torch.from_numpy(crop(pixels, geometry))

    def random(
        self,
        number: int,
        seed: int,
        epoch: int,
    ) -> "torch.Tensor":
        """Return a random crop (3, h, w) uint8, which depends only on the seed, the epoch and the image."""
        import torch

        random = np.random.default_rng([seed, epoch, *self._keys[number]])
        planes = self._pixels(number).transpose(2, 0, 1)
        return torch.from_numpy(random_crop(planes, self._preprocessing, random))

    def _pixels(self, number: int) -> np.ndarray:
        shape = self._shapes[number]
        end = self._ends[number]
        return self._bytes[end - int(np.prod(shape)) : end].reshape(shape)

    def _resized(self, place: str, key: bytes) -> np.ndarray:
        try:
            return self._preprocessing.resized(read_pixels(place, key)).transpose(1, 2, 0)
        except ImageError as error:
            raise ImageError(f"{place}: {error}") from error
