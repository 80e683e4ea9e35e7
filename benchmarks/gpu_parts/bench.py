"""What `benchmarks/gpu.py` works on: drawn images, random weights, a written tokenizer; and its clock."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import ascii_lowercase, digits

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from transformers import BertConfig, BertModel

from tier4k.benchmarks.plain import make_network
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.pipeline.listener import Timing

GRAIN = 1.5  # standard deviation of the noise in drawn images
SMOOTHNESS = 24  # side of the coarse image that a drawn image enlarges
WORDS = ("a", "very", "red", "fox", "number", "in", "the", "snow")
TINY_ENCODERS = {"resnet50": "resnet18", "vit": "timm:vit_tiny_patch16_224"}  # used in their place by --tiny
WARM_UP, ROUNDS = 3, 7  # calls of a measured function before the timing, and timed ones


@dataclass(frozen=True)
class Images:
    """One kind of image files.

    Attributes:
        side: Pixels of each side.
        suffix: "jpg" or "png".
    """

    side: int
    suffix: str

    def __str__(self) -> str:
        return f"{self.side}² {'JPEG' if self.suffix == 'jpg' else 'PNG'}"


JPEG_512 = Images(512, "jpg")
JPEG_1024 = Images(1024, "jpg")
PNG_512 = Images(512, "png")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        files: Number of images of each kind.
        drawings: Number of different drawings among the images of each kind.
        checked: Number of images that the CPU and the device encode for comparison.
        batches: Batch sizes of a network that encodes images which are on the device already.
        plain_batch: Batch size of the plain script.
        large_batch: Batch size for which the memory is made too small.
        steps: Steps of a training.
        heads: Heads that are fitted side by side.
        rows, columns: Shape of the features that heads are fitted on.
        matrix: Side of the matrices whose product gives the peak.
    """

    files: dict[Images, int]
    drawings: int
    checked: int
    batches: tuple[int, ...]
    plain_batch: int
    large_batch: int
    steps: int
    heads: int
    rows: int
    columns: int
    matrix: int


FULL = Sizes(
    files={JPEG_512: 4096, JPEG_1024: 1536, PNG_512: 2048},
    drawings=24,
    checked=24,
    batches=(32, 256, 1024),
    plain_batch=256,
    large_batch=1024,
    steps=12,
    heads=16,
    rows=2400,
    columns=1792,
    matrix=8192,
)
TINY = Sizes(
    files={JPEG_512: 12, JPEG_1024: 4, PNG_512: 4},
    drawings=4,
    checked=3,
    batches=(2,),
    plain_batch=4,
    large_batch=8,
    steps=2,
    heads=2,
    rows=48,
    columns=16,
    matrix=256,
)


@dataclass(frozen=True)
class Bench:
    """The folder, the device and the sizes of all measurements.

    Attributes:
        folder: Folder of images, weights and features.
        device: "cuda" or "cpu".
        tiny: Whether small networks and few inputs stand in for the real ones, to try this program.
    """

    folder: Path
    device: str
    tiny: bool

    @property
    def sizes(self) -> Sizes:
        """How much is measured."""
        return TINY if self.tiny else FULL

    def encoder_name(self, name: str) -> str:
        """Return the name of an encoder, or of the small one that stands in for it."""
        return TINY_ENCODERS.get(name, name) if self.tiny else name

    def image_encoder(self, name: str, choice: ImageChoice) -> ImageEncoder:
        """Return an image encoder with random weights and the options of `choice`."""
        own_name = self.encoder_name(name)
        return find_image_encoder(replace(choice, encoder=own_name), self.weights(name))

    def weights(self, name: str) -> Path:
        """Return the random weights of an image encoder; write them on first use."""
        path = self.folder / "weights" / f"{name}.pth"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.manual_seed(0)
            network = make_network(self.architecture(name))
            _randomise_batch_norms(network)
            written = self.new_folder("weights") / path.name
            torch.save(network.state_dict(), written)
            written.replace(path)
        return path

    def architecture(self, name: str) -> str:
        """Return timm's name of an image encoder."""
        return image_preset(self.encoder_name(name)).architecture

    def text_encoder(self, precision: Precision) -> TextEncoder:
        """Return a text encoder of MiniLM's shape with random weights."""
        folder = self.folder / "minilm"
        if not folder.exists():
            written = self.new_folder("minilm")
            _write_bert(written, layers=2 if self.tiny else 6)
            written.rename(folder)
        return find_text_encoder("minilm", folder, precision=precision)

    def prepare(self, name: str) -> None:
        """Write what a training of an image encoder needs."""
        self.table(JPEG_512)
        self.weights(name)
        self.text_encoder("fp32")

    def table(self, images: Images) -> Path:
        """Return the table of a data set of distinct images and prompts; draw it on first use."""
        path = self.folder / f"{images.side}-{images.suffix}" / "table.csv"
        if not path.exists():
            _write_data_set(path, images, self.sizes.files[images], self.sizes.drawings)
        return path

    def manifest(self, images: Images, rows: int | None = None) -> Manifest:
        """Return the first rows of a data set; None is all rows."""
        whole = _load(self.table(images))
        return replace(whole, table=whole.table.head(rows or len(whole)))

    def new_folder(self, name: str) -> Path:
        """Make an empty folder; several processes may do so at the same time."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))


@cache
def _load(table: Path) -> Manifest:
    return check(table).manifest


def _randomise_batch_norms(network: nn.Module) -> None:
    """Draw the scales of batch norms: timm sets the last of each block to 0, which would hide the block."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)


