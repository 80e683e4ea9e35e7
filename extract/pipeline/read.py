"""Read: inputs are decoded, preprocessed and collected into chunks."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tier4k.cache.keys import bytes_key
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.crops import CENTRE_CROP, Crops, RandomCrops
from tier4k.extract.images.decode import ImageError, decode, read_bytes
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.pipeline.chunks import Chunk, SentChunk, by_shape
from tier4k.extract.pipeline.device import PICTURES_PER_CHUNK
from tier4k.extract.pipeline.handover import possible_workers
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.work import Work

CHUNK_BYTES = 2**26  # of prepared pictures that are read together; some of these wait for every worker

USUAL_SIDE = 1024  # of pictures read at their own size, as far as memory is planned

Source = tuple[Preprocessing, Crops]

Prepared = tuple[int, list[list[Tensor]]]


class ImageDataset(Dataset[Prepared | ExtractionError]):
    """Reads, checks and decodes pictures, once each, and prepares them for every source that misses them.

    Item i is (its number, for each source the views (3, H, W) uint8, none where the picture is not missed there).
    A picture that fails is an item too, the error itself: torch would wrap an exception of a worker in its traceback.
    """

    def __init__(self, pictures: pd.Series, missing: np.ndarray, sources: Sequence[Source]) -> None:
        self._keys = [bytes.fromhex(key) for key in pictures.index]
        self._paths = list(pictures)
        self._missing = missing  # (S, N) bool
        self._numbers = np.flatnonzero(missing.any(axis=0))
        self._prepare = [Preparing(*source) for source in sources]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, position: int) -> Prepared | ExtractionError:
        number = int(self._numbers[position])
        path, key = self._paths[number], self._keys[number]
        try:
            data = read_bytes(Path(path))
            # The features are stored under this key: they must be of these very bytes.
            if bytes_key(data) != key:
                raise ImageError("changed while the extraction ran")
            picture = decode(data)
        except ImageError as error:
            return ExtractionError(
                f"{path}: {error}; what was encoded before is kept, run the same command again"
            )
        return number, [
            preprocessing(picture, key) if self._missing[source, number] else []
            for source, preprocessing in enumerate(self._prepare)
        ]


class Preparing:
    """From an RGB picture and its key to its views, the centre first. A class, as it travels to worker processes."""

    def __init__(self, preprocessing: Preprocessing, crops: Crops) -> None:
        self._centre, self._others = preprocessing.transform(), RandomCrops(preprocessing, crops)

    def __call__(self, picture: Image.Image, key: bytes) -> list[Tensor]:
        return [self._centre(picture), *self._others(picture, key)]


def _picture_chunks(
    pictures: pd.Series,
    missing: np.ndarray,
    sources: Sequence[Source],
    options: ExtractionOptions,
    device: torch.device,
) -> Iterator[Chunk]:
    """Chunks of pictures, each prepared for every source that misses it, as (S, N) `missing` says."""
    dataset = ImageDataset(pictures, missing, sources)
    together = options.batch_size or min(
        PICTURES_PER_CHUNK[device.type], max(CHUNK_BYTES // sum(map(_picture_bytes, sources)), 1)
    )
    workers = possible_workers(min(options.workers, -(-len(dataset) // together)))
    loader = DataLoader(
        dataset,
        batch_size=together,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_collate_and_send if workers else _collate,
    )
    for chunk in loader:
        if isinstance(chunk, ExtractionError):
            raise chunk
        yield chunk.received() if isinstance(chunk, SentChunk) else chunk


def _picture_bytes(source: Source) -> int:
    """Of one prepared picture with its views, roughly."""
    preprocessing, crops = source
    return 3 * (preprocessing.size or preprocessing.resize or USUAL_SIDE) ** 2 * (1 + crops.count)


def _collate(items: list[Prepared | ExtractionError]) -> Chunk | ExtractionError:
    good: list[Prepared] = []
    for item in items:
        if isinstance(item, ExtractionError):
            return item
        good.append(item)
    samples = tuple(by_shape([crops[source] for _, crops in good]) for source in range(len(good[0][1])))
    return Chunk(np.array([number for number, _ in good]), samples)


def _collate_and_send(items: list[Prepared | ExtractionError]) -> SentChunk | ExtractionError:
    chunk = _collate(items)
    if isinstance(chunk, ExtractionError):
        return chunk
    try:
        return SentChunk(chunk)
    except OSError as error:
        what = f"reading processes have no room for their pictures ({error.strerror or error})"
        return ExtractionError(f"{what}: free memory, or extract with --workers 0")


def _leave_interrupts_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _text_chunks(work: Work, network: TextNetwork, options: ExtractionOptions) -> Iterator[Chunk]:
    # Sorted by length, so that short texts are not padded to a long one.
    numbers = np.flatnonzero(work.missing)
    numbers = numbers[np.argsort(network.token_counts(work.inputs.iloc[numbers].tolist()), kind="stable")]
    for start in range(0, len(numbers), options.text_batch_size):
        part = numbers[start : start + options.text_batch_size]
        yield Chunk(part, tokens=network.tokenize(work.inputs.iloc[part].tolist()))


def _pair_chunks(
    work: Work, preprocessing: Preprocessing, options: ExtractionOptions, device: torch.device
) -> Iterator[Chunk]:
    """Chunks of pictures with all the pairs that each is missing in."""
    numbers = np.flatnonzero(work.missing)
    owner, _ = pd.factorize(work.inputs["image_key"].iloc[numbers])
    pictures = work.inputs.iloc[numbers].drop_duplicates("image_key").set_index("image_key")["image"]
    numbers = numbers[np.argsort(owner, kind="stable")]
    pairs = np.split(numbers, np.cumsum(np.bincount(owner))[:-1])
    for chunk in _picture_chunks(
        pictures, np.ones((1, len(pictures)), bool), [(preprocessing, CENTRE_CROP)], options, device
    ):
        own = [pairs[picture] for picture in chunk.numbers]
        yield replace(
            chunk, numbers=np.concatenate(own), picture=np.repeat(np.arange(len(own)), list(map(len, own)))
        )
