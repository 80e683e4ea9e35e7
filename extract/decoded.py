"""Pictures decoded once, for training that reads them in every epoch."""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from cache.keys import bytes_key
from cache.store import writing
from extract.pictures import PictureError, Preparation, decode, random_view, read_bytes

if TYPE_CHECKING:
    import torch

CROPS = ("center", "no")  # of preparations that only cut something off a resized picture, which random crops do elsewhere


class DecodedPictures:
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
        self, pictures: pd.Series, preparation: Preparation, threads: int, progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        if preparation.crop not in CROPS:
            raise PictureError(f"pictures prepared by {preparation.crop!r} have no random crops to train on: use --prepare reference")
        self._preparation, self._centre = preparation, preparation.transform()
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
        return random_view(self._pixels(number), self._preparation, np.random.default_rng([seed, epoch, *self._keys[number]]))

    def _pixels(self, number: int) -> np.ndarray:
        shape, end = self._shapes[number], self._ends[number]
        return self._bytes[end - int(np.prod(shape)) : end].reshape(shape)

    def _resized(self, path: str, key: bytes) -> np.ndarray:
        try:
            data = read_bytes(Path(path))
            if bytes_key(data) != key:
                raise PictureError("changed since it was checked")
            return np.asarray(self._preparation.resized(decode(data)))
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
