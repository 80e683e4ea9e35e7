"""Extraction of image features beside the script that a user would write with timm.

The plain script loads a network of timm, decodes and transforms the images in torch's DataLoader (as many
processes as ours has threads), and encodes batches of 32 in inference mode, for bf16 under torch.autocast; it
keeps the features in memory. Ours runs with the default options and writes a store. Both times include
starting the readers, decoding and encoding; neither includes loading the network. The plain script runs in a
process of its own, as the process policy of ours changes how the C library allocates memory.

    python benchmarks/plain.py
    python benchmarks/plain.py --encoder resnet50 --precision bf16

Both sides run in turn, one after the other, so that other processes disturb both alike. Images are made by
formula, weights are random: speed does not depend on their values. The last line is one JSON object: for each
encoder and precision the median images per second of both sides, the median ratio of the rounds, and the
share of this machine's matrix-product peak that each side reaches, decoding included.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.listener import Timing
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.run import extract

ENCODERS = {
    "resnet50": "resnet50",
    "vit-base": "timm:vit_base_patch16_224",
    "clip": "clip",
    "efficientnet-lite0": "efficientnet-lite0",
}
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
PLAIN_BATCH = 32
SIDE = 512  # of the images in pixels
PEAK_SIDES = (1024, 2048)  # of the matrices whose product gives the peak


class Images(Dataset):
    """The images of a folder, transformed as timm's configuration of a network says."""

    def __init__(self, paths: list[Path], network: nn.Module) -> None:
        self.paths = paths
        self.transform = create_transform(**resolve_data_config({}, model=network))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        return self.transform(Image.open(self.paths[number]).convert("RGB"))


def make_network(architecture: str) -> nn.Module:
    """Return a network of timm without its classifier; CLIP's keeps its projection."""
    classes = timm.get_pretrained_cfg(architecture).num_classes if "clip" in architecture else 0
    return timm.create_model(architecture, num_classes=classes).eval()


@cache
def plain_network(architecture: str, weights: Path) -> nn.Module:
    """Return a network of timm with weights."""
    network = make_network(architecture)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network


def plain_rate(
    architecture: str,
    weights: Path,
    paths: list[Path],
    precision: Precision,
) -> float:
    """Return the images per second of the plain script."""
    network = plain_network(architecture, weights)
    start = time.perf_counter()
    # A script's own start method on Linux; this process, itself spawned, would start its readers anew.
    loader = DataLoader(
        Images(paths, network), PLAIN_BATCH, num_workers=default_workers(), multiprocessing_context="fork"
    )
    features = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for pixels in loader:
            features.append(network(pixels).float())
    assert len(torch.cat(features)) == len(paths)
    return len(paths) / (time.perf_counter() - start)


class Quiet:
    """A listener that shows nothing."""

    def noted(self, text: str) -> None:
        """Show nothing."""

    def warned(self, text: str) -> None:
        """Show nothing."""

    def started(self, stream: str, total: int) -> None:
        """Show nothing."""

    def advanced(self, count: int, timing: Timing) -> None:
        """Show nothing."""


def our_rate(
    manifest: Manifest,
    encoder: str,
    weights: Path,
    precision: Precision,
) -> float:
    """Return the images per second of an extraction into a new folder."""
    found = find_image_encoder(ImageChoice(encoder, precision=precision), weights)
    with tempfile.TemporaryDirectory() as folder:
        (summary,) = extract(
            DatasetInputs.of(manifest), [found], Path(folder), ExtractionOptions(default_workers()), Quiet()
        )
    return summary.encoded / summary.timing.total


def peak(precision: Precision) -> float:
    """Return the operations per second of the fastest product of large matrices, by torch and by oneDNN."""
    dtype = DTYPES[precision]
    fastest = 0.0
    for side in PEAK_SIDES:
        left = torch.randn(side, side).to(dtype)
        right = torch.randn(side, side).to(dtype)
        for product in _products():
            fastest = max(fastest, 2 * side**3 / _least_seconds(product, left, right))
    return fastest


