"""Images decoded once into a memory-mapped file, for training that reads them in every epoch."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.images.content import content_key
from tier4k.extract.images.crops import REPLACEABLE_CROPS, random_crop
from tier4k.extract.images.decode import decode
from tier4k.extract.images.errors import ImageError
from tier4k.extract.images.places import read_bytes
from tier4k.extract.images.preprocessing import Preprocessing, to_tensor

if TYPE_CHECKING:
    import torch


class DecodedImages:
    """Resized, uncropped images, one after the other in a memory-mapped file that vanishes with this object.

    Threads decode, because Pillow releases Python's lock. A crop is then only a copy and needs no worker
    process.

    Args:
        images: Place of each image, indexed by its key in hexadecimal.
        preprocessing: Preprocessing of the trained encoder, with one of `REPLACEABLE_CROPS`.
        threads: Number of threads that decode.
        progress: Called with (images decoded, images in all).

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
    ) -> None:
        if preprocessing.crop not in REPLACEABLE_CROPS:
            raise ImageError(
                f"images cropped by {preprocessing.crop!r} have no random crops to train on: "
                "pass --preprocessing reference"
            )
        self._preprocessing = preprocessing
        self._centre = preprocessing.transform()
        self._keys = [bytes.fromhex(key) for key in images.index]
        self._shapes: list[tuple[int, ...]] = []
        with explain_write_errors(Path(tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as this object exists
            with ThreadPoolExecutor(threads) as pool:
                for pixels in pool.map(self._resized, images, self._keys):
                    self._file.write(pixels.tobytes())
                    self._shapes.append(pixels.shape)
                    progress(len(self._shapes), len(images))
            self._file.flush()
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        self._bytes = np.memmap(self._file, np.uint8, "r")

    def __len__(self) -> int:
        return len(self._shapes)

    def centre(self, number: int) -> "torch.Tensor":
        """Return the crop that features are computed from, (3, h, w) uint8."""
        if self._preprocessing.size is None:
            return to_tensor(self._pixels(number))
        return self._centre(Image.fromarray(self._pixels(number)))

    def random(
        self,
        number: int,
        seed: int,
        epoch: int,
    ) -> "torch.Tensor":
        """Return a random crop (3, h, w) uint8, which depends only on the seed, the epoch and the image."""
        random = np.random.default_rng([seed, epoch, *self._keys[number]])
        return random_crop(self._pixels(number), self._preprocessing, random)

    def _pixels(self, number: int) -> np.ndarray:
        shape = self._shapes[number]
        end = self._ends[number]
        return self._bytes[end - int(np.prod(shape)) : end].reshape(shape)

    def _resized(self, place: str, key: bytes) -> np.ndarray:
        try:
            data = read_bytes(place)
            if content_key(data) != key:
                raise ImageError("the file changed after it was checked")
            return np.asarray(self._preprocessing.resized(decode(data)))
        except ImageError as error:
            raise ImageError(f"{place}: {error}") from error
