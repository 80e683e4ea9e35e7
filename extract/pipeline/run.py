"""Stage 1: every distinct input that a store does not hold yet is read, encoded and written, once.

This module decides what is missing. `tier4k.extract.pipeline.loop`, and with it torch, is imported only where
something is.
"""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.pipeline.listener import Encoding, Listener, StreamSummary
from tier4k.extract.pipeline.missing_inputs import Encoder, Work
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.records import DatasetRecord, write_extraction


def extract(
    manifest: Manifest,
    encoders: Sequence[Encoder],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    *,
    data: Path | None = None,
    command: Sequence[str] = (),
) -> list[StreamSummary]:
    """Encode the images, image prompts, text prompts and pairs that the stores under `root` do not hold yet.

    Each image is read and decoded once for all image encoders, and once for each scorer. The record of the
    data set, which `store gc` and `store ls` read, is written before the first input is encoded and at the
    end; `extract.json` at the end, if anything was encoded.

    Args:
        manifest: The data set.
        encoders: Each fills its own store; encoders of equal signatures are one.
        root: Folder of stores.
        options: Batch sizes, device, workers.
        listener: Receives the progress.
        data: The data set as the user named it, for extract.json; None is its folder.
        command: The command line, for extract.json.

    Returns:
        One summary for each distinct encoder: image encoders first.

    Raises:
        ExtractionError: The device does not exist, or an image changed since it was checked.
        WeightsError: The weights do not fit the network.
        StoreError: A store cannot be written.
    """
    distinct = {encoder.signature: encoder for encoder in encoders}.values()
    works = [Work.of(manifest, encoder, root, options.part) for encoder in distinct]
    record = DatasetRecord.of(manifest)
    summaries: list[StreamSummary] = []
    for group in _groups(works):
        summaries += _extract_group(group, root, options, listener, record)
    record.write(root)
    if sum(summary.encoded for summary in summaries):
        write_extraction(root, data or manifest.data, command, options, summaries)
    return summaries


def _groups(works: Sequence[Work]) -> list[list[Work]]:
    """Return the works whose inputs are read together: all image encoders, and every other encoder alone."""
    images: list[Work] = []
    others: list[list[Work]] = []
    for work in works:
        if isinstance(work.encoder, ImageEncoder):
            images.append(work)
        else:
            others.append([work])
    return [images, *others]


def _extract_group(
    works: Sequence[Work],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    record: DatasetRecord,
) -> list[StreamSummary]:
    needed = [work for work in works if work.missing.any()]
    encodings: list[Encoding] = []
    if needed:
        from tier4k.extract.pipeline.loop import encode

        encodings = encode(needed, root, options, listener, record)
    done = {}
    for work, encoding in zip(needed, encodings, strict=True):
        done[work.encoder.signature] = encoding
    return [_summary(work, root, done.get(work.encoder.signature)) for work in works]


def _summary(
    work: Work,
    root: Path,
    encoding: Encoding | None,
) -> StreamSummary:
    signature = work.encoder.signature
    store = root / signature.folder_name
    inputs = len(work.inputs)
    if encoding is None:
        return StreamSummary(signature.stream, signature.encoder, store, inputs, encoded=0)
    return StreamSummary(
        signature.stream,
        signature.encoder,
        store,
        inputs,
        encoded=int(work.missing.sum()),
        batch_size=encoding.batch_size,
        timing=encoding.timing,
    )
