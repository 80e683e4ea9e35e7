"""One kernel per stream or encoder: a weighted sum of such kernels and of their products.

k(x, x') = sum_m w_m prod_{s in m} exp(-|x_s - x'_s|^2 / (2 l_s^2 d_s)), where m is one group of columns, or a
group of the text or of the interactions and a group of images; x_s are the d_s standardized columns of group
s, and l_s is its length-scale. A group is a stream, or the columns of one encoder in it. The weights are not
negative and sum to 1, so that k(x, x) = 1 and a penalty means the same whatever the weights (multiple kernel
learning; Gönen & Alpaydın, JMLR 12, 2011).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tier4k.heads.data.streams import Part, Streams
from tier4k.heads.regressors.options import HeadError

KERNELS = ("joint", "streams", "streams+product", "encoders", "encoders+product")

PRODUCT = "+product"  # ends the name of kernels with products

FACTORS = ("text", "interaction")  # streams whose kernels are factors of those of images

IMAGES = ("image", "image-prompt")

TIMES = "*"  # between the streams of a product in the name of a kernel: "text*image"

COLUMNS, LENGTH_SCALE, WEIGHT = "columns.", "length_scale.", "weight."  # prefixes of the names of tensors

ROUNDING = 1e-6  # largest difference of the sum of stored weights from 1


@dataclass(frozen=True)
class KernelSum:
    """Length-scales and weights of the kernels of streams.

    Attributes:
        length_scales: l_s by name of the stream.
        weights: w_m by name of the kernel: "text" for a stream, "text*image" for a product.
    """

    length_scales: Mapping[str, float]
    weights: Mapping[str, float]

    def of_distances(self, distances: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return k (M, N), given |x_s - x'_s|^2 / d_s (M, N) of M inputs and N rows by stream."""
        kernel = np.zeros(next(iter(distances.values())).shape)
        for name, weight in sorted(self.weights.items()):  # a stored head adds in the same order
            if weight:
                streams = name.split(TIMES)
                exponent = sum(
                    distances[stream] / (2 * self.length_scales[stream] ** 2) for stream in streams
                )
                kernel += weight * np.exp(-exponent)
        return kernel


