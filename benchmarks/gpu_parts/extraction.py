"""Measurements of stage 1 for `benchmarks/gpu.py`: values, speed, memory."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
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
    median_seconds,
    peak,
    reset_memory,
    synchronize,
    undefined_initial_weights,
)
from tier4k.benchmarks.plain import Images as PlainImages
from tier4k.benchmarks.plain import make_network, operations
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_choice import PRESETS, ImageChoice
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.pipeline.float32 import full_float32
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.run import extract

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


def smallest_cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the smallest cosine of the rows of two matrices."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / norms).min())


def _features(bench: Bench, name: str, precision: Precision, device: str) -> np.ndarray:
    """Return the features (n, D) float64 of the images or texts that are compared; stored ones are reused."""
    folder = bench.folder / f"compared-{device}"
    manifest = bench.manifest(JPEG_512, bench.sizes.checked)
    options = ExtractionOptions(workers=0, batch_size=bench.sizes.checked, device=device)
    encoder = _encoder(bench, name, precision)
    with undefined_initial_weights():
        (summary,) = extract(manifest, [encoder], folder, options, Stopwatch())
    store = FeatureStore.open(summary.store)
    features = store.read(store.keys).astype(float)
    return features.reshape(len(features), -1)


def _encoder(bench: Bench, name: str, precision: Precision) -> ImageEncoder | TextEncoder:
    if name == TEXT:
        return bench.text_encoder(precision)
    if name == BEST:
        best = PRESETS["best"]
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
        workers: Reading processes that were allowed.
        readers: Reading processes, at most one for each chunk of 256 images.
        images_per_s: Of the whole extraction, without loading the network.
        read, encode, write: Shares of the time: waiting for images, encoding them, writing features.
        batch: The final batch size.
        slowest_chunk_s: Seconds between the ends of two chunks of images, the largest.
        loading_s: Seconds until the first image is read: hashing of the weights, loading of the network.
        device_mib: Largest memory of the device.
    """

    encoder: str
    precision: Precision
    images: str
    count: int
    kilobytes: float
    workers: int
    readers: int
    images_per_s: float
    read: float
    encode: float
    write: float
    batch: int
    slowest_chunk_s: float
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
        workers: Reading processes; None for the default number.
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
        readers=min(options.workers, len(stopwatch.counts)),
        images_per_s=summary.encoded / timing.total,
        read=timing.read / timing.total,
        encode=timing.encode / timing.total,
        write=timing.write / timing.total,
        batch=summary.batch_size or 0,
        slowest_chunk_s=stopwatch.slowest_chunk,
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
    with undefined_initial_weights():
        (summary,) = extract(manifest, [encoder], bench.new_folder("features"), options, stopwatch)
    return summary


@dataclass(frozen=True)
class Forward:
    """A network that encodes images which are on the device already.

    Attributes:
        encoder, precision: The encoder and its arithmetic.
        batch: Images in a batch.
        images_per_s: Images per second.
        teraflops: Operations per second, in 10^12.
        peak_teraflops: The same of a product of large matrices.
        share_of_peak: The ratio of both.
    """

    encoder: str
    precision: Precision
    batch: int
    images_per_s: float
    teraflops: float
    peak_teraflops: float
    share_of_peak: float


def forward(bench: Bench, name: str, precision: Precision, batch: int) -> Forward:
    """Encode one batch again and again."""
    network = _network(bench, name, precision)
    pixels = torch.randint(256, (batch, 3, 224, 224), dtype=torch.uint8, device=bench.device)
    with full_float32(), torch.inference_mode():
        fastest = peak(bench.device, precision, bench.sizes.matrix)
        rate = batch / median_seconds(lambda: network(pixels), bench.device)
    flops = rate * _operations(bench.architecture(name))
    return Forward(name, precision, batch, rate, flops / 1e12, fastest / 1e12, flops / fastest)


@cache
def _operations(architecture: str) -> int:
    """Return the floating-point operations of one image."""
    with undefined_initial_weights():
        return operations(architecture)


@lru_cache(maxsize=1)
def _network(bench: Bench, name: str, precision: Precision) -> ImageNetwork:
    """Return a frozen network on the device; the last one is kept."""
    encoder = bench.image_encoder(name, ImageChoice(precision=precision))
    with undefined_initial_weights():
        network = load_network(encoder)
    return network.frozen(precision).to(bench.device)


@dataclass(frozen=True)
class LoadingTime:
    """Loading of one network, as `tier extract` does it.

    Attributes:
        encoder: The encoder.
        load_s: Seconds to create the network and load its weights.
        freeze_s: Seconds to prepare it for encoding.
        to_device_s: Seconds to copy it to the device.
    """

    encoder: str
    load_s: float
    freeze_s: float
    to_device_s: float


