"""Encoding of the missing inputs of encoders that read together: on one device, on several, or with Ray."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.pipeline.cut_units import cut_units
from tier4k.extract.pipeline.device import choose_devices
from tier4k.extract.pipeline.device_processes import device_processes
from tier4k.extract.pipeline.disk_space import PlannedRows, require_disk_space
from tier4k.extract.pipeline.listener import Encoding, Listener
from tier4k.extract.pipeline.loop import EncodingLoop
from tier4k.extract.pipeline.missing_inputs import Encoder, Work
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.unit_encoder import UnitEncoder
from tier4k.extract.pipeline.versions import library_versions


def encode_missing(
    works: Sequence[Work],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    record: Callable[[], object],
) -> list[Encoding]:
    """Encode missing inputs into stores under `root`.

    Stores and the record of the data set are written after the networks are loaded and probed, so that a
    wrong option leaves no store. They are written before the first input is encoded, as `store gc` keeps only
    stores that a record or a run uses.

    Args:
        works: Image encoders with equal inputs, or one text encoder, or one scorer.
        root: Folder of stores.
        options: Batch size, devices, workers.
        listener: Receives the progress.
        record: Writes the record of the data set.

    Returns:
        The outcome of each encoder. All outcomes have one timing.

    Raises:
        EncoderError: A text network fails its probe, or makes no token of a text; other processes cannot
            import an image encoder in code.
        ExtractionError: A device does not exist or has too little memory, an input is too small for a
            network, the process of a device ended, or Ray cannot continue.
        WeightsError: The weights do not fit a network.
        StoreError: A store cannot be written, or the disk has too little room.
        ShardError: Features contain NaN or infinity.
    """
    encoders = [work.encoder for work in works]
    devices = [] if options.ray else choose_devices(options.device)
    if len(devices) != 1:
        _require_importable(encoders)
    if options.ray:
        from tier4k.extract.pipeline.ray_engine import RayEngine

        engine = RayEngine(UnitEncoder, encoders, options.ray, options, listener)
        stores = _begin(works, engine.shapes, root, engine.notes, listener, record)
        return engine.run(works, stores, listener)
    if len(devices) == 1:
        encoder = UnitEncoder(encoders, devices[0], options)
        stores = _begin(works, encoder.shapes, root, encoder.notes, listener, record)
        loop = EncodingLoop(encoder, devices[0], options.shard_rows)
        return loop.run(cut_units(works, encoder.plan.unit_size), stores, listener.advanced)
    with device_processes(encoders, devices, options) as processes:
        stores = _begin(works, processes.shapes, root, processes.notes, listener, record)
        return processes.run(cut_units(works, processes.unit_size), stores, listener)


def _require_importable(encoders: Sequence[Encoder]) -> None:
    """Refuse image encoders in code that other processes cannot import."""
    for encoder in encoders:
        if isinstance(encoder, ImageEncoder) and encoder.function is not None:
            encoder.function.require_importable("several devices and Ray import it in other processes")


def _begin(
    works: Sequence[Work],
    shapes: Sequence[tuple[int, ...]],
    root: Path,
    notes: Sequence[str],
    listener: Listener,
    record: Callable[[], object],
) -> list[FeatureStore]:
    """Report what will be written, require room for it, create the stores, and write the record."""
    planned = [
        PlannedRows(work.encoder.signature, int(work.missing.sum()), shape)
        for work, shape in zip(works, shapes, strict=True)
    ]
    for note in (*notes, *map(str, planned)):
        listener.noted(note)
    require_disk_space(root, planned)
    stores = [FeatureStore.create(root, work.encoder.signature, library_versions()) for work in works]
    record()
    missing = np.logical_or.reduce([work.missing for work in works])
    listener.started(works[0].encoder.signature.stream, int(missing.sum()))
    return stores
