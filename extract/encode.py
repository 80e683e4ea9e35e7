"""Read, encode, write: chunks of prepared inputs go through networks, and their features into stores."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cache.errors import TierError
from cache.keys import bytes_key
from cache.store import FeatureStore
from extract.encoders import ImageEncoder, library_versions
from extract.networks import ImageNetwork, TextNetwork, TokenBatch
from extract.pictures import CENTRE_ONLY, PictureError, Preparation, RandomViews, Views, decode, read_bytes
from extract.run import Encoding, ExtractionOptions, Listener, Timing, Work
from extract.scorers import Scorer

if TYPE_CHECKING:
    from extract.pair_networks import PairNetwork

PICTURES_PER_CHUNK = {"cpu": 32, "cuda": 256, "mps": 64}
FIRST_BATCH = {"cpu": 4, "cuda": 32, "mps": 8}
TOO_SMALL = ("Kernel size can't be greater than actual input size", "Output size is too small")  # in torch's words
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "MPS backend out of memory")  # of the CPU and of Apple's GPU
CHUNK_BYTES = 2**26  # of prepared pictures that are read together; some of these wait for every worker
USUAL_SIDE = 1024  # of pictures read at their own size, as far as memory is planned
WORTHWHILE = 1.05  # a doubled batch that is not at least this much faster only costs memory


class ExtractionError(TierError):
    """Encoding could not go on."""


def choose_device(name: str) -> torch.device:
    """The torch device `name`; "auto" is CUDA where there is one, else Apple's GPU, else the CPU.

    Raises:
        ExtractionError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.empty(0, device=name).device
        if device.type in PICTURES_PER_CHUNK:
            return device
        why = f"nothing is encoded on {device.type!r}"
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
    raise ExtractionError(f"the device {name!r} cannot be used ({why}): choose auto, cpu, cuda, cuda:N or mps") from None


def encode(works: Sequence[Work], root: Path, options: ExtractionOptions, listener: Listener) -> list[Encoding]:
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
        sources = [(work.encoder.preparation, work.encoder.views) for work in works if isinstance(work.encoder, ImageEncoder)]
        distinct = list(dict.fromkeys(sources))
        missing = [np.logical_or.reduce([w.missing for w, its in zip(works, sources, strict=True) if its == one]) for one in distinct]
        chunks: Iterable[Chunk] = _picture_chunks(works[0].inputs, np.array(missing), distinct, options, device)
        steps: list[_Step] = [
            PictureStep(network, distinct.index(source), 1 + source[1].count, BatchSize(options.batch_size, device.type), device)
            for network, source in zip(networks, sources, strict=True)
        ]
    elif isinstance(works[0].encoder, Scorer):
        chunks = _pair_chunks(works[0], works[0].encoder.preparation(networks[0].side), options, device)
        steps = [_PairStep(works[0], networks[0], options.text_batch_size, BatchSize(options.batch_size, device.type), device)]
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
    network = work.encoder.load().frozen(work.encoder.precision).to(device)
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


@dataclass(frozen=True)
class Samples:
    """Prepared views of one shape.

    Attributes:
        row: (n,) number within the chunk of the picture of each view.
        view: (n,) number of the view, 0 being the centre.
        pictures: (n, 3, H, W) uint8.
    """

    row: np.ndarray
    view: np.ndarray
    pictures: Tensor


@dataclass(frozen=True)
class Chunk:
    """Inputs that are read together.

    Attributes:
        numbers: (C,) their numbers among all distinct inputs.
        samples: Of pictures: for each source, a preparation with its views, the prepared views by shape.
        tokens: Of texts: their token numbers.
        picture: Of pairs: (C,) row of each pair's picture among the samples, rising.
    """

    numbers: np.ndarray
    samples: tuple[tuple[Samples, ...], ...] = ()
    tokens: TokenBatch | None = None
    picture: np.ndarray | None = None

    def pin_memory(self) -> "Chunk":
        """The same in pinned memory, from which a GPU copies while other work goes on; torch's DataLoader calls this."""
        samples = tuple(tuple(Samples(one.row, one.view, one.pictures.pin_memory()) for one in source) for source in self.samples)
        return Chunk(self.numbers, samples)


