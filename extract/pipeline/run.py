"""Stage 1: every distinct input that a store does not contain yet is read, encoded and written once.

This module finds the missing inputs. `tier4k.extract.pipeline.encode_missing`, and with it torch, is imported
only if an input is missing.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import remove_dead
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.token_report import report_tokens
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.inputs import Pairs
from tier4k.extract.inputs.record import write_record
from tier4k.extract.pipeline.extraction_file import write_extraction
from tier4k.extract.pipeline.listener import Encoding, Listener, StreamSummary
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice, Work
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.seen_images import record_seen_images
from tier4k.extract.scorers.called import CalledScorer

EVERY_INPUT = InputChoice()

REPORTED_PROMPTS = 100_000  # the first ones, whose tokens are reported before the work begins


def extract(
    dataset: DatasetInputs,
    encoders: Sequence[Encoder],
    root: Path,
    options: ExtractionOptions,
    listener: Listener,
    *,
    choice: InputChoice = EVERY_INPUT,
    data: Sequence[str] = (),
    command: Sequence[str] = (),
) -> list[StreamSummary]:
    """Encode images, image prompts, texts and pairs that the stores under `root` do not contain yet.

    Each image is read and decoded once for all image encoders, and once for each scorer. Images that cannot
    be read, or changed since they were checked, are left out and listed in the summaries. The images that
    finetuned weights have seen are recorded first. The listener is warned of what a tokenizer loses of the
    data set's prompts if its encoder or scorer has inputs to encode. The record of the data set, which
    `store gc` and `store ls` read, is written before the first input is encoded and again at the end.
    `extract.json` is written at the end, if an input was encoded.

    Args:
        dataset: The inputs of the data set.
        encoders: Image encoders, text encoders and scorers. Each fills its own store; of encoders with equal
            signatures only one is used.
        root: Folder of stores.
        options: Batch sizes, device, workers.
        listener: Receives the progress.
        choice: The inputs that are encoded.
        data: The data sets as the user named them, for extract.json; empty uses the folder of the data set.
        command: The command line, for extract.json.

    Returns:
        One summary for each distinct encoder: image encoders first.

    Raises:
        EncoderError: A text network fails its probe, or makes no token of a text.
        ExtractionError: A device does not exist or has too little memory, an input is too small for a
            network, there is no image to encode, the process of a device ended, or Ray cannot continue.
        WeightsError: The weights do not fit a network.
        StoreError: A store cannot be written, or the disk has too little room.
        ShardError: Features contain NaN or infinity.
    """
    distinct = {encoder.signature: encoder for encoder in encoders}.values()
    works = [Work.of(dataset, encoder, root, options.part, choice) for encoder in distinct]
    remove_dead(root)
    for encoder in distinct:
        record_seen_images(root, encoder.weights)
    for work in works:
        _warn_about_prompts(work, dataset, listener)
    pairs = next((work.inputs for work in works if isinstance(work.inputs, Pairs)), None)
    record = partial(write_record, root, dataset, choice.template_texts, pairs)
    summaries: list[StreamSummary] = []
    with _session(works, options):
        for group in _groups(works):
            summaries += _extract_group(group, root, options, listener, record)
    record()
    if any(summary.encoded for summary in summaries):
        write_extraction(root, data or [dataset.data], command, options, summaries)
    return summaries


def _session(works: Sequence[Work], options: ExtractionOptions) -> AbstractContextManager[None]:
    """Return a context in which all groups of works use one connection to Ray, if one of them needs it."""
    if not options.ray or not any(work.missing.any() for work in works):
        return nullcontext()
    from tier4k.extract.pipeline.ray_session import ray_session

    return ray_session(options.ray)


def _warn_about_prompts(
    work: Work,
    dataset: DatasetInputs,
    listener: Listener,
) -> None:
    """Report what the tokenizer of an encoder with missing inputs loses of the data set's prompts."""
    if isinstance(work.encoder, ImageEncoder | CalledScorer) or not work.missing.any():
        return
    from tier4k.extract.pipeline.load import load_tokenizer

    signature = work.encoder.signature
    first = np.arange(min(len(dataset.prompts), REPORTED_PROMPTS))
    report = report_tokens(load_tokenizer(work.encoder), dataset.prompts.texts(first))
    rest = f" (of the first {REPORTED_PROMPTS:,} prompts)" if len(dataset.prompts) > len(first) else ""
    for finding in report.findings.values():
        if finding:
            listener.warned(f"{signature.stream} {signature.encoder}: {finding}{rest}")


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
    record: Callable[[], object],
) -> list[StreamSummary]:
    unfinished_works = [work for work in works if work.missing.any()]
    encodings: list[Encoding] = []
    if unfinished_works:
        from tier4k.extract.pipeline.encode_missing import encode_missing

        encodings = encode_missing(unfinished_works, root, options, listener, record)
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
        encoded=encoding.encoded,
        batch_size=encoding.batch_size,
        timing=encoding.timing,
        unreadable=encoding.unreadable,
        failed=encoding.failed,
    )
