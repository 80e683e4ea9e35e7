"""Stage 1: every distinct input that a store does not hold yet is read, encoded and written, once.

This module decides what is to be done; `tier4k.extract.pipeline.loop`, and with it torch, is imported only where something is.
"""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.pipeline.allocator import keep_freed_memory
from tier4k.extract.pipeline.listener import Encoding, Listener, StreamSummary
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.work import Encoder, Work


def extract(
    manifest: Manifest,
    encoders: Sequence[Encoder],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
) -> list[StreamSummary]:
    """Encode what the stores under `root` do not hold yet: pictures and image prompts, text prompts, and pairs of both.

    Each picture is read and decoded once for all image encoders, and once for each scorer.

    Args:
        manifest: The data set.
        encoders: Each fills its own store; two of the same signature are one.
        root: Folder of stores.
        options: Batch sizes, device, workers.
        listener: Told of the progress.

    Raises:
        ExtractionError: The device is not there, or a picture changed since it was checked.
        WeightsError: The weights do not fit the network.
        StoreError: A store cannot be written.
    """
    distinct = {encoder.signature: encoder for encoder in encoders}.values()
    works = [Work.of(manifest, encoder, root, options.part) for encoder in distinct]
    pictures = [work for work in works if isinstance(work.encoder, ImageEncoder)]
    others = [[work] for work in works if not isinstance(work.encoder, ImageEncoder)]
    return [
        summary for together in (pictures, *others) for summary in _encode(together, root, options, listener)
    ]


def _encode(
    works: Sequence[Work], root: Path, options: ExtractionOptions, listener: Listener
) -> list[StreamSummary]:
    needed = [work for work in works if work.missing.any()]
    reports: list[Encoding] = []
    if needed:
        keep_freed_memory()
        from tier4k.extract.pipeline.loop import encode

        reports = encode(needed, root, options, listener)
    done = {work.encoder.signature: report for work, report in zip(needed, reports, strict=True)}
    return [_summary(work, root, done.get(work.encoder.signature)) for work in works]


def _summary(work: Work, root: Path, report: "Encoding | None") -> StreamSummary:
    signature = work.encoder.signature
    path, encoded = root / signature.folder_name, int(work.missing.sum())
    if report is None:
        return StreamSummary(signature.stream, signature.encoder, path, len(work.inputs), encoded)
    return StreamSummary(
        signature.stream, signature.encoder, path, len(work.inputs), encoded, report.batch_size, report.timing
    )
