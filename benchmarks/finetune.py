"""End-to-end training against a plain implementation of the published loop, on the same rows from the same random weights.

    python benchmarks/finetune.py Dataset --encoder resnet50 [--method pr] [--guided 0.4] [--steps 12] [--plain-steps 4]

The plain loop does for every row of a batch what the published code does: it encodes the picture, the image prompt (zeros where there is
none) and the text prompt padded to 512 tokens, all in training mode, and updates with `torch.optim.Adam` as it is by default. Ours is
`tier fit-head --finetune all --recipe published` with the channels innermost: batch normalisation and dropout in training mode, Adam, the
same loss. Both read crops and flips at random, ours from pictures that it has decoded before, the plain loop with a worker process. Times
are medians over steps after the first two; neither holds loading or decoding. The two ways alternate, each in a process of its own. As in
PKU-AIGIQA-4K, 40 % of the rows have an image prompt.

The last line is one JSON object: seconds per row of each way, and their ratios.
"""

import argparse
import json
import sys
import tempfile
import time
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

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # before this folder, where this file hides the packages
from benchmarks.extract import plain_process, random_weights
from tier4k.extract.datasets.check import load_manifest
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.images.decode import decode, read_bytes
from tier4k.extract.images.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tier4k.heads.data.features import rows_alone
from tier4k.heads.data.splits import Split
from tier4k.heads.finetuning.distributed import make_accelerator
from tier4k.heads.finetuning.finetune import Finetuning
from tier4k.heads.finetuning.recipe import finetune_recipe
from tier4k.heads.regressors.mlp.stack import HeadNetwork

BATCH = 8
WARM_UP = 2  # steps that do not count
LEARNING_RATE, PENALTY = 1e-4, 1e-5
WAYS = ("plain", "fp32", "bf16")


class PlainRows(Dataset):
    """Rows as the published code reads them in training: picture, image prompt or zeros, text, score."""

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
        """A random view of a picture."""
        return self.transform(decode(read_bytes(Path(path))))


class PlainTier(nn.Module):
    """The published network: every picture, every image prompt and every padded text of a batch goes through an encoder."""

    def __init__(self, architecture: str, weights: Path, bert: Path, method: str) -> None:
        super().__init__()
        self.images = timm.create_model(architecture, num_classes=0)
        self.images.load_state_dict(torch.load(weights, weights_only=True), strict=False)
        if architecture.startswith("vit"):
            self.images.norm = nn.Identity()
        self.texts, self.tokenizer, self.method = (
            BertModel.from_pretrained(bert),
            AutoTokenizer.from_pretrained(bert),
            method,
        )
        parts = 2 if method == "fr" else 1
        self.head = HeadNetwork(self.texts.config.hidden_size + parts * self.images.num_features)

    def forward(
        self, pictures: torch.Tensor, prompts: torch.Tensor, guided: torch.Tensor, texts: list[str]
    ) -> torch.Tensor:
        """Scores of a batch."""
        tokens = self.tokenizer(
            texts, padding="max_length", truncation=True, max_length=512, return_tensors="pt"
        )
        hidden, mask = self.texts(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
        text, image = (hidden * mask).sum(1) / mask.sum(1), self.images(pictures)
        if self.method == "nr":
            return self.head(torch.cat([text, image], dim=1))
        image_prompt = self.images(prompts)
        if self.method == "fr":
            return self.head(torch.cat([text, image, image_prompt], dim=1))
        mean = torch.where(guided[:, None], (image + image_prompt) / 2, image)
        return self.head(torch.cat([text, mean], dim=1))


def plain(
    manifest: Manifest, target: str, encoder: ImageEncoder, weights: Path, bert: Path, method: str, steps: int
) -> list[float]:
    """Seconds per row of each of some steps of the plain loop that are not warming up."""
    torch.manual_seed(0)
    data = PlainRows(manifest, target, encoder)
    network = PlainTier(encoder.preset.architecture, weights, bert, method).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=PENALTY)
    loader, ends = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=1), list[float]()
    for pictures, prompts, guided, texts, scores in islice(loader, steps + WARM_UP):
        loss = nn.functional.mse_loss(network(pictures, prompts, guided, list(texts)), scores)
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
    """Seconds per row of each of some steps of `tier fit-head --finetune all`."""
    count = min((steps + WARM_UP) * BATCH, len(manifest))
    rows = np.arange(count)
    changed = {
        "channels_last": True,
        "precision": precision,
        "max_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "weight_decay": PENALTY,
    }
    recipe = finetune_recipe("all", "published", image.preset.architecture, changed)
    ends: list[float] = []

    def progress(what: str, done: int, total: int) -> None:  # noqa: ARG001
        if what.startswith("finetune"):
            ends.append(time.perf_counter())

    head: dict[str, Any] = {"hidden": None}
    training = Finetuning(
        manifest, image, text, method, recipe, head, "none", folder, make_accelerator("cpu"), progress
    )
    training.trials(rows_alone(manifest), [target], [Split(rows, rows[:0], rows[:1], seed=0)])
    return _per_row(ends)


def sample(whole: Manifest, count: int, guided: float) -> Manifest:
    """Rows in random order, with image prompts in this share."""
    has, with_prompt = whole.table["image_prompt"] != "", round(count * guided)
    parts = [
        whole.table[rows].sample(size, random_state=0)
        for rows, size in ((has, with_prompt), (~has, count - with_prompt))
    ]
    return replace(whole, table=pd.concat(parts).sample(frac=1, random_state=0).reset_index(drop=True))


def _per_row(ends: list[float]) -> list[float]:
    return [(end - start) / BATCH for start, end in pairwise(ends[WARM_UP - 1 :])]


def main() -> None:
    """Measure and print."""
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
    arguments = parser.parse_args()
    process = plain_process()
    whole = load_manifest(arguments.data).manifest.select("all")
    manifest, target = sample(whole, (arguments.steps + WARM_UP) * BATCH, arguments.guided), whole.targets[0]
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights, bert = random_weights(arguments.encoder, folder)
        image = find_image_encoder(ImageChoice(arguments.encoder), weights)
        text = find_text_encoder("bert-base-uncased", bert)
        for number in range(arguments.rounds):
            task = (plain, manifest, target, image, weights, bert, arguments.method, arguments.plain_steps)
            times["plain"] += process.submit(*task).result()
            for precision in WAYS[1:]:
                run = folder / f"{precision}-{number}"
                times[precision] += ours(
                    manifest, target, image, text, arguments.method, precision, arguments.steps, run
                )
            print(
                "seconds per row so far:",
                {way: f"{median(seconds):.3f}" for way, seconds in times.items()},
                flush=True,
            )
    per_row = {way: median(seconds) for way, seconds in times.items()}
    ratios = {f"ratio_{way}": per_row["plain"] / per_row[way] for way in WAYS[1:]}
    about = {
        "encoder": arguments.encoder,
        "method": arguments.method,
        "guided_rows": float((manifest.table["image_prompt"] != "").mean()),
    }
    print(
        json.dumps(
            about | {f"seconds_per_row_{way}": round(seconds, 4) for way, seconds in per_row.items()} | ratios
        )
    )


if __name__ == "__main__":
    main()