class BatchSize:
    """How many views go through a network at once: as given, or the fastest, found by doubling while the work goes on."""

    def __init__(self, given: int | None, device: str) -> None:
        self.current = given or FIRST_BATCH[device]
        self._settled = given is not None
        self._most = PICTURES_PER_CHUNK[device]
        self._rate = 0.0
        self._warm = False

    def measured(self, pixels: int, seconds: float) -> None:
        """Learn that chunks are encoded at this speed. The first chunk of every size is not counted, in which libraries set up."""
        if self._settled:
            return
        if not self._warm:
            self._warm = True
            return
        rate, before = pixels / seconds, self._rate
        if rate < WORTHWHILE * before:
            self.current //= 2
            self._settled = True
        elif self.current >= self._most:
            self._settled = True
        else:
            self.current, self._rate, self._warm = self.current * 2, rate, False

    def halve(self) -> None:
        """Go on with half as many, for good: the memory was too small.

        Raises:
            ExtractionError: There is nothing left to halve.
        """
        if self.current == 1:
            raise ExtractionError("the device has too little memory for a single picture: use --device cpu, or a smaller --image-size")
        self.current, self._settled = self.current // 2, True

    def through(self, count: int, encode: Callable[[slice], Tensor]) -> Tensor:
        """What `encode` makes of `count` pictures, batch by batch; a batch that is too large for the memory is halved.

        Args:
            count: How many pictures there are.
            encode: From the place of a batch to what it becomes.
        """
        done: list[Tensor] = []
        start = 0
        while start < count:
            place = slice(start, min(start + self.current, count))
            if (encoded := _unless_out_of_memory(encode, place)) is not None:
                done.append(encoded)
                start = place.stop
            else:
                self.halve()
                torch.cuda.empty_cache()
        return torch.cat(done)


def _unless_out_of_memory(encode: Callable[[slice], Tensor], place: slice) -> Tensor | None:
    """What a batch becomes; None where the memory is too small. Outside, the error no longer holds the maps that filled it."""
    try:
        return encode(place)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
            return None
        raise


class _Step(Protocol):
    """Makes features of chunks of inputs."""

    @property
    def batch_size(self) -> int:
        """How many inputs go through the network at once, by now."""

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Features (n, ...) of the n wanted (C,) inputs of a chunk."""


class PictureStep:
    """Encodes the pictures of a chunk with one network."""

    def __init__(self, network: ImageNetwork, source: int, views: int, size: BatchSize, device: torch.device) -> None:
        self._network, self._source, self._views, self._size, self._device = network, source, views, size, device

    @property
    def batch_size(self) -> int:
        return self._size.current

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Features (n, D) of the n wanted pictures of a chunk, (n, V, D) where there are V > 1 views."""
        place = np.cumsum(wanted) - 1
        out: np.ndarray | None = None
        start, pixels = time.perf_counter(), 0
        for one in chunk.samples[self._source]:
            keep = wanted[one.row]
            pictures = one.pictures if keep.all() else one.pictures[torch.from_numpy(keep)]
            if not len(pictures):
                continue
            encoded = self._encode(pictures).numpy()
            out = np.empty((int(wanted.sum()), self._views, encoded.shape[1]), encoded.dtype) if out is None else out
            out[place[one.row[keep]], one.view[keep]] = encoded
            pixels += pictures[:, 0].numel()
        assert out is not None
        self._size.measured(pixels, time.perf_counter() - start)
        return out[:, 0] if self._views == 1 else out

    def _encode(self, pictures: Tensor) -> Tensor:
        """Features (n, D) of prepared pictures (n, 3, H, W), batch by batch."""
        return self._size.through(len(pictures), lambda at: _through(self._network, pictures[at].to(self._device, non_blocking=True))).cpu()


