"""The batch size: fixed by the user or found by measuring, and halved if memory is too small."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tier4k.extract.pipeline.device import IMAGES_PER_CHUNK
from tier4k.extract.pipeline.options import ExtractionError

FIRST_BATCH = {"cpu": 4, "cuda": 32, "mps": 8}

OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "MPS backend out of memory",
)  # of the CPU and of Apple's GPU

WORTHWHILE = 1.05  # a doubled batch is kept only if encoding is faster by this factor


class BatchSize:
    """The number of crops in a batch: fixed, or the fastest, found by doubling while chunks are encoded.

    Args:
        fixed_size: The batch size; None finds the fastest by measuring.
        device: Type of the device, such as "cpu".
    """

    def __init__(self, fixed_size: int | None, device: str) -> None:
        self.current = fixed_size or FIRST_BATCH[device]
        self._settled = fixed_size is not None
        self._largest = IMAGES_PER_CHUNK[device]
        self._pixels_per_second = 0.0
        self._warm = False

    def measured(self, pixels: int, seconds: float) -> None:
        """Adapt the batch size to the speed of a chunk.

        The first chunk of each size does not count, as libraries prepare themselves for the new shape.

        Args:
            pixels: Number of pixels in the chunk.
            seconds: Time that the chunk took to encode.
        """
        if self._settled:
            return
        if not self._warm:
            self._warm = True
            return
        pixels_per_second = pixels / seconds
        if pixels_per_second < WORTHWHILE * self._pixels_per_second:
            self.current //= 2
            self._settled = True
        elif self.current >= self._largest:
            self._settled = True
        else:
            self.current *= 2
            self._pixels_per_second = pixels_per_second
            self._warm = False

    def halve(self) -> None:
        """Halve the batch size and stop measuring, as the memory is too small.

        Raises:
            ExtractionError: The batch is a single crop already.
        """
        if self.current == 1:
            remedy = "pass --device cpu or a smaller --image-size"
            raise ExtractionError(f"the device has too little memory for a single image: {remedy}")
        self.current //= 2
        self._settled = True

    def encode_in_batches(self, count: int, encode: Callable[[slice], Tensor]) -> Tensor:
        """Encode `count` inputs batch by batch; halve a batch that is too large for the memory.

        Args:
            count: Number of inputs.
            encode: Returns the features of a batch, given as a slice of the inputs.

        Raises:
            ExtractionError: A single input is too large for the memory.
        """
        features: list[Tensor] = []
        start = 0
        while start < count:
            batch = slice(start, min(start + self.current, count))
            batch_features = _encode_unless_out_of_memory(encode, batch)
            if batch_features is None:
                self.halve()
                torch.cuda.empty_cache()
                continue
            features.append(batch_features)
            start = batch.stop
        return torch.cat(features)


def _encode_unless_out_of_memory(encode: Callable[[slice], Tensor], batch: slice) -> Tensor | None:
    """Encode a batch; return None if memory is too small.

    The error is not kept, as it refers to large tensors.
    """
    try:
        return encode(batch)
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        return None


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or contains_any(str(error), OUT_OF_MEMORY)


def contains_any(message: str, parts: Iterable[str]) -> bool:
    """Return whether a message contains one of several texts."""
    return any(part in message for part in parts)