def _write_bert(folder: Path, layers: int) -> None:
    """Write a BERT of MiniLM's width with random weights, and a vocabulary of letters, digits and words."""
    symbols = ascii_lowercase + digits
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *symbols, *(f"##{symbol}" for symbol in symbols)]
    tokens += [word for word in WORDS if word not in tokens]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=384,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


def _write_data_set(table: Path, images: Images, count: int, drawings: int) -> None:
    """Write images and their table. Bytes after the end of a file make equal drawings distinct images."""
    folder = table.parent
    folder.mkdir(exist_ok=True)
    drawn = []
    for number in range(drawings):
        path = folder / f"drawing.{images.suffix}"
        draw(images.side, number).save(path, quality=90)
        drawn.append(path.read_bytes())
    names = [f"{number:05}.{images.suffix}" for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(drawn[number % drawings] + number.to_bytes(8, "big"))
    prompts = [f"a {'very ' * (number % 7)}red fox number {number} in the snow" for number in range(count)]
    scores = np.random.default_rng(0).uniform(0, 5, count)
    generators = [f"generator {number % 5}" for number in range(count)]
    frame = pd.DataFrame({"image": names, "prompt": prompts, "generator": generators, "mos": scores})
    frame.to_csv(table, index=False)


def draw(side: int, seed: int) -> Image.Image:
    """Draw smooth random colours with grain."""
    random = np.random.default_rng([side, seed])
    coarse = Image.fromarray(random.integers(0, 256, (SMOOTHNESS, SMOOTHNESS, 3), np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(float)
    grainy = smooth + random.normal(0, GRAIN, (side, side, 1))
    return Image.fromarray(grainy.round().clip(0, 255).astype(np.uint8))


class Stopwatch:
    """A listener that notes when units of inputs are encoded.

    Attributes:
        times: Seconds of the clock at the start and after each unit.
        counts: Inputs of each unit.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.counts: list[int] = []

    def noted(self, text: str) -> None:
        """Ignore notes about weights."""

    def warned(self, text: str) -> None:
        """Ignore warnings about prompts."""

    def started(self, stream: str, total: int) -> None:  # noqa: ARG002
        """Note the start of a stream."""
        self.times.append(time.perf_counter())

    def advanced(self, count: int, timing: Timing) -> None:  # noqa: ARG002
        """Note the end of a unit."""
        self.times.append(time.perf_counter())
        self.counts.append(count)

    @property
    def slowest_unit(self) -> float:
        """Seconds between the ends of two units, the largest; the first unit starts the readers."""
        return float(np.diff(self.times[1:] or [0.0]).max(initial=0.0))


def synchronize(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def median_seconds(work: Callable[[], object], device: str) -> float:
    """Return the median seconds of some work, the device's part included."""
    times = []
    for number in range(WARM_UP + ROUNDS):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        if number >= WARM_UP:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


@cache
def peak(device: str, precision: Precision, side: int) -> float:
    """Return the operations per second of a product of large random matrices."""
    left, right = torch.randn(2, side, side, device=device).to(DTYPES[precision])
    return 2 * side**3 / median_seconds(lambda: left @ right, device)


def reset_memory(device: str) -> None:
    """Free cached memory of the device, and forget its largest use."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def device_mib(device: str) -> int:
    """Return the largest memory in use by tensors since `reset_memory`, in MiB; 0 on the CPU."""
    return torch.cuda.max_memory_allocated() // 2**20 if device == "cuda" else 0


def smallest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the smallest cosine of the rows of two matrices."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / norms).min())
