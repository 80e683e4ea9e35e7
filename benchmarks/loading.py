"""Loading of images on one core, beside the loader that a user would write with torch and Pillow.

The plain loader opens each file by Pillow, resizes its shorter side to 256, crops the centre of 224, and
normalises, all by torchvision, in a DataLoader with one process and batches of 32. Ours is the reader of the
extraction with one thread and units of 32: it reads each file, compares its content key, decodes it, and
resizes what the crop needs, into uint8; the network normalises on its device. Both run in turn, on the same
core. The plain loader runs in a process of its own, as the process policy of ours changes how the C library
allocates memory; its DataLoader keeps its process between the rounds.

    python benchmarks/loading.py

The images are drawn by formula, with grain as in photographs, and read from files. The last line is one JSON
object: for each filter and size of a JPEG how many times as fast ours is, each in its best round; the same
for PNGs of 512 pixels; and the milliseconds of each part of ours.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from tier4k.benchmarks.gpu_parts.bench import draw
from tier4k.cache.keys import key_array
from tier4k.extract.images.content import content_key
from tier4k.extract.images.crops import CENTRE_CROP
from tier4k.extract.images.pixels import decode_pixels
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, native
from tier4k.extract.inputs.inputs import Inputs, values_of
from tier4k.extract.pipeline.cut_units import image_units
from tier4k.extract.pipeline.image_reader import ImageReader, ImageVariant, ImageVariants
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.read import image_chunks

BATCH = 32
RESIZED, CROP = 256, 224
QUALITY = 90  # of the JPEGs
FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@dataclass(frozen=True)
class Kind:
    """Image files of one kind.

    Attributes:
        format: Pillow's name of the format.
        side: Pixels of a side.
        filters: Filters by which they are resized.
    """

    format: str
    side: int
    filters: tuple[str, ...]

    def key(self, interpolation: str) -> str:
        """Return the name of a result."""
        prefix = "png_" if self.format == "PNG" else ""
        return f"{prefix}{interpolation}_{self.side}"


KINDS = (
    Kind("JPEG", 512, ("bilinear", "bicubic")),
    Kind("JPEG", 1024, ("bilinear", "bicubic")),
    Kind("PNG", 512, ("bilinear",)),
)


class PlainImages(Dataset[torch.Tensor]):
    """The data set that a user writes."""

    def __init__(self, paths: Sequence[Path], interpolation: str) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize(RESIZED, FILTERS[interpolation]),
                transforms.CenterCrop(CROP),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.transform(Image.open(self.paths[number]).convert("RGB"))


def write_images(
    folder: Path,
    kind: Kind,
    count: int,
) -> list[Path]:
    """Write image files; return their paths."""
    paths = []
    for number in range(count):
        path = folder / f"{kind.side}-{number}.{kind.format.lower()}"
        draw(kind.side, number).save(path, kind.format, quality=QUALITY)
        paths.append(path)
    return paths


def ours(images: pd.Series, preprocessing: Preprocessing) -> Iterator[torch.Tensor]:
    """Yield batches (32, 3, 224, 224) uint8 of images, given by their places and keys."""
    inputs = Inputs(key_array(map(bytes.fromhex, images.index)), values_of(images))
    device = torch.device("cpu")
    reader = ImageReader(ImageVariants.of([ImageVariant(preprocessing, CENTRE_CROP)], device), device)
    units = image_units(inputs, np.ones((1, len(images)), bool), BATCH)
    for _, chunk in image_chunks(reader, units, 1, lambda chunk: chunk):
        assert not chunk.unreadable
        yield chunk.images[0][0].pixels


_plain_loaders: dict[tuple[str, int], DataLoader[torch.Tensor]] = {}  # of the process of the plain loader


def plain_seconds(paths: Sequence[Path], interpolation: str) -> float:
    """Return the time of the plain loader, which is made on the first call with these arguments."""
    torch.set_num_threads(1)
    key = (interpolation, hash(tuple(paths)))
    if key not in _plain_loaders:
        _plain_loaders.clear()
        _plain_loaders[key] = DataLoader(
            PlainImages(paths, interpolation),
            batch_size=BATCH,
            num_workers=1,
            persistent_workers=True,
            multiprocessing_context="fork",
        )
        seconds(iter(_plain_loaders[key]))  # starts its process
    return seconds(iter(_plain_loaders[key]))


def seconds(batches: Iterator[torch.Tensor]) -> float:
    """Return the time in which all batches are loaded."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def milliseconds(work: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    """Return the time of an image, the best of three passes."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for value in inputs:
            work(value)
        times.append(time.perf_counter() - start)
    return 1000 * min(times) / len(inputs)


def parts(paths: Sequence[Path], preprocessing: Preprocessing) -> dict[str, float]:
    """Return the milliseconds of each part of ours."""
    files = [path.read_bytes() for path in paths]
    pixels = list(map(decode_pixels, files))
    return {
        "read": milliseconds(Path.read_bytes, paths),
        "hash": milliseconds(content_key, files),
        "decode": milliseconds(decode_pixels, files),
        "resize": milliseconds(preprocessing.apply, pixels),
    }


def compare(
    paths: Sequence[Path],
    interpolation: str,
    rounds: int,
    process: ProcessPoolExecutor,
) -> dict[str, float]:
    """Return the milliseconds an image of both loaders and of the parts of ours, and the ratio.

    Args:
        paths: Image files.
        interpolation: Filter of the resize.
        rounds: Rounds of both loaders.
        process: Runs the plain loader.
    """
    preprocessing = native(CROP, RESIZED, IMAGENET_MEAN, IMAGENET_STD, interpolation)
    images = pd.Series(list(map(str, paths)), [content_key(path.read_bytes()).hex() for path in paths])
    seconds(ours(images, preprocessing))
    plain, own = [], []
    for _ in range(rounds):
        plain.append(process.submit(plain_seconds, paths, interpolation).result())
        own.append(seconds(ours(images, preprocessing)))
    times = {
        "plain": 1000 * min(plain) / len(paths),
        "ours": 1000 * min(own) / len(paths),
        "ratio": min(plain) / min(own),
    }
    return times | parts(paths, preprocessing)


def measure(
    images: int,
    rounds: int,
    process: ProcessPoolExecutor,
) -> dict[str, Any]:
    """Return the ratios, and the milliseconds of each part."""
    result: dict[str, Any] = {"parts_ms": {}}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_images(Path(folder), kind, images)
            for interpolation in kind.filters:
                times = compare(paths, interpolation, rounds, process)
                key = kind.key(interpolation)
                result[key] = round(times.pop("ratio"), 2)
                result["parts_ms"][key] = {name: round(value, 2) for name, value in times.items()}
                listed = ", ".join(f"{name} {value:.2f}" for name, value in times.items())
                name = f"{kind.format} {kind.side}, {interpolation}"
                print(f"{name}: {result[key]} times; ms: {listed}", flush=True)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="files of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both loaders")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)  # torch has counted the cores before
    process = ProcessPoolExecutor(1, get_context("spawn"))
    process.submit(int).result()  # it starts now, outside the process policy
    with process_policy():
        print(json.dumps(measure(arguments.images, arguments.rounds, process)))


if __name__ == "__main__":
    main()
