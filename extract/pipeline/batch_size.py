"""The batch size: given, or found by measuring, and halved where memory is too small."""

from collections.abc import Callable

import torch
from torch import Tensor

from tier4k.extract.pipeline.device import PICTURES_PER_CHUNK
from tier4k.extract.pipeline.options import ExtractionError

FIRST_BATCH = {"cpu": 4, "cuda": 32, "mps": 8}

OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "MPS backend out of memory",
)  # of the CPU and of Apple's GPU

WORTHWHILE = 1.05  # a doubled batch that is not at least this much faster only costs memory


class BatchSize:
    """How many views go through a network at once: as given, or the fastest, found by doubling while the work goes on."""

    def __init__(self, given: int | None, device: str) -> None:
        self.current = given or FIRST_BATCH[device]
        self._settled = given is not None
        self._most = PICTURES_PER_CHUNK[device]
        self._rate = 0.0
        self._warm = False

    def measured(self, pixels: int, seconds: float) -> None:
        """Learn that chunks are encoded at this speed. The first chunk of every size is not counted, in which libraries set up."""
        if self._settled:
            return
        if not self._warm:
            self._warm = True
            return
        rate, before = pixels / seconds, self._rate
        if rate < WORTHWHILE * before:
            self.current //= 2
            self._settled = True
        elif self.current >= self._most:
            self._settled = True
        else:
            self.current, self._rate, self._warm = self.current * 2, rate, False

    def halve(self) -> None:
        """Go on with half as many, for good: the memory was too small.

        Raises:
            ExtractionError: There is nothing left to halve.
        """
        if self.current == 1:
            raise ExtractionError(
                "the device has too little memory for a single picture: use --device cpu, or a smaller --image-size"
            )
        self.current, self._settled = self.current // 2, True

    def through(self, count: int, encode: Callable[[slice], Tensor]) -> Tensor:
        """What `encode` makes of `count` pictures, batch by batch; a batch that is too large for the memory is halved.

        Args:
            count: How many pictures there are.
            encode: From the place of a batch to what it becomes.
        """
        done: list[Tensor] = []
        start = 0
        while start < count:
            place = slice(start, min(start + self.current, count))
            if (encoded := _unless_out_of_memory(encode, place)) is not None:
                done.append(encoded)
                start = place.stop
            else:
                self.halve()
                torch.cuda.empty_cache()
        return torch.cat(done)


def _unless_out_of_memory(encode: Callable[[slice], Tensor], place: slice) -> Tensor | None:
    """What a batch becomes; None where the memory is too small. Outside, the error no longer holds the maps that filled it."""
    try:
        return encode(place)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            return None
        raise