@dataclass(frozen=True)
class StreamKernels:
    """The kernel of a fitted head on standardized fused vectors.

    Attributes:
        columns: Columns (d,) bool of each group by name.
        kernels: Length-scales and weights.
    """

    columns: Mapping[str, np.ndarray]
    kernels: KernelSum

    def __call__(self, inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return k (M, N) of inputs (M, d) and rows (N, d)."""
        return self.kernels.of_distances(stream_distances(inputs, rows, self.columns))

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors that `restore` reads: three for each stream, and the weights of products."""
        tensors: dict[str, np.ndarray] = {}
        for stream, columns in self.columns.items():
            tensors[COLUMNS + stream] = columns
            tensors[LENGTH_SCALE + stream] = np.array([self.kernels.length_scales[stream]])
        for name, weight in self.kernels.weights.items():
            tensors[WEIGHT + name] = np.array([weight])
        return tensors

    @classmethod
    def restore(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """Restore the kernel from tensors of the right shapes.

        Raises:
            ValueError: A column belongs to no stream or to two, a length-scale is not above 0, or the weights
                are not those of a sum.
        """
        columns = _with_prefix(tensors, COLUMNS)
        length_scales = {name: float(value[0]) for name, value in _with_prefix(tensors, LENGTH_SCALE).items()}
        weights = {name: float(value[0]) for name, value in _with_prefix(tensors, WEIGHT).items()}
        _require_a_partition(columns)
        _require_length_scales(length_scales)
        _require_a_sum(weights)
        return cls(columns, KernelSum(length_scales, weights))


def kernel_columns(kernels: str, streams: Streams) -> dict[str, np.ndarray]:
    """Return the columns (d,) bool of each group that has one kernel, by the name of the group.

    A stream is a group ("image"); with kernels of encoders each of its encoders is ("image clip@448"), if it
    has several.

    Args:
        kernels: A value of `KERNELS` other than "joint".
        streams: The streams of the columns.
    """
    groups: dict[str, np.ndarray] = {}
    for part, columns in streams.slices():
        if part.width:
            group = groups.setdefault(_group_name(kernels, part, streams), np.zeros(streams.width, bool))
            group[columns] = True
    return groups


def kernel_names(kernels: str, groups: Sequence[str]) -> list[str]:
    """Return the names of the summed kernels, those of single groups first.

    Args:
        kernels: A value of `KERNELS` other than "joint".
        groups: Names of the groups that have columns.
    """
    names = list(groups)
    if kernels.endswith(PRODUCT):
        factors = [group for group in groups if _stream_of(group) in FACTORS]
        images = [group for group in groups if _stream_of(group) in IMAGES]
        names += [f"{factor}{TIMES}{image}" for factor in factors for image in images]
    return names


def require_factors(kernels: str, groups: Sequence[str]) -> None:
    """Refuse products where there is no text, or no stream of images.

    Raises:
        HeadError: Products are wanted, and there are none.
    """
    if kernels.endswith(PRODUCT) and len(kernel_names(kernels, groups)) == len(groups):
        raise HeadError(
            f"kernels is {kernels!r}, which needs the streams text and image, and the fused vector has "
            f"{', '.join(groups)}: use kernels={kernels.removesuffix(PRODUCT)}, or fit the head on text and "
            "image"
        )


def kernel_shapes(kernels: str, tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return the shapes of the kernel's tensors among those of a head, as `checked_tensors` takes them.

    Args:
        kernels: A value of `KERNELS` other than "joint".
        tensors: Tensors of the head by name.

    Raises:
        ValueError: The tensors are not those of such kernels.
    """
    streams = list(_with_prefix(tensors, COLUMNS))
    weighted = sorted(_with_prefix(tensors, WEIGHT))
    if not streams or weighted != sorted(kernel_names(kernels, streams)):
        raise ValueError(
            f"not the weights of one kernel head with kernels={kernels}: there are columns of the streams "
            f"{streams} and weights of the kernels {weighted}"
        )
    shapes = {WEIGHT + name: "1" for name in weighted}
    for stream in streams:
        shapes |= {COLUMNS + stream: "d", LENGTH_SCALE + stream: "1"}
    return shapes


def squared_distances(inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return squared distances (M, N), over d, of inputs (M, d) from rows (N, d) of d columns, float64."""
    inputs = inputs.astype(np.float64)
    rows = rows.astype(np.float64)
    squared = (inputs**2).sum(1)[:, None] + (rows**2).sum(1) - 2 * inputs @ rows.T
    return np.maximum(squared, 0) / inputs.shape[1]


def stream_distances(
    inputs: np.ndarray,
    rows: np.ndarray,
    columns: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return `squared_distances` (M, N) of inputs (M, d) from rows (N, d) in the columns of each stream."""
    return {stream: squared_distances(inputs[:, own], rows[:, own]) for stream, own in columns.items()}


def _group_name(
    kernels: str,
    part: Part,
    streams: Streams,
) -> str:
    """Return the name of the group that a part belongs to."""
    is_alone = sum(other.stream == part.stream for other in streams.parts) == 1
    if kernels.startswith("streams") or is_alone:
        return part.stream
    return f"{part.stream} {part.name}".replace(TIMES, "_")


def _stream_of(group: str) -> str:
    return group.partition(" ")[0]


def _with_prefix(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    found = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = tensor
    return found


def _require_a_partition(columns: Mapping[str, np.ndarray]) -> None:
    for stream, own in columns.items():
        if own.dtype != bool or not own.any():
            raise ValueError(
                f"the columns of {stream} have type {own.dtype}, expected bool, one or more true"
            )
    owners = np.sum(list(columns.values()), axis=0)
    if (owners != 1).any():
        raise ValueError(
            f"{np.sum(owners != 1)} of {len(owners)} columns belong to none of the streams "
            f"{', '.join(columns)}, or to two of them"
        )


def _require_length_scales(length_scales: Mapping[str, float]) -> None:
    for stream, length_scale in length_scales.items():
        if length_scale <= 0:
            raise ValueError(f"the length-scale of {stream} is {length_scale:g}, expected a number above 0")


def _require_a_sum(weights: Mapping[str, float]) -> None:
    if min(weights.values()) < 0 or abs(sum(weights.values()) - 1) > ROUNDING:
        raise ValueError(f"the weights of the kernels are {weights}, expected numbers from 0 with the sum 1")
