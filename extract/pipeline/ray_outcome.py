"""The joint outcome of the units of an extraction with Ray."""

import time
from typing import Any

from tier4k.extract.pipeline.listener import Encoding, FailedUnit, Timing, UnreadableImage
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.pipeline.ray_attempts import MOST_ATTEMPTS, Fatal
from tier4k.extract.pipeline.ray_units import PublishedUnit

# After so many failed units without a success between them the extraction ends.
HOPELESS = 20


class RayOutcome:
    """Adds up the results of units.

    Args:
        encoders: Number of encoders that read together.
        actors: Number of processes that encode.
    """

    def __init__(self, encoders: int, actors: int) -> None:
        self._actors = actors
        self._encoded = [0] * encoders
        self._batch_sizes = [0] * encoders
        self._unreadable: list[UnreadableImage] = []
        self._failed: list[FailedUnit] = []
        self._failed_in_a_row = 0
        self._start = time.perf_counter()
        self._encoding_seconds = 0.0

    def add(self, result: Any) -> int:
        """Add the result of a unit; return the number of its inputs.

        Raises:
            TierError: The result is an error that ends the extraction.
            ExtractionError: Too many units failed one after another.
        """
        if isinstance(result, Fatal):
            raise result.error
        if isinstance(result, FailedUnit):
            self._add_failed(result)
            return result.count
        assert isinstance(result, PublishedUnit)
        self._failed_in_a_row = 0
        self._encoded = [sum(pair) for pair in zip(self._encoded, result.encoded, strict=True)]
        self._batch_sizes = list(result.batch_sizes)
        self._unreadable.extend(result.unreadable)
        self._encoding_seconds += result.seconds
        return result.inputs

    def _add_failed(self, unit: FailedUnit) -> None:
        self._failed.append(unit)
        self._failed_in_a_row += 1
        if self._failed_in_a_row == HOPELESS:
            raise ExtractionError(
                f"{HOPELESS} units one after another failed {MOST_ATTEMPTS} times each, the last one by "
                f"{unit.reason}: run the same command again when this is fixed"
            )

    def timing(self) -> Timing:
        """Return the time so far, in seconds of one process: what is not encoding counts as reading.

        Writing counts as neither, because other processes do it at the same time.
        """
        seconds = time.perf_counter() - self._start
        encode = min(self._encoding_seconds / self._actors, seconds)
        return Timing(read=seconds - encode, encode=encode)

    def encodings(self) -> list[Encoding]:
        """Return the outcome of each encoder."""
        timing = self.timing()
        encodings = []
        for encoded, batch_size in zip(self._encoded, self._batch_sizes, strict=True):
            encodings.append(
                Encoding(encoded, batch_size, timing, tuple(self._unreadable), tuple(self._failed))
            )
        return encodings