def _products() -> list[Callable[[Tensor, Tensor], Tensor]]:
    products: list[Callable[[Tensor, Tensor], Tensor]] = [torch.mm]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        products.append(lambda a, b: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    return products


def _least_seconds(
    product: Callable[[Tensor, Tensor], Tensor],
    left: Tensor,
    right: Tensor,
) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(10):
            start = time.perf_counter()
            product(left, right)
            times.append(time.perf_counter() - start)
    return min(times)


def operations(architecture: str) -> int:
    """Return the floating-point operations of one image."""
    network = make_network(architecture)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    return counter.get_total_flops()


def write_images(folder: Path, count: int) -> Manifest:
    """Write a table of distinct JPEGs: smooth pseudo-random colours with fine noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8))
        pixels = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(float)
        noisy = pixels + random.normal(0, 8, pixels.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
    names = [f"{number}.jpg" for number in range(count)]
    table = folder / "table.csv"
    pd.DataFrame({"image": names, "prompt": names, "mos": np.arange(count) % 7}).to_csv(table, index=False)
    return check(table).manifest.select("all")


def write_weights(architecture: str, folder: Path) -> Path:
    """Write random weights of a network."""
    torch.manual_seed(0)
    weights = folder / f"{architecture}.pth"
    torch.save(make_network(architecture).state_dict(), weights)
    return weights


def compare(
    name: str,
    manifest: Manifest,
    folder: Path,
    process: ProcessPoolExecutor,
    arguments: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """Measure both sides in turn with one encoder; return the results of each precision."""
    architecture = image_preset(ENCODERS[name]).architecture
    weights = write_weights(architecture, folder)
    paths = [Path(path) for path in manifest.table["image"]]
    flops = operations(architecture)
    results = {}
    for precision in arguments.precision:
        plain_rates = []
        our_rates = []
        peaks = []
        process.submit(plain_rate, architecture, weights, paths[:PLAIN_BATCH], precision).result()  # warm-up
        for _ in range(arguments.rounds):
            plain_rates.append(process.submit(plain_rate, architecture, weights, paths, precision).result())
            our_rates.append(our_rate(manifest, ENCODERS[name], weights, precision))
            peaks.append(peak(precision))
        results[precision] = _summary(plain_rates, our_rates, flops / max(peaks)) | {"peak": max(peaks)}
        print(f"{name} {precision}: {_described(results[precision])}", flush=True)
    return results


def _summary(
    plain_rates: list[float],
    our_rates: list[float],
    peak_seconds: float,
) -> dict[str, Any]:
    """Return medians.

    Args:
        plain_rates: Images per second of the plain script in each round.
        our_rates: The same of ours.
        peak_seconds: Seconds of an image at the peak.
    """
    plain = statistics.median(plain_rates)
    ours = statistics.median(our_rates)
    ratios = [one / other for one, other in zip(our_rates, plain_rates, strict=True)]
    return {
        "plain_images_per_s": plain,
        "images_per_s": ours,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "plain_peak_share": plain * peak_seconds,
        "peak_share": ours * peak_seconds,
    }


def _described(result: dict[str, Any]) -> str:
    rates = f"{result['images_per_s']:.1f} images/s, plain {result['plain_images_per_s']:.1f}"
    shares = f"{result['peak_share']:.2f} and {result['plain_peak_share']:.2f}"
    gigaflops = f"{result['peak'] / 1e9:.0f} GFLOP/s"
    return f"{rates}, ratio {result['ratio']:.2f}; {shares} of the peak of {gigaflops}"


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--precision", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--images", type=int, default=64, help="number of images")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    results = {}
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as process,
        tempfile.TemporaryDirectory() as name,
    ):
        process.submit(int).result()  # it starts at its first task, outside the process policy
        folder = Path(name)
        manifest = write_images(folder / "images", arguments.images)
        with process_policy():
            for encoder in arguments.encoder:
                results[encoder] = compare(encoder, manifest, folder, process, arguments)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
