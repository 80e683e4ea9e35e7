"""Measurements of stage 1 for `benchmarks/gpu.py`: values, speed, memory."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from tier4k.benchmarks.gpu_parts.bench import (
    JPEG_512,
    Bench,
    Images,
    Stopwatch,
    device_mib,
    reset_memory,
    smallest_cosine,
    synchronize,
)
from tier4k.benchmarks.plain import Images as PlainImages
from tier4k.benchmarks.plain import make_network
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.initial_weights import UndefinedInitialWeights
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.images.crops import CENTRE_CROP
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.cut_units import image_units
from tier4k.extract.pipeline.image_reader import ImageReader, ImageVariant, ImageVariants
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.read import image_chunks
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.units import IMAGES_PER_UNIT
from tier4k.extract.pipeline.upload import Uploader
from tier4k.heads.protocol.presets import PRESETS

LARGEST_FP32_DIFFERENCE = 1e-4  # relative, of features by the device from those by the CPU
SMALLEST_HALF_COSINE = 0.999
BEST = "efficientnet-lite0 --preset best"
TEXT = "minilm"
SMALL_MEMORY = 2.5e9  # bytes that the process may use where memory is made too small


@dataclass(frozen=True)
class Agreement:
    """Features by the device beside those by the CPU in fp32.

    Attributes:
        encoder, precision: The encoder; its arithmetic on the device.
        relative_difference: Norm of the difference over the norm of the CPU's features.
        smallest_cosine: Of the two features of any input.
        agrees: Whether fp32 differs by 1e-4 at most, or half precision has cosines of .999 at least.
    """

    encoder: str
    precision: Precision
    relative_difference: float
    smallest_cosine: float
    agrees: bool


def agreement(bench: Bench, name: str, precision: Precision) -> Agreement:
    """Encode the same inputs on the CPU in fp32 and on the device."""
    expected = _features(bench, name, "fp32", "cpu")
    found = _features(bench, name, precision, bench.device)
    difference = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    cosine = smallest_cosine(found, expected)
    agrees = difference <= LARGEST_FP32_DIFFERENCE if precision == "fp32" else cosine >= SMALLEST_HALF_COSINE
    return Agreement(name, precision, difference, cosine, agrees)


def _features(bench: Bench, name: str, precision: Precision, device: str) -> np.ndarray:
    """Return the features (n, D) float64 of the images or texts that are compared; stored ones are reused."""
    folder = bench.folder / f"compared-{device}"
    manifest = bench.manifest(JPEG_512, bench.sizes.checked)
    options = ExtractionOptions(workers=0, batch_size=bench.sizes.checked, device=device)
    encoder = _encoder(bench, name, precision)
    (summary,) = extract(DatasetInputs.of(manifest), [encoder], folder, options, Stopwatch())
    store = FeatureStore.open(summary.store)
    features = store.read(store.keys).astype(float)
    return features.reshape(len(features), -1)


def _encoder(bench: Bench, name: str, precision: Precision) -> ImageEncoder | TextEncoder:
    if name == TEXT:
        return bench.text_encoder(precision)
    if name == BEST:
        best = PRESETS["best"].images[0]
        choice = ImageChoice(image_size=best.image_size, feature=best.feature, precision=precision)
        return bench.image_encoder("efficientnet-lite0", choice)
    return bench.image_encoder(name, ImageChoice(precision=precision))


@dataclass(frozen=True)
class Throughput:
    """An extraction into a new store, decoding included.

    Attributes:
        encoder, precision: The encoder and its arithmetic.
        images: Kind of the images.
        count: Number of the images.
        kilobytes: Mean size of an image file.
        workers: Reading threads.
        images_per_s: Of the whole extraction, without loading the network.
        read, encode, write: Shares of the time: waiting for images, for the network, for the writing thread.
        batch: The final batch size.
        slowest_unit_s: Seconds between the ends of two units of images, the largest.
        loading_s: Seconds until the first image is read: hashing of the weights, loading of the network.
        device_mib: Largest memory of the device.
    """

    encoder: str
    precision: Precision
    images: str
    count: int
    kilobytes: float
    workers: int
    images_per_s: float
    read: float
    encode: float
    write: float
    batch: int
    slowest_unit_s: float
    loading_s: float
    device_mib: int


def throughput(
    bench: Bench,
    name: str,
    precision: Precision,
    images: Images,
    workers: int | None = None,
    rows: int | None = None,
) -> Throughput:
    """Extract images with the default options.

    Args:
        bench: Folder, device and sizes.
        name, precision: The encoder and its arithmetic.
        images: Kind of the images.
        workers: Reading threads; None for the default number.
        rows: Number of the images; None for all.
    """
    manifest = bench.manifest(images, rows)
    options = ExtractionOptions(workers or default_workers(), device=bench.device)
    reset_memory(bench.device)
    start = time.perf_counter()
    encoder = bench.image_encoder(name, ImageChoice(precision=precision))
    stopwatch = Stopwatch()
    summary = _extract(bench, manifest, encoder, options, stopwatch)
    timing = summary.timing
    sizes = [Path(path).stat().st_size for path in manifest.table["image"].head(bench.sizes.drawings)]
    return Throughput(
        encoder=name,
        precision=precision,
        images=str(images),
        count=summary.encoded,
        kilobytes=float(np.mean(sizes)) / 1e3,
        workers=options.workers,
        images_per_s=summary.encoded / timing.total,
        read=timing.read / timing.total,
        encode=timing.encode / timing.total,
        write=timing.write / timing.total,
        batch=summary.batch_size or 0,
        slowest_unit_s=stopwatch.slowest_unit,
        loading_s=stopwatch.times[0] - start,
        device_mib=device_mib(bench.device),
    )


def _extract(
    bench: Bench,
    manifest: Manifest,
    encoder: ImageEncoder,
    options: ExtractionOptions,
    stopwatch: Stopwatch,
) -> StreamSummary:
    """Extract into a new folder."""
    (summary,) = extract(
        DatasetInputs.of(manifest), [encoder], bench.new_folder("features"), options, stopwatch
    )
    return summary


@dataclass(frozen=True)
class Reading:
    """Reading, copying and preprocessing of images for one encoder, without its network.

    Attributes:
        images: Kind of the images.
        count: Number of the images.
        workers: Reading threads.
        resized_by: "readers", or "device" where the readers only decode.
        images_per_s: Images per second.
    """

    images: str
    count: int
    workers: int
    resized_by: str
    images_per_s: float


def reading(bench: Bench, images: Images, on_device: bool) -> Reading:
    """Read images as the extraction of ResNet-50 does, with the default number of threads."""
    manifest = bench.manifest(images)
    device = torch.device(bench.device)
    variant = ImageVariant(image_preset("resnet50").preprocessing("reference"), CENTRE_CROP)
    variants = ImageVariants((variant,), (0,), np.array([on_device]))
    inputs = DatasetInputs.of(manifest).images
    reader, upload = ImageReader(variants, device), Uploader(device, variants)
    units = image_units(inputs, np.ones((1, len(inputs)), bool), IMAGES_PER_UNIT[device.type])
    workers = default_workers()
    reader.prepare()
    start = time.perf_counter()
    count = sum(len(chunk.numbers) for _, chunk in image_chunks(reader, units, workers, upload))
    synchronize(bench.device)
    rate = count / (time.perf_counter() - start)
    return Reading(str(images), count, workers, "device" if on_device else "readers", rate)


@dataclass(frozen=True)
class AgainstPlain:
    """An extraction beside the script that a user would write with timm.

    Attributes:
        encoder, precision: The encoder and its arithmetic; autocast in the plain script.
        images: Kind of the images.
        workers: Reading processes of the plain script, and reading threads of ours.
        plain_images_per_s, images_per_s: Images per second of the plain script, and of ours.
        ratio: Ours over the plain script.
    """

    encoder: str
    precision: Precision
    images: str
    workers: int
    plain_images_per_s: float
    images_per_s: float
    ratio: float


def against_plain(bench: Bench, process: ProcessPoolExecutor, name: str) -> AgainstPlain:
    """Measure the plain script, then ours, in bf16. The plain script keeps its features in memory.

    Args:
        bench: Folder, device and sizes.
        process: A process outside the process policy, which runs the plain script.
        name: The encoder.
    """
    paths = list(map(Path, bench.manifest(JPEG_512).table["image"]))
    warm_up = paths[: bench.sizes.plain_batch]
    process.submit(plain_rate, bench, name, warm_up).result()
    plain = process.submit(plain_rate, bench, name, paths).result()
    ours = throughput(bench, name, "bf16", JPEG_512)
    rates = (plain, ours.images_per_s)
    return AgainstPlain(name, "bf16", str(JPEG_512), ours.workers, *rates, ratio=rates[1] / rates[0])


def plain_rate(bench: Bench, name: str, paths: list[Path]) -> float:
    """Return the images per second of the plain script in bf16, without loading the network."""
    network = _plain_network(bench, name)
    start = time.perf_counter()
    loader = DataLoader(
        PlainImages(paths, network),
        bench.sizes.plain_batch,
        num_workers=default_workers(),
        multiprocessing_context="fork",
        pin_memory=bench.device == "cuda",
    )
    features = []
    with torch.inference_mode(), torch.autocast(bench.device, torch.bfloat16):
        for pixels in loader:
            features.append(network(pixels.to(bench.device, non_blocking=True)).float().cpu())
    assert len(torch.cat(features)) == len(paths)
    return len(paths) / (time.perf_counter() - start)


def _plain_network(bench: Bench, name: str) -> nn.Module:
    with UndefinedInitialWeights():
        network = make_network(bench.architecture(name))
    network.load_state_dict(torch.load(bench.weights(name), weights_only=True))
    return network.to(bench.device)


@dataclass(frozen=True)
class SmallMemory:
    """An extraction whose batch is too large for the memory.

    Attributes:
        encoder: The encoder, in fp32.
        first_batch, last_batch: Batch size that was asked for, and the one that the memory held.
        count: Number of the images.
        relative_difference: Of the features from those of a small batch.
    """

    encoder: str
    first_batch: int
    last_batch: int
    count: int
    relative_difference: float


def small_memory(bench: Bench, name: str) -> SmallMemory:
    """Extract with a large batch in 2.5 GB of memory; on the CPU, memory is not limited."""
    large = bench.sizes.large_batch
    manifest = bench.manifest(JPEG_512, large)
    encoder = bench.image_encoder(name, ImageChoice(precision="fp32"))
    small = ExtractionOptions(default_workers(), large // 8, device=bench.device)
    expected = _extract(bench, manifest, encoder, small, Stopwatch())
    reset_memory(bench.device)
    options = ExtractionOptions(default_workers(), large, device=bench.device)
    try:
        _limit_memory(bench.device, SMALL_MEMORY)
        found = _extract(bench, manifest, encoder, options, Stopwatch())
    finally:
        _limit_memory(bench.device, None)
    first, second = FeatureStore.open(expected.store), FeatureStore.open(found.store)
    features = first.read(first.keys)
    difference = np.linalg.norm(second.read(first.keys) - features) / np.linalg.norm(features)
    return SmallMemory(name, large, found.batch_size or 0, found.encoded, float(difference))


def _limit_memory(device: str, limit: float | None) -> None:
    """Limit the memory of this process on the device to a number of bytes; None for all of it."""
    if device == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min((limit or whole) / whole, 1.0))
