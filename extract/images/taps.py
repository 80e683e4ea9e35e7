"""Weights of Pillow's resize, as whole numbers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WEIGHT_BITS = 22  # Pillow rounds weights to this many bits behind the point
ONE = 1 << WEIGHT_BITS
HALF = ONE >> 1
KEPT_TAPS = 512  # pairs of sizes: about 10 MB


@dataclass(frozen=True)
class Taps:
    """For each of n resized columns (or rows), the columns that it is a weighted sum of.

    Attributes:
        starts: (n,) int32: the first column.
        counts: (n,) int32: number of columns.
        weights: (n, k) int32: their weights times 2^22, zero behind the count.
    """

    starts: np.ndarray
    counts: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def start(self) -> int:
        """The first column that is needed."""
        return int(self.starts[0])

    @property
    def end(self) -> int:
        """The end of the columns that are needed."""
        return int(self.starts[-1] + self.counts[-1])


@lru_cache(KEPT_TAPS)
def taps(
    length: int,
    resized: int,
    interpolation: str,
    first: int,
    last: int,
) -> Taps:
    """Return the taps of the columns first..last-1 of an image that is resized from `length` to `resized`.

    The steps and their order are those of Pillow (`precompute_coeffs` and `normalize_coeffs_8bpc` of its
    Resample.c), because rounding depends on them.

    Args:
        length: Columns of the image.
        resized: Columns after the resize.
        interpolation: A name in `KERNELS`.
        first, last: Range of resized columns.
    """
    if length == resized:
        return _copies(first, last)
    kernel, support = KERNELS[interpolation]
    scale = length / resized
    stretch = max(scale, 1.0)
    centres = (np.arange(first, last) + 0.5) * scale
    reach = support * stretch
    starts = np.maximum((centres - reach + 0.5).astype(np.int32), 0)
    counts = np.minimum((centres + reach + 0.5).astype(np.int32), length) - starts
    numbers = np.arange(counts.max())
    distances = (numbers + starts[:, None] - centres[:, None] + 0.5) * (1.0 / stretch)
    weights = np.where(numbers < counts[:, None], kernel(distances), 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # np.sum would add in another order
    return Taps(starts, counts, _rounded(weights))


def _copies(first: int, last: int) -> Taps:
    starts = np.arange(first, last, dtype=np.int32)
    return Taps(starts, np.ones_like(starts), np.full((len(starts), 1), ONE, np.int32))


def _rounded(weights: np.ndarray) -> np.ndarray:
    """Return weights as whole numbers, halves away from zero; their sums with pixels fit into 32 bits."""
    whole = np.trunc(weights * ONE + np.copysign(0.5, weights)).astype(np.int32)
    largest = np.abs(whole).sum(axis=1, dtype=np.int64).max() * 255 + HALF
    assert largest < 2**31, "weights of a resize overflow 32 bits"
    return whole


def _bilinear(distances: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(distances), 0.0)


def _bicubic(distances: np.ndarray) -> np.ndarray:
    """Return Keys' kernel with a = -0.5 (Keys 1981, doi:10.1109/TASSP.1981.1163711, equation 15)."""
    x = np.abs(distances)
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(distances: np.ndarray) -> np.ndarray:
    """Return the sinc with a window of three lobes."""
    inside = (distances >= -3.0) & (distances < 3.0)
    return np.where(inside, _sinc(distances) * _sinc(distances / 3), 0.0)


def _sinc(x: np.ndarray) -> np.ndarray:
    """Return sin(πx) / πx by the C library's sine, as Pillow does: NumPy's differs in the last bit."""
    angles = np.where(x == 0.0, 1.0, x * math.pi)
    sines = np.fromiter(map(math.sin, angles.ravel()), float, angles.size).reshape(angles.shape)
    return np.where(x == 0.0, 1.0, sines / angles)


KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
