"""End-to-end training beside a plain implementation of the published loop, from the same random weights.

    python benchmarks/finetune.py Dataset --encoder resnet50 [--method pr] [--guided 0.4] [--steps 12]

For every row of a batch, the plain loop does what the published code does: it encodes the image, the
image prompt (zeros where there is none) and the text prompt padded to 512 tokens, all in training mode,
and updates with `torch.optim.Adam` at its defaults. Ours is `tier fit-head --finetune all --recipe
published` with channels innermost: batch normalisation and dropout in training mode, Adam, the same loss.
Both crop and flip at random, ours from images decoded before, the plain loop with a worker process. Times
are medians over steps after the first two; neither includes loading or decoding. The two ways alternate,
each in a process of its own. As in PKU-AIGIQA-4K, 40 % of the rows have an image prompt.

The last line is one JSON object: seconds per row of each way, and their ratios.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers import AutoTokenizer, BertModel

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k.benchmarks.extract import plain_process, random_weights
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.decode import decode
from tier4k.extract.images.places import read_bytes
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tier4k.extract.pipeline.allocator import keep_all_freed_memory
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.heads.data.features import rows_without_features
from tier4k.heads.data.splits import Split
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.finetuning.distributed import make_accelerator
from tier4k.heads.finetuning.finetune import Finetuning
from tier4k.heads.finetuning.recipe import finetuning_recipe
from tier4k.heads.regressors.mlp.stack import HeadNetwork

BATCH = 8
WARM_UP = 2  # steps that do not count
LEARNING_RATE, PENALTY = 1e-4, 1e-5
WAYS = ("plain", "fp32", "bf16")


class PlainRows(Dataset):
    """Rows as the published code reads them in training: image, image prompt or zeros, text, score."""

    def __init__(self, manifest: Manifest, target: str, encoder: ImageEncoder) -> None:
        self.rows = list(
            manifest.table[["image", "image_prompt", "prompt", target]].itertuples(index=False, name=None)
        )
        size, resize = encoder.preprocessing.size, encoder.preprocessing.resize
        self.empty = torch.zeros(3, size, size)
        steps = [
            transforms.Resize(resize),
            transforms.RandomCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
        self.transform = transforms.Compose([*steps, transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        image, image_prompt, prompt, score = self.rows[number]
        guided = bool(image_prompt)
        return (
            self.read(image),
            self.read(image_prompt) if guided else self.empty,
            guided,
            prompt,
            np.float32(score),
        )

    def read(self, path: str) -> torch.Tensor:
        """Return a random crop of an image."""
        return self.transform(decode(read_bytes(path)))


class PlainTier(nn.Module):
    """The published network: every image, image prompt and padded text of a batch goes through an encoder."""

    def __init__(self, architecture: str, weights: Path, bert: Path, method: str) -> None:
        super().__init__()
        self.images = timm.create_model(architecture, num_classes=0)
        self.images.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        if architecture.startswith("vit"):
            self.images.norm = nn.Identity()
        self.texts = BertModel.from_pretrained(bert)
        self.tokenizer = AutoTokenizer.from_pretrained(bert)
        self.method = method
        parts = 2 if method == "fr" else 1
        self.head = HeadNetwork(self.texts.config.hidden_size + parts * self.images.num_features)

    def forward(
        self, images: torch.Tensor, guides: torch.Tensor, guided: torch.Tensor, texts: list[str]
    ) -> torch.Tensor:
        """Return the scores (B,) of a batch."""
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=512, return_tensors="pt"
        )
        hidden = self.texts(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        text = (hidden * mask).sum(1) / mask.sum(1)
        image = self.images(images)
        if self.method == "nr":
            return self.head(torch.cat([text, image], dim=1))
        image_prompt = self.images(guides)
        if self.method == "fr":
            return self.head(torch.cat([text, image, image_prompt], dim=1))
        mean = torch.where(guided[:, None], (image + image_prompt) / 2, image)
        return self.head(torch.cat([text, mean], dim=1))


def plain(
    manifest: Manifest, target: str, encoder: ImageEncoder, weights: Path, bert: Path, method: str, steps: int
) -> list[float]:
    """Return the seconds per row of each step of the plain loop after those that warm up."""
    torch.manual_seed(0)
    data = PlainRows(manifest, target, encoder)
    network = PlainTier(encoder.preset.architecture, weights, bert, method).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=PENALTY)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=1)
    ends: list[float] = []
    for images, guides, guided, texts, scores in islice(loader, steps + WARM_UP):
        loss = nn.functional.mse_loss(network(images, guides, guided, list(texts)), scores)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(time.perf_counter())
    return _per_row(ends)


def ours(
    manifest: Manifest,
    target: str,
    image: ImageEncoder,
    text: TextEncoder,
    method: Any,
    precision: str,
    steps: int,
    folder: Path,
) -> list[float]:
    """Return the seconds per row of each step of `tier fit-head --finetune all` after those that warm up."""
    count = min((steps + WARM_UP) * BATCH, len(manifest))
    rows = np.arange(count)
    changed = {
        "channels_last": True,
        "precision": precision,
        "max_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "weight_decay": PENALTY,
    }
    recipe = finetuning_recipe("all", "published", image.preset.architecture, changed)
    ends: list[float] = []

    def progress(what: str, done: int, total: int) -> None:  # noqa: ARG001
        if what.startswith("finetune"):
            ends.append(time.perf_counter())

    head: dict[str, Any] = {"hidden": None}
    training = Finetuning(
        manifest,
        EncoderPair(image, text),
        method,
        (),
        recipe,
        head,
        "none",
        folder,
        make_accelerator("cpu"),
        progress,
    )
    split = Split(rows, rows[:0], rows[:1], seed=0)
    with keep_all_freed_memory():
        training.trials(rows_without_features(manifest), [target], [split])
    return _per_row(ends)


def sample(whole: Manifest, count: int, guided: float) -> Manifest:
    """Return rows in random order, with image prompts in this share of them."""
    has_prompt = whole.table["image_prompt"] != ""
    with_prompt = round(count * guided)
    parts = [
        whole.table[has_prompt].sample(with_prompt, random_state=0),
        whole.table[~has_prompt].sample(count - with_prompt, random_state=0),
    ]
    shuffled = pd.concat(parts).sample(frac=1, random_state=0)
    return replace(whole, table=shuffled.reset_index(drop=True))


def _per_row(ends: list[float]) -> list[float]:
    return [(end - start) / BATCH for start, end in pairwise(ends[WARM_UP - 1 :])]


def measure(
    arguments: argparse.Namespace,
    process: ProcessPoolExecutor,
    manifest: Manifest,
    folder: Path,
) -> dict[str, list[float]]:
    """Return the seconds per row of every step of each way."""
    target = manifest.targets[0]
    weights, bert = random_weights(arguments.encoder, folder)
    image = find_image_encoder(ImageChoice(arguments.encoder), weights)
    text = find_text_encoder("bert-base-uncased", bert)
    method = arguments.method
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(arguments.rounds):
        task = (plain, manifest, target, image, weights, bert, method, arguments.plain_steps)
        times["plain"] += process.submit(*task).result()
        for precision in WAYS[1:]:
            run = folder / f"{precision}-{number}"
            times[precision] += ours(manifest, target, image, text, method, precision, arguments.steps, run)
        medians = {way: f"{median(seconds):.3f}" for way, seconds in times.items()}
        print("seconds per row so far:", medians, flush=True)
    return times


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="data set in the PKU-AIGIQA-4K layout")
    parser.add_argument("--encoder", default="resnet50", help="image encoder, such as resnet50 or vit")
    parser.add_argument("--method", default="pr", choices=["nr", "pr"])
    parser.add_argument(
        "--guided", type=float, default=0.4, help="share of the rows that have an image prompt"
    )
    parser.add_argument("--steps", type=int, default=12, help="of ours, in each round")
    parser.add_argument("--plain-steps", type=int, default=4, help="of the plain loop, in each round")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    process = plain_process()
    with process_policy(), tempfile.TemporaryDirectory() as name:
        whole = check(arguments.data).manifest.select("all")
        manifest = sample(whole, (arguments.steps + WARM_UP) * BATCH, arguments.guided)
        times = measure(arguments, process, manifest, Path(name))
    result: dict[str, str | float] = {
        "encoder": arguments.encoder,
        "method": arguments.method,
        "guided_rows": float((manifest.table["image_prompt"] != "").mean()),
    }
    for way in WAYS:
        result[f"seconds_per_row_{way}"] = round(median(times[way]), 4)
    for way in WAYS[1:]:
        result[f"ratio_{way}"] = median(times["plain"]) / median(times[way])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
