"""The loop of stage 1 on one device: read units of inputs, encode each with all networks, write features."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tier4k.cache.store import FeatureStore
from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.listener import Encoding, Timing, UnreadableImage
from tier4k.extract.pipeline.publish import EncodedInputs, Publisher
from tier4k.extract.pipeline.units import Unit


class EncodesUnits(Protocol):
    """Interface of `UnitEncoder`, whose module has the networks behind it."""

    def read(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Chunk]]:
        """Yield each unit, and its chunk on the device."""

    def features(self, unit: Unit, chunk: Chunk) -> Iterator[EncodedInputs]:
        """Yield the features of a unit, for each encoder that wants some of its inputs."""

    def batch_size(self, encoder: int) -> int:
        """Return the current number of inputs per batch of an encoder, given by its index."""


@dataclass(frozen=True)
class _Encoded:
    """A unit whose features a GPU may still be computing, and other devices compute when they are fetched."""

    chunk: Chunk
    features: Iterable[EncodedInputs]


class EncodingLoop:
    """Encodes units of inputs on one device.

    While the device encodes a unit, threads read the next ones, and another thread writes the features of the
    batch before, on a GPU of the unit before.

    Args:
        encoder: Reads and encodes units.
        device: Its device.
        shard_rows: Largest number of rows collected before a shard is published.
    """

    def __init__(
        self,
        encoder: EncodesUnits,
        device: torch.device,
        shard_rows: int,
    ) -> None:
        self._encoder = encoder
        self._shard_rows = shard_rows
        # A GPU computes while this thread prepares its next work; other devices compute what is fetched.
        self._units_ahead = 1 if device.type == "cuda" else 0
        self._timing = Timing()
        self._unreadable: list[UnreadableImage] = []

    def run(
        self,
        units: Iterable[Unit],
        stores: Sequence[FeatureStore],
        advanced: Callable[[int, Timing], None],
    ) -> list[Encoding]:
        """Encode units and publish their features. An interrupt publishes all features encoded so far.

        Args:
            units: The units.
            stores: The store of each encoder.
            advanced: Called with the number of inputs that were encoded or left out, and the time so far.

        Returns:
            The outcome of each encoder.

        Raises:
            EncoderError: A text has no token, or one that a network lacks.
            ExtractionError: An input is too small for a network, or too large for the memory.
            StoreError: A store cannot be written.
            ShardError: Features contain NaN or infinity.
        """
        self._counts = [0] * len(stores)
        with torch.inference_mode(), Publisher(stores, self._shard_rows) as publisher:
            self._encode_units(units, publisher, advanced)
            with self._timing.measure("write"):
                publisher.finish()
        return [self._outcome(number) for number in range(len(stores))]

    def _encode_units(
        self,
        units: Iterable[Unit],
        publisher: Publisher,
        advanced: Callable[[int, Timing], None],
    ) -> None:
        """Encode units. A GPU gets its work of the next unit before the features of a unit are fetched."""
        under_way: deque[_Encoded] = deque()

        def fetch() -> None:
            encoded = under_way.popleft()
            self._hand_over(encoded, publisher)
            advanced(len(encoded.chunk.numbers) + len(encoded.chunk.left_out), self._timing)

        try:
            for encoded in self._encoded(units):
                under_way.append(encoded)
                if len(under_way) > self._units_ahead:
                    fetch()
        finally:
            while self._units_ahead and under_way:
                fetch()

    def _encoded(self, units: Iterable[Unit]) -> Iterator[_Encoded]:
        unread = self._encoder.read(units)
        while True:
            with self._timing.measure("read"):
                read = next(unread, None)
            if read is None:
                return
            unit, chunk = read
            features: Iterable[EncodedInputs] = self._encoder.features(unit, chunk)
            if self._units_ahead:
                with self._timing.measure("encode"):
                    features = list(features)
            yield _Encoded(chunk, features)

    def _hand_over(self, encoded: _Encoded, publisher: Publisher) -> None:
        """Fetch the features of a unit, and give them to the publishing thread."""
        unfetched = iter(encoded.features)
        while True:
            with self._timing.measure("encode"):
                one = next(unfetched, None)
                if one is None:
                    break
                features = one.features.array()
            with self._timing.measure("write"):
                publisher.add(one.encoder, one.keys, features)
            self._counts[one.encoder] += len(one.keys)
        self._unreadable.extend(encoded.chunk.unreadable)

    def _outcome(self, number: int) -> Encoding:
        batch_size = self._encoder.batch_size(number)
        return Encoding(self._counts[number], batch_size, self._timing, tuple(self._unreadable))
