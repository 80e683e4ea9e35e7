"""Stage 1 against a plain implementation of the published forward pass, on the same rows with the same random weights.

The plain one does for every row what the published code does at test time: it encodes the picture, the image prompt (zeros where there
is none) and the text prompt padded to 512 tokens, in batches of 8, reading with as many worker processes as ours has. Ours encodes every
distinct input once. Both times hold reading and encoding, neither holds loading the networks; ours holds writing the stores too. The plain
pass has a process of its own, as ours changes how the C library gives memory to torch.

    python benchmarks/extract.py Dataset --encoder resnet50 --rows 200

The last line is one JSON object: rows per second, their ratio to the plain pass, the share of this machine's matrix-product peak that is
reached while pictures are encoded, and the smallest cosine between features of each half precision and of fp32.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

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

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # before this folder, where this file hides the package `extract`
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import load_manifest
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tier4k.extract.pipeline.listener import StreamSummary, Timing
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions, default_workers
from tier4k.extract.pipeline.run import extract

PLAIN_BATCH = 8


class Rows(Dataset):
    """Rows as the published code reads them: picture, image prompt or zeros, text."""

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
        return self.read(image), self.read(image_prompt) if image_prompt else self.empty, prompt

    def read(self, path: str) -> torch.Tensor:
        return self.transform(Image.open(path).convert("RGB"))


def plain_rate(manifest: Manifest, rows: int, encoder: ImageEncoder, weights: Path, bert: Path) -> float:
    """Rows per second of the plain pass."""
    images = timm.create_model(encoder.preset.architecture, num_classes=0)
    images.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    images.eval()
    texts, tokenizer = BertModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    data = Rows(manifest.table.head(rows), encoder.preprocessing.size, encoder.preprocessing.resize)
    loader = DataLoader(data, batch_size=PLAIN_BATCH, num_workers=default_workers())
    start = 0.0
    with torch.no_grad():
        for number, (pictures, prompts, text) in enumerate(loader):
            if number == 1:  # the first batch warms up
                start = time.perf_counter()
            tokens = tokenizer(
                list(text), padding="max_length", truncation=True, max_length=512, return_tensors="pt"
            )
            images(pictures)
            images(prompts)
            hidden, mask = texts(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
            (hidden * mask).sum(1) / mask.sum(1)
    return (len(data) - PLAIN_BATCH) / (time.perf_counter() - start)


def plain_process() -> ProcessPoolExecutor:
    """A process for the plain implementation, which is started and has memory as it comes: ours changes that in its own."""
    process = ProcessPoolExecutor(1, get_context("spawn"))
    process.submit(int).result()  # it starts at its first task
    return process


class Quiet:
    """A listener that shows nothing."""

    def started(self, stream: str, total: int) -> None:
        """Nothing."""

    def advanced(self, count: int, timing: Timing) -> None:
        """Nothing."""


def ours(
    manifest: Manifest, image: ImageEncoder, text: TextEncoder, folder: Path, batch_size: int | None
) -> list[StreamSummary]:
    """Extract into a new folder."""
    return extract(manifest, [image, text], folder, ExtractionOptions(default_workers(), batch_size), Quiet())


def peak(precision: Precision) -> float:
    """Floating-point operations per second of a product of two 2048 x 2048 matrices, as encoders multiply, the best of ten."""
    layer, inputs = with_onednn(nn.Linear(2048, 2048, bias=False)), torch.randn(2048, 2048)
    layer, inputs = layer.to(DTYPES[precision]), inputs.to(DTYPES[precision])
    times = []
    for _ in range(10):
        start = time.perf_counter()
        with torch.inference_mode():
            layer(inputs)
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times)


def operations(image: ImageEncoder) -> int:
    """Floating-point operations of one picture."""
    network = load_network(image)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, image.preprocessing.size, image.preprocessing.size, dtype=torch.uint8))
    return counter.get_total_flops()


def smallest_cosine(one: Path, two: Path) -> float:
    """Of the rows of two stores with the same keys."""
    first, second = FeatureStore.open(one), FeatureStore.open(two)
    a, b = (store.read(first.keys).astype(float) for store in (first, second))
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


def random_weights(name: str, folder: Path) -> tuple[Path, Path]:
    """Random weights of the image encoder and of BERT-base with MiniLM's tokenizer, which has the same vocabulary."""
    torch.manual_seed(0)
    weights = folder / "image.pth"
    torch.save(timm.create_model(image_preset(name).architecture).state_dict(), weights)
    bert = folder / "bert"
    BertModel(BertConfig()).save_pretrained(bert)
    AutoTokenizer.from_pretrained(find_text_encoder("minilm").weights.path).save_pretrained(bert)
    return weights, bert


def first_rows(manifest: Manifest, rows: int) -> Manifest:
    """The data set cut to its first rows."""
    return replace(manifest, table=manifest.table.head(rows))


def main() -> None:
    """Measure and print."""
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
    arguments = parser.parse_args()
    process = plain_process()
    whole = load_manifest(arguments.data).manifest
    manifest = first_rows(whole.select("all"), arguments.rows)
    result: dict[str, float | str | int] = {"encoder": arguments.encoder, "rows": len(manifest)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, bert = random_weights(arguments.encoder, folder)
        encoders = {
            precision: (
                find_image_encoder(ImageChoice(arguments.encoder, precision=precision), weights),
                find_text_encoder("bert-base-uncased", bert, precision=precision),
            )
            for precision in ("fp32", *arguments.precisions)
        }
        plain_task = (
            plain_rate,
            manifest,
            arguments.plain_rows + PLAIN_BATCH,
            encoders["fp32"][0],
            weights,
            bert,
        )
        plain = [process.submit(*plain_task).result()]
        print(f"plain: {plain[0]:.2f} rows/s")
        flops = operations(encoders["fp32"][0])
        stores: dict[str, list[Path]] = {}
        for precision, (image, text) in encoders.items():
            summaries = ours(manifest, image, text, folder / precision, arguments.batch_size)
            stores[precision] = [summary.store for summary in summaries]
            rate = len(manifest) / sum(summary.timing.total for summary in summaries)
            pictures = summaries[0]
            result[f"rows_per_s_{precision}"] = rate
            # Other work on the machine comes and goes: the plain pass and the peak are taken beside each of ours.
            plain.append(process.submit(*plain_task).result())
            beside, fastest = sum(plain[-2:]) / 2, peak(precision)
            result[f"ratio_{precision}"] = rate / beside
            result[f"peak_fraction_{precision}"] = flops * pictures.encoded / pictures.timing.encode / fastest
            print(
                f"ours {precision}: {rate:.2f} rows/s, {rate / beside:.1f} times the {beside:.2f} of the plain pass; pictures "
                f"{pictures.encoded / pictures.timing.encode:.1f}/s in batches of {pictures.batch_size}, "
                f"{result[f'peak_fraction_{precision}']:.2f} of the {fastest / 1e9:.0f} GFLOP/s of a matrix product"
            )
        result["plain_rows_per_s"] = sum(plain) / len(plain)
        for precision in arguments.precisions:
            pairs = zip(stores["fp32"], stores[precision], strict=True)
            result[f"cosine_{precision}"], result[f"cosine_text_{precision}"] = (
                smallest_cosine(one, two) for one, two in pairs
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
