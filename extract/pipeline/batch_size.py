"""The batch size: given, or found by measuring, and halved where memory is too small."""

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

WORTHWHILE = 1.05  # a doubled batch that is not this much faster only costs memory


class BatchSize:
    """The number of crops in a batch: given, or the fastest, found by doubling while chunks are encoded.

    Args:
        given: The batch size; None measures.
        device: Type of the device, such as "cpu".
    """

    def __init__(self, given: int | None, device: str) -> None:
        self.current = given or FIRST_BATCH[device]
        self._settled = given is not None
        self._largest = IMAGES_PER_CHUNK[device]
        self._rate = 0.0
        self._warm = False

    def measured(self, pixels: int, seconds: float) -> None:
        """Adapt the size to a chunk's speed. The first chunk of a size does not count: libraries set up."""
        if self._settled:
            return
        if not self._warm:
            self._warm = True
            return
        rate = pixels / seconds
        if rate < WORTHWHILE * self._rate:
            self.current //= 2
            self._settled = True
        elif self.current >= self._largest:
            self._settled = True
        else:
            self.current *= 2
            self._rate = rate
            self._warm = False

    def halve(self) -> None:
        """Halve the batch for good, as the memory is too small.

        Raises:
            ExtractionError: The batch is a single crop.
        """
        if self.current == 1:
            remedy = "use --device cpu, or a smaller --image-size"
            raise ExtractionError(f"the device has too little memory for a single image: {remedy}")
        self.current //= 2
        self._settled = True

    def encode_in_batches(self, count: int, encode: Callable[[slice], Tensor]) -> Tensor:
        """Encode `count` inputs batch by batch; a batch that is too large for the memory is halved.

        Args:
            count: Number of inputs.
            encode: From the slice of a batch to its features.

        Raises:
            ExtractionError: A single input is too large for the memory.
        """
        done: list[Tensor] = []
        start = 0
        while start < count:
            batch = slice(start, min(start + self.current, count))
            encoded = _unless_out_of_memory(encode, batch)
            if encoded is None:
                self.halve()
                torch.cuda.empty_cache()
                continue
            done.append(encoded)
            start = batch.stop
        return torch.cat(done)


def _unless_out_of_memory(encode: Callable[[slice], Tensor], batch: slice) -> Tensor | None:
    """Encode a batch; None if memory is too small. The error, which refers to large tensors, ends here."""
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