class _PairStep:
    """Scores the pairs of a chunk, all of them missing. Each picture is encoded once, and each text when it is first met."""

    def __init__(self, work: Work, network: "PairNetwork", text_batch_size: int, size: BatchSize, device: torch.device) -> None:
        self._network, self._text_batch_size, self._size, self._device = network, text_batch_size, size, device
        self._prompt_of, prompts = pd.factorize(work.inputs["prompt"])
        self._prompts: list[str] = prompts.tolist()
        self._encoded: dict[int, Tensor] = {}

    @property
    def batch_size(self) -> int:
        return self._size.current

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Scores (n, 1) of the pairs."""
        assert chunk.picture is not None
        assert wanted.all()
        (samples,) = chunk.samples[0]  # every picture has the network's shape
        start = time.perf_counter()
        texts, owner = self._texts(self._prompt_of[chunk.numbers]), chunk.picture

        def score(place: slice) -> Tensor:
            pictures = self._network.encode_pictures(samples.pictures[place].to(self._device, non_blocking=True))
            pairs = range(*np.searchsorted(owner, (place.start, place.stop)))
            parts = [pairs[at : at + self._size.current] for at in range(0, len(pairs), self._size.current)]
            return torch.cat([self._network.score(pictures[owner[part] - place.start], texts[part]) for part in parts])

        scores = self._size.through(len(samples.pictures), score).cpu().numpy()
        self._size.measured(samples.pictures[:, 0].numel(), time.perf_counter() - start)
        return scores[:, None]

    def _texts(self, numbers: np.ndarray) -> Tensor:
        """Texts (n, ...) of these numbers, encoded."""
        new = [number for number in dict.fromkeys(numbers.tolist()) if number not in self._encoded]
        for start in range(0, len(new), self._text_batch_size):
            part = new[start : start + self._text_batch_size]
            encoded = self._network.encode_texts([self._prompts[number] for number in part])
            self._encoded |= dict(zip(part, encoded, strict=True))
        return torch.stack([self._encoded[number] for number in numbers.tolist()])


class _TextStep:
    """Encodes the texts of a chunk, all of them missing."""

    def __init__(self, network: TextNetwork, batch_size: int, device: torch.device) -> None:
        self._network, self._device = network, device
        self.batch_size = batch_size

    def features(self, chunk: Chunk, wanted: np.ndarray) -> np.ndarray:
        """Features (n, D) of the texts."""
        assert chunk.tokens is not None
        assert wanted.all()
        return _through(self._network, chunk.tokens.to(self._device)).cpu().numpy()


def _through(network: nn.Module, batch: Tensor | TokenBatch) -> Tensor:
    try:
        return network(batch)
    except Exception as error:
        if isinstance(batch, Tensor) and any(words in str(error) for words in TOO_SMALL):
            height, width = batch.shape[2:]
            what = f"a view of {width} x {height} pixels is too small for this encoder"
            raise ExtractionError(f"{what}: use a larger --image-size") from error
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        why = str(error).strip().splitlines()[0]
        raise ExtractionError(f"--compile does not work here ({why}): it needs a C++ compiler; leave it out") from error


Source = tuple[Preparation, Views]
Prepared = tuple[int, list[list[Tensor]]]


class PictureDataset(Dataset[Prepared | ExtractionError]):
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
                raise PictureError("changed while the extraction ran")
            picture = decode(data)
        except PictureError as error:
            return ExtractionError(f"{path}: {error}; what was encoded before is kept, run the same command again")
        return number, [prepare(picture, key) if self._missing[source, number] else [] for source, prepare in enumerate(self._prepare)]


class Preparing:
    """From an RGB picture and its key to its views, the centre first. A class, as it travels to worker processes."""

    def __init__(self, preparation: Preparation, views: Views) -> None:
        self._centre, self._others = preparation.transform(), RandomViews(preparation, views)

    def __call__(self, picture: Image.Image, key: bytes) -> list[Tensor]:
        return [self._centre(picture), *self._others(picture, key)]


def _picture_chunks(
    pictures: pd.Series, missing: np.ndarray, sources: Sequence[Source], options: ExtractionOptions, device: torch.device
) -> Iterator[Chunk]:
    """Chunks of pictures, each prepared for every source that misses it, as (S, N) `missing` says."""
    dataset = PictureDataset(pictures, missing, sources)
    together = options.batch_size or min(PICTURES_PER_CHUNK[device.type], max(CHUNK_BYTES // sum(map(_picture_bytes, sources)), 1))
    loader = DataLoader(
        dataset,
        batch_size=together,
        num_workers=min(options.workers, -(-len(dataset) // together)),
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_interrupts_to_the_parent,
        collate_fn=_collate,
    )
    for chunk in loader:
        if isinstance(chunk, ExtractionError):
            raise chunk
        yield chunk


def _picture_bytes(source: Source) -> int:
    """Of one prepared picture with its views, roughly."""
    preparation, views = source
    return 3 * (preparation.size or preparation.resize or USUAL_SIDE) ** 2 * (1 + views.count)


def _collate(items: list[Prepared | ExtractionError]) -> Chunk | ExtractionError:
    good: list[Prepared] = []
    for item in items:
        if isinstance(item, ExtractionError):
            return item
        good.append(item)
    samples = tuple(by_shape([views[source] for _, views in good]) for source in range(len(good[0][1])))
    return Chunk(np.array([number for number, _ in good]), samples)


def by_shape(pictures: list[list[Tensor]]) -> tuple[Samples, ...]:
    """Views of pictures, stacked with others of the same shape."""
    places: dict[torch.Size, list[tuple[int, int]]] = {}
    for row, views in enumerate(pictures):
        for view, tensor in enumerate(views):
            places.setdefault(tensor.shape, []).append((row, view))
    return tuple(_stacked(pictures, at) for at in places.values())


def _stacked(pictures: list[list[Tensor]], places: list[tuple[int, int]]) -> Samples:
    rows, views = zip(*places, strict=True)
    return Samples(np.array(rows), np.array(views), torch.stack([pictures[row][view] for row, view in places]))


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


def _pair_chunks(work: Work, preparation: Preparation, options: ExtractionOptions, device: torch.device) -> Iterator[Chunk]:
    """Chunks of pictures with all the pairs that each is missing in."""
    numbers = np.flatnonzero(work.missing)
    owner, _ = pd.factorize(work.inputs["image_key"].iloc[numbers])
    pictures = work.inputs.iloc[numbers].drop_duplicates("image_key").set_index("image_key")["image"]
    numbers = numbers[np.argsort(owner, kind="stable")]
    pairs = np.split(numbers, np.cumsum(np.bincount(owner))[:-1])
    for chunk in _picture_chunks(pictures, np.ones((1, len(pictures)), bool), [(preparation, CENTRE_ONLY)], options, device):
        own = [pairs[picture] for picture in chunk.numbers]
        yield replace(chunk, numbers=np.concatenate(own), picture=np.repeat(np.arange(len(own)), list(map(len, own))))
