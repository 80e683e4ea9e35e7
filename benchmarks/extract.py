"""Stage 1 beside a plain implementation of the published forward pass, on the same rows and random weights.

For every row, the plain pass does what the published code does at test time: it encodes the image, the
image prompt (zeros where there is none) and the text prompt padded to 512 tokens, in batches of 8,
reading with as many processes as ours has threads. Ours encodes every distinct input once. Both times include
reading and encoding, neither includes loading the networks; ours includes writing the stores. The plain
pass runs in a process of its own, as the process policy of ours changes how the C library allocates
memory.

    python benchmarks/extract.py Dataset --encoder resnet50 --rows 200

With --against, `tier extract` of another checkout encodes the same images, in turns with ours, each in a
process of its own:

    git worktree add ../before 8017324
    python benchmarks/extract.py Dataset --encoder resnet50 --rows 200 --against ../before

The last line is one JSON object: rows per second, their ratio to the plain pass, the share of this
machine's matrix-product peak that is reached while images are encoded, the share of the time in which the
network waits for images, and the smallest cosine between features of each half precision and of fp32; with
--against also the images per second of both checkouts, in the fastest of three rounds, and their ratio.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from transformers import AutoTokenizer, BertConfig, BertModel

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.listener import StreamSummary, Timing
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.run import extract

HERE = Path(__file__).resolve().parents[1]

PLAIN_BATCH = 8

ROUNDS = 3  # of two checkouts

Encoders = tuple[ImageEncoder, TextEncoder]


class Rows(Dataset):
    """Rows as the published code reads them: image, image prompt or zeros, text."""

    def __init__(self, table: pd.DataFrame, size: int, resize: int) -> None:
        self.rows = list(table[["image", "image_prompt", "prompt"]].itertuples(index=False, name=None))
        self.empty = torch.zeros(3, size, size)
        self.transform = transforms.Compose(
            [
                transforms.Resize(resize),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, str]:
        image, image_prompt, prompt = self.rows[number]
        guide = self.read(image_prompt) if image_prompt else self.empty
        return self.read(image), guide, prompt

    def read(self, path: str) -> torch.Tensor:
        """Return the preprocessed image (3, H, W) of a file."""
        return self.transform(Image.open(path).convert("RGB"))


def plain_rate(manifest: Manifest, rows: int, encoder: ImageEncoder, weights: Path, bert: Path) -> float:
    """Return the rows per second of the plain pass."""
    images = timm.create_model(encoder.preset.architecture, num_classes=0)
    images.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    images.eval()
    texts = BertModel.from_pretrained(bert).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert)
    data = Rows(manifest.table.head(rows), encoder.preprocessing.size, encoder.preprocessing.resize)
    loader = DataLoader(data, batch_size=PLAIN_BATCH, num_workers=default_workers())
    start = 0.0
    with torch.no_grad():
        for number, (pixels, guides, text) in enumerate(loader):
            if number == 1:  # the first batch warms up
                start = time.perf_counter()
            tokens = tokenizer(
                list(text), padding="max_length", truncation=True, max_length=512, return_tensors="pt"
            )
            images(pixels)
            images(guides)
            hidden = texts(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            (hidden * mask).sum(1) / mask.sum(1)
    return (len(data) - PLAIN_BATCH) / (time.perf_counter() - start)


def plain_process() -> ProcessPoolExecutor:
    """Start a process for the plain implementation, outside the process policy."""
    process = ProcessPoolExecutor(1, get_context("spawn"))
    process.submit(int).result()  # it starts at its first task
    return process


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


def peak(precision: Precision) -> float:
    """Return the operations per second of a product of 2048 x 2048 matrices, the best of ten."""
    layer = with_onednn(nn.Linear(2048, 2048, bias=False).to(DTYPES[precision]))
    inputs = torch.randn(2048, 2048).to(DTYPES[precision])
    times = []
    for _ in range(10):
        start = time.perf_counter()
        with torch.inference_mode():
            layer(inputs)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def operations(image: ImageEncoder) -> int:
    """Return the floating-point operations of one image."""
    network = load_network(image)
    side = image.preprocessing.size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    return counter.get_total_flops()


def smallest_cosine(one: Path, two: Path) -> float:
    """Return the smallest cosine of the rows of two stores with the same keys."""
    first = FeatureStore.open(one)
    second = FeatureStore.open(two)
    a = first.read(first.keys).astype(float)
    b = second.read(first.keys).astype(float)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosines.min())


def random_weights(name: str, folder: Path) -> tuple[Path, Path]:
    """Write random weights of the image encoder and of BERT-base; return their paths.

    The tokenizer is that of MiniLM, which has the same vocabulary.
    """
    torch.manual_seed(0)
    weights = folder / "image.pth"
    torch.save(timm.create_model(image_preset(name).architecture).state_dict(), weights)
    bert = folder / "bert"
    BertModel(BertConfig()).save_pretrained(bert)
    AutoTokenizer.from_pretrained(find_text_encoder("minilm").weights.path).save_pretrained(bert)
    return weights, bert


@dataclass
class Comparison:
    """Measures ours and the plain pass in turn.

    Attributes:
        manifest: The rows.
        process: Runs the plain pass.
        plain_task: Function and arguments of the plain pass.
        flops: Operations of one image.
        plain_rates: Rows per second of each plain pass so far.
        result: Metrics so far.
    """

    manifest: Manifest
    process: ProcessPoolExecutor
    plain_task: tuple[Any, ...]
    flops: int
    plain_rates: list[float] = field(default_factory=list)
    result: dict[str, float | str | int] = field(default_factory=dict)

    def run_plain(self) -> None:
        """Measure the plain pass."""
        self.plain_rates.append(self.process.submit(*self.plain_task).result())

    def run_ours(
        self,
        precision: Precision,
        encoders: Encoders,
        folder: Path,
        batch_size: int | None,
    ) -> list[Path]:
        """Measure an extraction into a new folder; return its stores.

        The load of the machine varies: a plain pass and the peak are measured beside each of ours.
        """
        options = ExtractionOptions(default_workers(), batch_size)
        summaries = extract(DatasetInputs.of(self.manifest), encoders, folder, options, Quiet())
        rate = len(self.manifest) / sum(summary.timing.total for summary in summaries)
        self.run_plain()
        plain = sum(self.plain_rates[-2:]) / 2
        fastest = peak(precision)
        images = summaries[0]
        share = self.flops * images.encoded / images.timing.encode / fastest
        waiting = images.timing.read / images.timing.total
        self.result[f"rows_per_s_{precision}"] = rate
        self.result[f"ratio_{precision}"] = rate / plain
        self.result[f"peak_fraction_{precision}"] = share
        self.result[f"waiting_share_{precision}"] = waiting
        print(
            f"ours {precision}: {rate:.2f} rows/s, {rate / plain:.1f} times the {plain:.2f} of the plain pass"
        )
        print(f"  {_describe(images)}, {share:.2f} of the {fastest / 1e9:.0f} GFLOP/s of a matrix product")
        print(f"  the network waits for images in {waiting:.1%} of the time")
        return [summary.store for summary in summaries]


def _describe(images: StreamSummary) -> str:
    return f"images {images.encoded / images.timing.encode:.1f}/s in batches of {images.batch_size}"


def find_encoders(
    name: str, precisions: Sequence[Precision], weights: Path, bert: Path
) -> dict[str, Encoders]:
    """Return image and text encoder for each precision."""
    encoders: dict[str, Encoders] = {}
    for precision in precisions:
        image = find_image_encoder(ImageChoice(name, precision=precision), weights)
        text = find_text_encoder("bert-base-uncased", bert, precision=precision)
        encoders[precision] = image, text
    return encoders


def compare(arguments: argparse.Namespace, process: ProcessPoolExecutor, folder: Path) -> dict[str, Any]:
    """Return all metrics."""
    manifest = check(arguments.data).manifest.select("all")
    manifest = replace(manifest, table=manifest.table.head(arguments.rows))
    weights, bert = random_weights(arguments.encoder, folder)
    encoders = find_encoders(arguments.encoder, ["fp32", *arguments.precisions], weights, bert)
    image = encoders["fp32"][0]
    plain_task = (plain_rate, manifest, arguments.plain_rows + PLAIN_BATCH, image, weights, bert)
    comparison = Comparison(manifest, process, plain_task, operations(image))
    comparison.run_plain()
    print(f"plain: {comparison.plain_rates[0]:.2f} rows/s")
    stores: dict[str, list[Path]] = {}
    for precision, pair in encoders.items():
        stores[precision] = comparison.run_ours(precision, pair, folder / precision, arguments.batch_size)
    result: dict[str, Any] = {"encoder": arguments.encoder, "rows": len(manifest)} | comparison.result
    result["plain_rows_per_s"] = sum(comparison.plain_rates) / len(comparison.plain_rates)
    for precision in arguments.precisions:
        images, texts = zip(stores["fp32"], stores[precision], strict=True)
        result[f"cosine_{precision}"] = smallest_cosine(*images)
        result[f"cosine_text_{precision}"] = smallest_cosine(*texts)
    if arguments.against:
        result |= compare_checkouts(arguments, weights, folder)
    return result


def images_per_second(
    checkout: Path,
    data: Path,
    features: Path,
    options: Sequence[str],
) -> float:
    """Return the images per second of `tier extract` of a checkout into new stores, networks being loaded."""
    command = [sys.executable, str(checkout / "cli.py"), "extract", str(data.resolve()), "-F", str(features)]
    subprocess.run(
        [*command, *options],
        cwd=features.parent,
        env=os.environ | {"PYTHONPATH": ""},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (images,) = (
        encoder
        for encoder in json.loads((features / "extract.json").read_text())["encoders"]
        if encoder["stream"] == "image"
    )
    return images["encoded"] / sum(images["seconds"].values())


def _copied_table(rows: pd.DataFrame, folder: Path) -> Path:
    """Write a table of rows with their images beside it: older checkouts read no others."""
    names = []
    for number, place in enumerate(rows["image"]):
        names.append(f"{number}{Path(place).suffix}")
        shutil.copy(place, folder / names[-1])
    scores = np.arange(len(rows)) % 5
    table = folder / "table.csv"
    pd.DataFrame({"image": names, "prompt": rows["prompt"], "score": scores}).to_csv(table, index=False)
    return table


def compare_checkouts(arguments: argparse.Namespace, weights: Path, folder: Path) -> dict[str, float]:
    """Return the images per second of this checkout and of another one, and their ratio."""
    options = ["--image-encoder", arguments.encoder, "--image-weights", str(weights)]
    options += ["--text-encoder", "minilm"]
    if arguments.batch_size:
        options += ["--batch-size", str(arguments.batch_size)]
    table = _copied_table(check(arguments.data).manifest.table.head(arguments.rows), folder)
    rates: dict[str, list[float]] = {"here": [], "there": []}
    checkouts = {"there": arguments.against.resolve(), "here": HERE}
    for number in range(ROUNDS):
        for name, checkout in checkouts.items():
            features = folder / f"{name}-{number}"
            rates[name].append(images_per_second(checkout, table, features, options))
        print(f"here {rates['here'][-1]:.2f}, there {rates['there'][-1]:.2f} images/s", flush=True)
    best = {name: max(values) for name, values in rates.items()}
    return {
        "images_per_s": best["here"],
        "images_per_s_there": best["there"],
        "ratio_to_there": best["here"] / best["there"],
    }


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="data set in the PKU-AIGIQA-4K layout")
    parser.add_argument("--encoder", default="resnet50", help="image encoder, such as resnet50 or vit")
    parser.add_argument("--rows", type=int, default=200, help="rows that ours extracts")
    parser.add_argument(
        "--plain-rows",
        type=int,
        default=40,
        help="rows that the plain pass encodes; its rate does not depend on them",
    )
    parser.add_argument(
        "--precisions", nargs="+", default=["bf16"], choices=["bf16", "fp16"], help="beside fp32"
    )
    parser.add_argument("--batch-size", type=int, help="of ours; measured when left out")
    parser.add_argument("--against", type=Path, help="another checkout, whose extraction is measured too")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    process = plain_process()
    with process_policy(), tempfile.TemporaryDirectory() as name:
        print(json.dumps(compare(arguments, process, Path(name))))


if __name__ == "__main__":
    main()
