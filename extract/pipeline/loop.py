"""Read, encode, write: chunks of prepared inputs go through networks, and their features into stores."""

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
from tier4k.extract.pipeline.encode import ImageStep, _PairStep, _Step, _TextStep
from tier4k.extract.pipeline.listener import Encoding, Listener, Timing
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.read import _pair_chunks, _picture_chunks, _text_chunks
from tier4k.extract.pipeline.versions import library_versions
from tier4k.extract.pipeline.work import Work
from tier4k.extract.scorers.scorer import Scorer


def encode(
    works: Sequence[Work], root: Path, options: ExtractionOptions, listener: Listener
) -> list[Encoding]:
    """Encode what is missing into stores under `root`, which are made once the networks are loaded and nothing else can be wrong.

    Args:
        works: Encoders of pictures with the same inputs, or one encoder of texts, or one scorer.
        root: Folder of stores.
        options: Batch size, device, workers.
        listener: Told of the progress.

    Returns:
        For each encoder how it went; they share one timing.

    Raises:
        ExtractionError: The device is not there or has too little memory, or a picture changed since it was checked.
    """
    device = choose_device(options.device)
    networks = [_network(work, options, device) for work in works]
    stores = [FeatureStore.create(root, work.encoder.signature, library_versions()) for work in works]
    if isinstance(works[0].encoder, ImageEncoder):
        sources = [
            (work.encoder.preprocessing, work.encoder.crops)
            for work in works
            if isinstance(work.encoder, ImageEncoder)
        ]
        distinct = list(dict.fromkeys(sources))
        missing = [
            np.logical_or.reduce([w.missing for w, its in zip(works, sources, strict=True) if its == one])
            for one in distinct
        ]
        chunks: Iterable[Chunk] = _picture_chunks(
            works[0].inputs, np.array(missing), distinct, options, device
        )
        steps: list[_Step] = [
            ImageStep(
                network,
                distinct.index(source),
                1 + source[1].count,
                BatchSize(options.batch_size, device.type),
                device,
            )
            for network, source in zip(networks, sources, strict=True)
        ]
    elif isinstance(works[0].encoder, Scorer):
        chunks = _pair_chunks(works[0], works[0].encoder.preprocessing(networks[0].side), options, device)
        steps = [
            _PairStep(
                works[0],
                networks[0],
                options.text_batch_size,
                BatchSize(options.batch_size, device.type),
                device,
            )
        ]
    else:
        chunks = _text_chunks(works[0], networks[0], options)
        steps = [_TextStep(networks[0], options.text_batch_size, device)]
    timing = Timing()
    any_missing = np.logical_or.reduce([work.missing for work in works])
    listener.started(works[0].encoder.signature.stream, int(any_missing.sum()))
    _run(works, steps, stores, chunks, options.shard_rows, timing, listener)
    return [Encoding(step.batch_size, timing) for step in steps]


def _network(work: Work, options: ExtractionOptions, device: torch.device) -> Any:
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32: the device is not in the signature
    network = load_network(work.encoder).frozen(work.encoder.precision).to(device)
    if options.compiled:
        network.compile()
    return network


def _run(
    works: Sequence[Work],
    steps: Sequence["_Step"],
    stores: Sequence[FeatureStore],
    chunks: Iterable["Chunk"],
    shard_rows: int,
    timing: Timing,
    listener: Listener,
) -> None:
    """Run every chunk through the networks and publish the features; the rows in hand are published even when it is interrupted."""
    keys = works[0].keys
    source = iter(chunks)
    with ExitStack() as stack, torch.inference_mode():
        writers = [stack.enter_context(store.writer(shard_rows)) for store in stores]
        while True:
            with timing.measure("read"):
                chunk = next(source, None)
            if chunk is None:
                break
            for work, step, writer in zip(works, steps, writers, strict=True):
                wanted = work.missing[chunk.numbers]
                if wanted.any():
                    with timing.measure("encode"):
                        features = step.features(chunk, wanted)
                    with timing.measure("write"):
                        writer.add(keys[chunk.numbers[wanted]], features)
            listener.advanced(len(chunk.numbers), timing)
        with timing.measure("write"):
            for writer in writers:
                writer.publish()
