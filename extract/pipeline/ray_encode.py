"""The stage of an extraction with Ray that encodes: actors, whose networks are loaded once."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, chdir, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa
import torch

from tier4k.cache.errors import TierError
from tier4k.extract.pipeline.chunks import CPU
from tier4k.extract.pipeline.image_reader import ImageReader
from tier4k.extract.pipeline.missing_inputs import Encoder
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.ray_attempts import Fatal, attempt
from tier4k.extract.pipeline.ray_rows import from_block, to_block
from tier4k.extract.pipeline.ray_units import EncodedUnit, ReadUnit, failure
from tier4k.extract.pipeline.read import UnitReader


@dataclass(frozen=True)
class EncodingProcess:
    """What a process needs in order to encode.

    Attributes:
        load: Loads networks: the class `UnitEncoder`, whose module has the libraries behind it.
        encoders: Encoders that read together.
        options: Size of batches and units.
        device: Type of the device.
        threads: Number of threads of a process on the CPU.
        folder: Where the command runs: paths of weights may be relative to it.
    """

    load: Callable[[Sequence[Encoder], torch.device, ExtractionOptions], Any]
    encoders: Sequence[Encoder]
    options: ExtractionOptions
    device: str
    threads: int
    folder: Path

    def unit_encoder(self) -> Any:
        """Load the networks; return a `UnitEncoder`.

        Raises:
            EncoderError, ExtractionError, WeightsError: A network cannot be used.
        """
        torch.set_num_threads(self.threads)
        with chdir(self.folder) if self.folder.is_dir() else nullcontext():
            return self.load(self.encoders, torch.device(self.device), self.options)


@dataclass(frozen=True)
class LoadedPlan:
    """What the networks of an extraction say about it.

    Attributes:
        unit_size: Number of inputs of a unit.
        reader: Reads units, on machines without GPUs too.
        notes: What the user should know about the weights.
        shapes: Shape of the features of an input, for each encoder.
    """

    unit_size: int
    reader: UnitReader
    notes: list[str]
    shapes: list[tuple[int, ...]]


def plan_on_worker(process: EncodingProcess) -> LoadedPlan:
    """Load the networks where they will be used, and return the plan.

    Raises:
        EncoderError, ExtractionError, WeightsError: A network cannot be used.
    """
    with process_policy():
        encoder = process.unit_encoder()
    reader = encoder.plan.reader
    if isinstance(reader, ImageReader):
        # Processes that read may have no GPU, which pinned memory needs.
        reader = ImageReader(reader.variants, CPU)
    return LoadedPlan(encoder.plan.unit_size, reader, encoder.notes, encoder.shapes)


class EncodingActor:
    """An actor with loaded networks, which encodes units.

    Args:
        process: Encoders and device.
        attempts: The actor that counts attempts.
    """

    def __init__(self, process: EncodingProcess, attempts: Any) -> None:
        self._attempts = attempts
        self._settings = ExitStack()
        self._settings.enter_context(process_policy())
        self._load_error: TierError | None = None
        try:
            self._encoder = process.unit_encoder()
        except TierError as error:
            self._load_error = error  # Ray would report one of its own instead
        self._batch_sizes = range(len(process.encoders))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Encode a unit; what failed before stays as it is."""
        (unit,) = from_block(block)
        if not isinstance(unit, ReadUnit):
            return block
        if self._load_error:
            return to_block([Fatal(self._load_error)])
        encoded = attempt(
            self._attempts, ("encode", unit.number), lambda: self._encode(unit), ends_process=True
        )
        return to_block([encoded if isinstance(encoded, EncodedUnit) else failure(encoded, unit.unit)])

    @torch.inference_mode()
    def _encode(self, read: ReadUnit) -> EncodedUnit:
        start = perf_counter()
        chunk = self._encoder.upload(read.chunk)
        features = []
        for one in self._encoder.features(read.unit, chunk):
            features.append((one.encoder, one.keys, one.features.array()))
        return EncodedUnit(
            read.number,
            read.unit,
            features,
            read.chunk.unreadable,
            perf_counter() - start,
            tuple(map(self._encoder.batch_size, self._batch_sizes)),
        )
