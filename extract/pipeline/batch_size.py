"""The batch size: fixed, or found by measuring, and halved where memory is too small."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tier4k.extract.encoders.out_of_memory import unless_out_of_memory
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.pipeline.units import IMAGES_PER_UNIT

# Batch sizes from which the fastest is searched. CUDA has none: its largest batch is as fast as any, and each
# size costs seconds when it is first used.
FIRST_BATCH = {"cpu": 4, "mps": 8}

WORTHWHILE = 1.05  # a doubled batch is kept only if encoding is faster by this factor

LONGEST_BATCH_S = 10.0  # of a batch whose size is found by measuring: a killed extraction loses the last one


@dataclass
class _Measured:
    """Inputs of one batch size that were encoded, and the seconds that they took."""

    inputs: int = 0
    pixels: int = 0
    seconds: float = 0.0

    def add(
        self,
        inputs: int,
        pixels: int,
        seconds: float,
    ) -> None:
        """Add inputs."""
        self.inputs += inputs
        self.pixels += pixels
        self.seconds += seconds


class BatchSize:
    """The number of inputs in a batch: fixed, or the fastest, found by doubling while inputs are encoded.

    Args:
        fixed_size: The batch size; None leaves the choice to the device.
        device: Type of the device, such as "cpu".

    Attributes:
        current: The batch size.
        is_settled: Whether the search has ended.
    """

    def __init__(self, fixed_size: int | None, device: str) -> None:
        self._largest = IMAGES_PER_UNIT[device]
        self.current = fixed_size or FIRST_BATCH.get(device, self._largest)
        self.is_settled = fixed_size is not None or device not in FIRST_BATCH
        self._pixels_per_second = 0.0
        self._measured: _Measured | None = None

    def measured(
        self,
        inputs: int,
        pixels: int,
        seconds: float,
    ) -> None:
        """Adapt the batch size to the speed of encoding.

        The first inputs of each size do not count, as libraries prepare themselves for the new shape. Those
        after them count when they are as many as the largest batch has.

        Args:
            inputs: Number of inputs that were encoded together.
            pixels: Their pixels.
            seconds: Time that they took.
        """
        if self.is_settled:
            return
        if self._measured is None:
            self._measured = _Measured()
            return
        if seconds * self.current > LONGEST_BATCH_S * inputs and self.current > 1:
            self.current //= 2
            self._largest = self.current
            self._pixels_per_second = 0.0
            self._measured = None
            return
        self._measured.add(inputs, pixels, seconds)
        if self._measured.inputs >= self._largest:
            self._adapt(self._measured)
            self._measured = None

    def _adapt(self, measured: _Measured) -> None:
        pixels_per_second = measured.pixels / measured.seconds
        next_batch_s = 2 * self.current * measured.seconds / measured.inputs
        if pixels_per_second < WORTHWHILE * self._pixels_per_second:
            self.current //= 2
            self.is_settled = True
        elif self.current >= self._largest or next_batch_s > LONGEST_BATCH_S:
            self.is_settled = True
        else:
            self.current *= 2
            self._pixels_per_second = pixels_per_second

    def halve(self) -> None:
        """Halve the batch size and stop measuring, as the memory is too small.

        Raises:
            ExtractionError: The batch is a single input already.
        """
        if self.current == 1:
            remedy = "pass --device cpu or a smaller --image-size"
            raise ExtractionError(f"the device has too little memory for a single input: {remedy}")
        self.current //= 2
        self.is_settled = True

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
            batch_features = unless_out_of_memory(partial(encode, batch))
            if batch_features is None:
                self.halve()
                continue
            features.append(batch_features)
            start = batch.stop
        return torch.cat(features)
