"""Encoding of units on one device: loaded networks, and how their inputs are read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.out_of_memory import unless_out_of_memory
from tier4k.extract.images.crops import CENTRE_CROP
from tier4k.extract.pipeline.arithmetic import arithmetic
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.encode import (
    CalledChunkEncoder,
    ChunkEncoder,
    ImageChunkEncoder,
    PairChunkEncoder,
    TextChunkEncoder,
)
from tier4k.extract.pipeline.image_reader import ImageReader, ImageVariant, ImageVariants
from tier4k.extract.pipeline.load import feature_shape, load_for_encoding
from tier4k.extract.pipeline.missing_inputs import Encoder
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.publish import EncodedInputs, HostFeatures
from tier4k.extract.pipeline.read import TextReader, UnitReader, image_chunks
from tier4k.extract.pipeline.units import TEXTS_PER_UNIT, Unit, images_per_unit
from tier4k.extract.pipeline.upload import Uploader
from tier4k.extract.scorers.called import CalledScorer
from tier4k.extract.scorers.scorer import Scorer


@dataclass(frozen=True)
class ReadingPlan:
    """How units are cut and read.

    Attributes:
        unit_size: Number of images of a unit, or of texts if there are no images.
        reader: Reads units.
    """

    unit_size: int
    reader: UnitReader


def plan_reading(
    encoders: Sequence[Encoder],
    network: Any,
    options: ExtractionOptions,
    device: torch.device,
) -> ReadingPlan:
    """Return how the inputs of encoders are read that read together.

    Args:
        encoders: Image encoders with equal inputs, or one text encoder, or one scorer.
        network: The network of the first one, on any device.
        options: Size of batches and units.
        device: The device that encodes.
    """
    if isinstance(encoders[0], TextEncoder):
        return ReadingPlan(options.unit_rows or TEXTS_PER_UNIT, TextReader(network.tokenizer))
    variants = ImageVariants.of([_variant(encoder, network) for encoder in encoders], device)
    size = options.unit_rows or images_per_unit(
        sum(variant.approximate_bytes for variant in variants.variants),
        min(variant.crop_count for variant in variants.variants),
        options.batch_size,
        device.type,
    )
    return ReadingPlan(size, ImageReader(variants, device))


def _variant(encoder: Encoder, network: Any) -> ImageVariant:
    assert not isinstance(encoder, TextEncoder)
    if isinstance(encoder, ImageEncoder):
        return ImageVariant(encoder.preprocessing, encoder.crops)
    return ImageVariant(encoder.preprocessing(network.side), CENTRE_CROP)


class UnitEncoder:
    """Reads and encodes units with the networks of encoders that read together.

    Args:
        encoders: W image encoders with equal inputs, or one text encoder, or one scorer.
        device: The device.
        options: Batch size, workers.

    Attributes:
        notes: What the user should know about the weights.
        shapes: For each encoder the shape of the features of one input.
        plan: How units are cut and read.

    Raises:
        EncoderError, ExtractionError, WeightsError: A network cannot be used.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        device: torch.device,
        options: ExtractionOptions,
    ) -> None:
        self._encoders = encoders
        self._device = device
        self._workers = options.workers
        networks = [load_for_encoding(encoder, device, options.compiled) for encoder in encoders]
        self.notes = [note for network in networks for note in network.notes]
        self.shapes = [
            feature_shape(encoder, network, device)
            for encoder, network in zip(encoders, networks, strict=True)
        ]
        self.plan = plan_reading(encoders, networks[0], options, device)
        self._sizes = [BatchSize(_batch_size(encoder, options), device.type) for encoder in encoders]
        self._chunk_encoders: list[ChunkEncoder] = []
        for number, network in enumerate(networks):
            self._chunk_encoders.append(self._chunk_encoder(number, network, options))
        self._upload: Callable[[Chunk], Chunk] = lambda chunk: chunk
        if isinstance(self.plan.reader, ImageReader):
            self._upload = Uploader(device, self.plan.reader.variants)
            self.plan.reader.prepare()  # like the loading of networks, no part of the time of reading

    def _chunk_encoder(
        self,
        number: int,
        network: Any,
        options: ExtractionOptions,
    ) -> ChunkEncoder:
        size, reader = self._sizes[number], self.plan.reader
        if isinstance(self._encoders[number], CalledScorer):
            return CalledChunkEncoder(network, size, self._device)
        if isinstance(self._encoders[number], Scorer):
            return PairChunkEncoder(network, options.text_batch_size, size, self._device)
        if not isinstance(reader, ImageReader):
            return TextChunkEncoder(network, size, self._device)
        variant = reader.variants.of_encoder[number]
        crop_count = reader.variants.variants[variant].crop_count
        return ImageChunkEncoder(network, variant, crop_count, size, self._device)

    def batch_size(self, encoder: int) -> int:
        """Return the current number of inputs per batch of an encoder, given by its index."""
        return self._sizes[encoder].current

    def read(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Chunk]]:
        """Yield each unit, and its chunk on the device. Threads read images ahead."""
        reader = self.plan.reader
        if isinstance(reader, ImageReader):
            yield from image_chunks(reader, units, self._workers, self.upload)
            return
        for unit in units:
            yield unit, reader.read(unit)

    def upload(self, chunk: Chunk) -> Chunk:
        """Copy a chunk to the device; where it does not fit beside a batch, batches become smaller.

        Raises:
            ExtractionError: A single input is too large for the memory.
        """
        while (uploaded := unless_out_of_memory(partial(self._upload, chunk))) is None:
            for size in self._sizes:
                size.halve()
        return uploaded

    def features(self, unit: Unit, chunk: Chunk) -> Iterator[EncodedInputs]:
        """Yield the features of a unit, for each encoder that wants some of its inputs.

        A GPU gets all inputs of an encoder at once. Elsewhere, each batch is encoded when it is asked for.

        Args:
            unit: The unit.
            chunk: The same, as read and uploaded.

        Raises:
            EncoderError: A text has no token, or one that the network lacks.
            ExtractionError: An input is too small for a network, or too large for the memory.
        """
        for number, (encoder, chunk_encoder) in enumerate(
            zip(self._encoders, self._chunk_encoders, strict=True)
        ):
            wanted = unit.wanted[number, chunk.numbers]
            if not wanted.any():
                continue
            batches = [wanted] if self._device.type == "cuda" else chunk_encoder.batches(chunk, wanted)
            for batch in batches:
                with arithmetic(encoder.precision, self._device, self._has_fixed_shape(number)):
                    features = HostFeatures(chunk_encoder.features(chunk, batch))
                yield EncodedInputs(number, unit.keys[chunk.numbers[batch]], features)

    def _has_fixed_shape(self, number: int) -> bool:
        """Return whether all images of an encoder have one shape."""
        reader = self.plan.reader
        if not isinstance(reader, ImageReader):
            return False
        return reader.variants.variants[reader.variants.of_encoder[number]].preprocessing.size is not None


def _batch_size(encoder: Encoder, options: ExtractionOptions) -> int | None:
    return options.text_batch_size if isinstance(encoder, TextEncoder) else options.batch_size