def loading_time(bench: Bench, name: str) -> LoadingTime:
    """Load one network in bf16."""
    encoder = bench.image_encoder(name, ImageChoice(precision="bf16"))
    times = [time.perf_counter()]
    network = load_network(encoder)
    times.append(time.perf_counter())
    network = network.frozen("bf16")
    times.append(time.perf_counter())
    network.to(bench.device)
    synchronize(bench.device)
    times.append(time.perf_counter())
    load, freeze, copy = np.diff(times).tolist()
    return LoadingTime(name, load, freeze, copy)


@dataclass(frozen=True)
class AgainstPlain:
    """An extraction beside the script that a user would write with timm.

    Attributes:
        encoder, precision: The encoder and its arithmetic; autocast in the plain script.
        images: Kind of the images.
        workers: Reading processes of both.
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
    with undefined_initial_weights():
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


@dataclass(frozen=True)
class Compiled:
    """A network with and without `--compile`, on images which are on the device already.

    Attributes:
        encoder, precision, batch: The encoder, its arithmetic, and images in a batch.
        images_per_s, compiled_images_per_s: Without and with compilation.
        first_batch_s: Seconds of the first batch, which compiles.
        second_size_s: Seconds of the first batch of half the size, which may compile again.
        smallest_cosine: Of features with and without compilation.
    """

    encoder: str
    precision: Precision
    batch: int
    images_per_s: float
    compiled_images_per_s: float
    first_batch_s: float
    second_size_s: float
    smallest_cosine: float


def compiled(bench: Bench, name: str, precision: Precision) -> Compiled:
    """Measure a network before and after torch.compile, as `--compile` calls it.

    With small inputs the network is traced and not compiled, as a CPU's compiler takes minutes.
    """
    batch = bench.sizes.plain_batch
    network = _network.__wrapped__(bench, name, precision)  # not the one that is kept
    pixels = torch.randint(256, (batch, 3, 224, 224), dtype=torch.uint8, device=bench.device)

    def encode(images: torch.Tensor) -> torch.Tensor:
        features = network(images)
        synchronize(bench.device)
        return features

    with full_float32(), torch.inference_mode():
        eager_s = median_seconds(lambda: network(pixels), bench.device)
        expected = encode(pixels).cpu().numpy()
        network.compile(backend="eager" if bench.tiny else "inductor")
        start = time.perf_counter()
        found = encode(pixels).cpu().numpy()
        middle = time.perf_counter()
        encode(pixels[: batch // 2])
        second_size_s = time.perf_counter() - middle
        compiled_s = median_seconds(lambda: network(pixels), bench.device)
    cosine = smallest_cosine(found, expected)
    rates = (batch / eager_s, batch / compiled_s)
    return Compiled(name, precision, batch, *rates, middle - start, second_size_s, cosine)


@dataclass(frozen=True)
class Kernels:
    """What the device does in one batch of a network.

    Attributes:
        encoder, precision, batch: The encoder, its arithmetic, and images in a batch.
        busy: Share of the time in which the device computes.
        launches: Number of kernels.
        largest: The kernels that take most of the device's time, with their shares.
    """

    encoder: str
    precision: Precision
    batch: int
    busy: float
    launches: int
    largest: str


def kernels(bench: Bench, name: str, precision: Precision, batch: int) -> Kernels:
    """Profile one batch; on the CPU, operators take the place of kernels."""
    network = _network(bench, name, precision)
    pixels = torch.randint(256, (batch, 3, 224, 224), dtype=torch.uint8, device=bench.device)
    is_cuda = bench.device == "cuda"
    kinds = torch.profiler.ProfilerActivity
    with full_float32(), torch.inference_mode():
        seconds = median_seconds(lambda: network(pixels), bench.device)
        with torch.profiler.profile(activities=[kinds.CUDA if is_cuda else kinds.CPU]) as profile:
            network(pixels)
            synchronize(bench.device)
    spent: dict[str, float] = {}
    launches = 0
    for event in profile.key_averages():
        microseconds = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        if microseconds:
            spent[event.key] = spent.get(event.key, 0.0) + microseconds
            launches += event.count
    total = sum(spent.values())
    first = sorted(spent, key=spent.__getitem__, reverse=True)[:4]
    largest = "; ".join(f"{key[:60]} {spent[key] / total:.2f}" for key in first)
    return Kernels(name, precision, batch, total / 1e6 / seconds, launches, largest)
