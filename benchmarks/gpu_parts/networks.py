"""Measurements of networks alone, without reading, for `benchmarks/gpu.py`: speed, loading, compilation."""

import time
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch

from tier4k.benchmarks.gpu_parts.bench import Bench, median_seconds, peak, smallest_cosine, synchronize
from tier4k.benchmarks.plain import operations
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.compilation import compile_network
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.initial_weights import UndefinedInitialWeights
from tier4k.extract.pipeline.arithmetic import arithmetic
from tier4k.extract.pipeline.load import load_network


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
    with arithmetic(precision, torch.device(bench.device), fixed_shapes=True), torch.inference_mode():
        fastest = peak(bench.device, precision, bench.sizes.matrix)
        rate = batch / median_seconds(lambda: network(pixels), bench.device)
    flops = rate * _operations(bench.architecture(name))
    return Forward(name, precision, batch, rate, flops / 1e12, fastest / 1e12, flops / fastest)


@cache
def _operations(architecture: str) -> int:
    """Return the floating-point operations of one image."""
    with UndefinedInitialWeights():
        return operations(architecture)


@lru_cache(maxsize=1)
def _network(bench: Bench, name: str, precision: Precision) -> ImageNetwork:
    """Return a frozen network on the device; the last one is kept."""
    encoder = bench.image_encoder(name, ImageChoice(precision=precision))
    return load_network(encoder).frozen(precision).to(bench.device)


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

    with arithmetic(precision, torch.device(bench.device), fixed_shapes=True), torch.inference_mode():
        eager_s = median_seconds(lambda: network(pixels), bench.device)
        expected = encode(pixels).cpu().numpy()
        compile_network(network, backend="eager" if bench.tiny else "inductor")
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
    with arithmetic(precision, torch.device(bench.device), fixed_shapes=True), torch.inference_mode():
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
