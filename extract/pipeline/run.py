"""Stage 1: every distinct input that a store does not contain yet is read, encoded and written once.

This module finds the missing inputs. `tier4k.extract.pipeline.loop`, and with it torch, is imported only if
an input is missing.
"""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.token_report import report_tokens
from tier4k.extract.pipeline.listener import Encoding, Listener, StreamSummary
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice, Work
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.records import DatasetRecord, write_extraction
from tier4k.extract.pipeline.seen_images import record_seen_images

EVERY_INPUT = InputChoice()


def extract(
    manifest: Manifest,
    encoders: Sequence[Encoder],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    *,
    choice: InputChoice = EVERY_INPUT,
    data: Sequence[Path] = (),
    command: Sequence[str] = (),
) -> list[StreamSummary]:
    """Encode images, image prompts, texts and pairs that the stores under `root` do not contain yet.

    Each image is read and decoded once for all image encoders, and once for each scorer. The images that
    finetuned weights have seen are recorded first. The listener is warned of what a tokenizer loses of the
    data set's prompts if its encoder or scorer has inputs to encode. The record of the data set, which
    `store gc` and `store ls` read, is written before the first input is encoded and again at the end.
    `extract.json` is written at the end, if an input was encoded.

    Args:
        manifest: The data set.
        encoders: Image encoders, text encoders and scorers. Each fills its own store; of encoders with equal
            signatures only one is used.
        root: Folder of stores.
        options: Batch sizes, device, workers.
        listener: Receives the progress.
        choice: The inputs that are encoded.
        data: The data sets as the user named them, for extract.json; empty uses the folder of the manifest.
        command: The command line, for extract.json.

    Returns:
        One summary for each distinct encoder: image encoders first.

    Raises:
        ExtractionError: The device does not exist, an image changed since it was checked, or there is no
            image to encode.
        WeightsError: The weights do not fit the network.
        StoreError: A store cannot be written.
    """
    distinct = {encoder.signature: encoder for encoder in encoders}.values()
    works = [Work.of(manifest, encoder, root, options.part, choice) for encoder in distinct]
    for encoder in distinct:
        record_seen_images(root, encoder.weights)
    for work in works:
        _warn_about_prompts(work, manifest, listener)
    record = DatasetRecord.of(manifest, choice.template_texts)
    summaries: list[StreamSummary] = []
    for group in _groups(works):
        summaries += _extract_group(group, root, options, listener, record)
    record.write(root)
    if any(summary.encoded for summary in summaries):
        write_extraction(root, data or [manifest.data], command, options, summaries)
    return summaries


def _warn_about_prompts(
    work: Work,
    manifest: Manifest,
    listener: Listener,
) -> None:
    """Report what the tokenizer of an encoder with missing inputs loses of the data set's prompts."""
    if isinstance(work.encoder, ImageEncoder) or not work.missing.any():
        return
    from tier4k.extract.pipeline.load import load_tokenizer

    signature = work.encoder.signature
    report = report_tokens(load_tokenizer(work.encoder), manifest.prompts().tolist())
    for finding in report.findings.values():
        if finding:
            listener.warned(f"{signature.stream} {signature.encoder}: {finding}")


def _groups(works: Sequence[Work]) -> list[list[Work]]:
    """Return groups of works whose inputs are read together: all image encoders; then each other encoder."""
    image_works: list[Work] = []
    single_works: list[list[Work]] = []
    for work in works:
        if isinstance(work.encoder, ImageEncoder):
            image_works.append(work)
        else:
            single_works.append([work])
    return [image_works, *single_works]


def _extract_group(
    works: Sequence[Work],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    record: DatasetRecord,
) -> list[StreamSummary]:
    unfinished_works = [work for work in works if work.missing.any()]
    encodings: list[Encoding] = []
    if unfinished_works:
        from tier4k.extract.pipeline.loop import encode

        encodings = encode(unfinished_works, root, options, listener, record)
    encoding_of = {}
    for work, encoding in zip(unfinished_works, encodings, strict=True):
        encoding_of[work.encoder.signature] = encoding
    return [_summary(work, root, encoding_of.get(work.encoder.signature)) for work in works]


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
