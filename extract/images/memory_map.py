"""Pictures decoded once, for training that reads them in every epoch."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from tier4k.cache.keys import bytes_key
from tier4k.cache.store import writing
from tier4k.extract.images.crops import random_crop
from tier4k.extract.images.decode import ImageError, decode, read_bytes
from tier4k.extract.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch


CROPS = (
    "center",
    "no",
)  # of preparations that only cut something off a resized picture, which random crops do elsewhere


class DecodedImages:
    """Resized, uncropped pictures, one after the other in a memory-mapped file that is gone with this object.

    Threads decode: Pillow lets go of Python's lock meanwhile. What is left to do for a view is a copy, which needs no worker process.

    Args:
        pictures: Path of each picture, indexed by its key in hexadecimal.
        preparation: Of the encoder that is trained; its crop is one of `CROPS`.
        threads: How many decode.
        progress: Called with (pictures decoded, pictures in all).

    Raises:
        PictureError: A picture is damaged, or not what it was when its key was taken.
        StoreError: There is no room in the temporary folder.
    """

    def __init__(
        self,
        pictures: pd.Series,
        preprocessing: Preprocessing,
        threads: int,
        progress: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        if preprocessing.crop not in CROPS:
            raise ImageError(
                f"pictures prepared by {preprocessing.crop!r} have no random crops to train on: use --preprocessing reference"
            )
        self._preparation, self._centre = preprocessing, preprocessing.transform()
        self._keys = [bytes.fromhex(key) for key in pictures.index]
        self._shapes: list[tuple[int, ...]] = []
        with writing(Path(tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
            with ThreadPoolExecutor(threads) as pool:
                for pixels in pool.map(self._resized, pictures, self._keys):
                    self._file.write(pixels.tobytes())
                    self._shapes.append(pixels.shape)
                    progress(len(self._shapes), len(pictures))
            self._file.flush()
        self._ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        self._bytes = np.memmap(self._file, np.uint8, "r")

    def __len__(self) -> int:
        return len(self._shapes)

    def centre(self, number: int) -> "torch.Tensor":
        """The view that features are taken from, (3, h, w) uint8."""
        return self._centre(Image.fromarray(self._pixels(number)))

    def random(self, number: int, seed: int, epoch: int) -> "torch.Tensor":
        """A random crop and flip (3, h, w) uint8 that follows from the seed, the epoch and the picture's content alone."""
        return random_crop(
            self._pixels(number), self._preparation, np.random.default_rng([seed, epoch, *self._keys[number]])
        )

    def _pixels(self, number: int) -> np.ndarray:
        shape, end = self._shapes[number], self._ends[number]
        return self._bytes[end - int(np.prod(shape)) : end].reshape(shape)

    def _resized(self, path: str, key: bytes) -> np.ndarray:
        try:
            data = read_bytes(Path(path))
            if bytes_key(data) != key:
                raise ImageError("changed since it was checked")
            return np.asarray(self._preparation.resized(decode(data)))
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
