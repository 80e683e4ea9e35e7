"""The loop of stage 1: read chunks of inputs, encode each with all networks, write features to stores."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.encode import (
    ChunkEncoder,
    ImageChunkEncoder,
    PairChunkEncoder,
    TextChunkEncoder,
)
from tier4k.extract.pipeline.float32 import full_float32
from tier4k.extract.pipeline.listener import Encoding, Listener, Timing
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.missing_inputs import Work
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.read import ImageVariant, image_chunks, pair_chunks, text_chunks
from tier4k.extract.pipeline.records import DatasetRecord
from tier4k.extract.pipeline.versions import library_versions
from tier4k.extract.scorers.scorer import Scorer

# The chunks to read, and for each encoder the object that encodes the chunks.
Plan = tuple[Iterable[Chunk], Sequence[ChunkEncoder]]


def encode(
    works: Sequence[Work],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    record: DatasetRecord,
) -> list[Encoding]:
    """Encode missing inputs into stores under `root`.

    Stores and the record of the data set are written after the networks are loaded and probed, so that a
    wrong option leaves no store. They are written before the first input is encoded, as `store gc` keeps only
    stores that a record or a run uses.

    Args:
        works: Image encoders with equal inputs, or one text encoder, or one scorer.
        root: Folder of stores.
        options: Batch size, device, workers.
        listener: Receives the progress.
        record: Keys and names of the data set's inputs.

    Returns:
        The outcome of each encoder. All outcomes have one timing.

    Raises:
        EncoderError: A text network fails its probe, or makes no token of a text.
        ExtractionError: The device does not exist or has too little memory, or an image changed since it was
            checked.
        WeightsError: The weights do not fit a network.
        StoreError: A store cannot be written.
    """
    device = choose_device(options.device)
    networks = [_load(work, options, device) for work in works]
    for network in networks:
        for note in network.notes:
            listener.noted(note)
    chunks, encoders = _plan(works, networks, options, device)
    stores = [FeatureStore.create(root, work.encoder.signature, library_versions()) for work in works]
    record.write(root)
    any_missing = np.logical_or.reduce([work.missing for work in works])
    listener.started(works[0].encoder.signature.stream, int(any_missing.sum()))
    timing = Timing()
    with full_float32(), torch.inference_mode():
        _read_encode_write(chunks, works, encoders, stores, options.shard_rows, timing, listener)
    return [Encoding(encoder.batch_size, timing) for encoder in encoders]


def _read_encode_write(
    chunks: Iterable[Chunk],
    works: Sequence[Work],
    encoders: Sequence[ChunkEncoder],
    stores: Sequence[FeatureStore],
    shard_rows: int,
    timing: Timing,
    listener: Listener,
) -> None:
    """Encode every chunk and publish the features. An interrupt publishes all features encoded so far."""
    keys = works[0].keys
    unread = iter(chunks)
    with ExitStack() as stack:
        writers = [stack.enter_context(store.writer(shard_rows)) for store in stores]
        while True:
            with timing.measure("read"):
                chunk = next(unread, None)
            if chunk is None:
                break
            for work, encoder, writer in zip(works, encoders, writers, strict=True):
                wanted = work.missing[chunk.numbers]
                if not wanted.any():
                    continue
                with timing.measure("encode"):
                    features = encoder.features(chunk, wanted)
                with timing.measure("write"):
                    writer.add(keys[chunk.numbers[wanted]], features)
            listener.advanced(len(chunk.numbers), timing)
        with timing.measure("write"):
            for writer in writers:
                writer.publish()


def _load(
    work: Work,
    options: ExtractionOptions,
    device: torch.device,
) -> Any:
    network = load_network(work.encoder).frozen(work.encoder.precision).to(device)
    if options.compiled:
        network.compile()
    return network


def _plan(
    works: Sequence[Work],
    networks: Sequence[Any],
    options: ExtractionOptions,
    device: torch.device,
) -> Plan:
    encoder = works[0].encoder
    if isinstance(encoder, ImageEncoder):
        return _plan_images(works, networks, options, device)
    if isinstance(encoder, Scorer):
        return _plan_pairs(works[0], encoder, networks[0], options, device)
    return _plan_texts(works[0], networks[0], options, device)


def _plan_images(
    works: Sequence[Work],
    networks: Sequence[Any],
    options: ExtractionOptions,
    device: torch.device,
) -> Plan:
    """Plan to read each image once for all encoders, and to preprocess it once per variant."""
    variant_of_work = list(map(_variant, works))
    variants = list(dict.fromkeys(variant_of_work))
    missing = np.zeros((len(variants), len(works[0].inputs)), bool)
    encoders = []
    for work, network, variant in zip(works, networks, variant_of_work, strict=True):
        number = variants.index(variant)
        missing[number] |= work.missing
        size = BatchSize(options.batch_size, device.type)
        encoders.append(ImageChunkEncoder(network, number, variant.crop_count, size, device))
    return image_chunks(works[0].inputs, missing, variants, options, device), encoders


def _variant(work: Work) -> ImageVariant:
    assert isinstance(work.encoder, ImageEncoder)
    return ImageVariant(work.encoder.preprocessing, work.encoder.crops)


def _plan_pairs(
    work: Work,
    scorer: Scorer,
    network: Any,
    options: ExtractionOptions,
    device: torch.device,
) -> Plan:
    size = BatchSize(options.batch_size, device.type)
    chunks = pair_chunks(work, scorer.preprocessing(network.side), options, device)
    return chunks, [PairChunkEncoder(work, network, options.text_batch_size, size, device)]


def _plan_texts(
    work: Work,
    network: Any,
    options: ExtractionOptions,
    device: torch.device,
) -> Plan:
    chunks = text_chunks(work, network, options)
    return chunks, [TextChunkEncoder(network, options.text_batch_size, device)]
