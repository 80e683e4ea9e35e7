"""Read, encode, write: batches of prepared inputs go through a network, and their features into a store."""

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cache.errors import TierError
from cache.keys import bytes_key, key_array
from cache.store import FeatureStore
from extract.encoders import ImageEncoder, TextEncoder, library_versions
from extract.networks import TextNetwork, TokenBatch
from extract.pictures import PictureError, Preparation, decode, read_bytes
from extract.run import ExtractionOptions, Listener, Timing


class ExtractionError(TierError):
    """Encoding could not go on."""


def choose_device(name: str) -> torch.device:
    """The torch device `name`; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ExtractionError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise ExtractionError(f"the device {name!r} cannot be used ({why}): choose auto, cpu, cuda or cuda:N") from None


def encode_pictures(
    encoder: ImageEncoder, pictures: pd.Series, root: Path, options: ExtractionOptions, timing: Timing, listener: Listener
) -> None:
    """Encode pictures into their store under `root`, which is made once the network is loaded and nothing else can be wrong.

    Args:
        encoder: Loaded here.
        pictures: Paths, indexed by key in hexadecimal.
        root: Folder of stores.
        options: Batch size, device, workers.
        timing: Filled as the work goes on.
        listener: Told of the progress.

    Raises:
        ExtractionError: The device is not there, or a picture changed since it was checked.
    """
    network = encoder.load().to(choose_device(options.device))
    store = FeatureStore.create(root, encoder.signature, library_versions())
    listener.started("image", len(pictures))
    _encode(_picture_batches(pictures, encoder.preparation, options), network, store, options.shard_rows, timing, listener)


def encode_texts(
    encoder: TextEncoder, texts: pd.Series, root: Path, options: ExtractionOptions, timing: Timing, listener: Listener
) -> None:
    """Encode texts, indexed by key in hexadecimal. The other arguments are those of `encode_pictures`."""
    network = encoder.load().to(choose_device(options.device))
    store = FeatureStore.create(root, encoder.signature, library_versions())
    listener.started("text", len(texts))
    _encode(_text_batches(texts, network, options), network, store, options.shard_rows, timing, listener)


Batch = tuple[np.ndarray, Tensor | TokenBatch]


def _encode(batches: Iterable[Batch], network: nn.Module, store: FeatureStore, shard_rows: int, timing: Timing, listener: Listener) -> None:
    """Run every batch through the network and publish the features; the rows in hand are published even when it is interrupted."""
    device = next(network.parameters()).device
    source = iter(batches)
    with store.writer(shard_rows) as writer, torch.inference_mode():
        while True:
            with timing.measure("read"):
                batch = next(source, None)
            if batch is None:
                break
            keys, prepared = batch
            with timing.measure("encode"):
                features = network(prepared.to(device)).float().cpu().numpy()
            with timing.measure("write"):
                writer.add(keys, features)
            listener.advanced(len(keys), timing)
        with timing.measure("write"):
            writer.publish()


Prepared = tuple[Tensor, Tensor]


class PictureDataset(Dataset[Prepared | ExtractionError]):
    """Reads, checks, decodes and prepares pictures: item i is (key (32,) uint8, prepared (3, H, W) uint8).

    A picture that fails is an item too, the error itself: torch would wrap an exception of a worker in its traceback.
    """

    def __init__(self, pictures: pd.Series, preparation: Preparation) -> None:
        self._keys = [bytes.fromhex(key) for key in pictures.index]
        self._paths = list(pictures)
        self._transform = preparation.transform()

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> Prepared | ExtractionError:
        path, key = self._paths[number], self._keys[number]
        try:
            data = read_bytes(Path(path))
            # The features are stored under this key: they must be of these very bytes.
            if bytes_key(data) != key:
                raise PictureError("changed while the extraction ran")
            picture = decode(data)
        except PictureError as error:
            return ExtractionError(f"{path}: {error}; what was encoded before is kept, run the same command again")
        return torch.frombuffer(bytearray(key), dtype=torch.uint8), self._transform(picture)


def _picture_batches(pictures: pd.Series, preparation: Preparation, options: ExtractionOptions) -> Iterator[Batch]:
    loader = DataLoader(
        PictureDataset(pictures, preparation),
        batch_size=options.batch_size,
        num_workers=min(options.workers, -(-len(pictures) // options.batch_size)),
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_collate,
    )
    for batch in loader:
        if isinstance(batch, ExtractionError):
            raise batch
        keys, prepared = batch
        yield keys.numpy(), prepared


def _collate(items: list[Prepared | ExtractionError]) -> Prepared | ExtractionError:
    good: list[Prepared] = []
    for item in items:
        if isinstance(item, ExtractionError):
            return item
        good.append(item)
    keys, pictures = zip(*good, strict=True)
    return torch.stack(keys), torch.stack(pictures)


def _leave_interrupts_to_the_parent(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _text_batches(texts: pd.Series, network: TextNetwork, options: ExtractionOptions) -> Iterator[Batch]:
    # Sorted by length, so that short texts are not padded to a long one.
    order = np.argsort(network.token_counts(texts.tolist()), kind="stable")
    for start in range(0, len(order), options.text_batch_size):
        part = texts.iloc[order[start : start + options.text_batch_size]]
        yield key_array(map(bytes.fromhex, part.index)), network.tokenize(part.tolist())
