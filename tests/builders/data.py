"""Writes small data sets in every layout and small weights; what a test changes in them it changes itself."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image

from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.images.preprocessing import reference
from tier4k.extract.weights.files import file_weights

PKU_COLUMNS = ("Generated_image", "Image_prompt", "Text_prompt", "MOS_q", "MOS_a", "MOS_c")


def make_picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth coloured picture with some noise, size (width, height), different for every seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse, dtype=float) + random.normal(0, 5, (size[1], size[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def save_picture(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """Write `make_picture` in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_picture(seed, size).save(path)


def save_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as .csv, .xlsx or .parquet, as the path says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write = {".csv": frame.to_csv, ".xlsx": frame.to_excel, ".parquet": frame.to_parquet}[path.suffix]
    write(path, index=False)
    return path


def write_pku(root: Path, rows: int = 8, image_to_image: int = 4, seed: int = 0) -> pd.DataFrame:
    """The PKU-AIGIQA-4K layout in `root`; two neighbours share a prompt. Returns the annotation."""
    scores = np.random.default_rng(seed).uniform(0.5, 4.5, (rows, 3)).round(4)
    lines = []
    for row in range(rows):
        guided, prompt = row < image_to_image, row // 2
        name, image_prompt = (
            f"{('MJ', 'DALLE')[row % 2]}_{1000 + prompt}_{row:02d}.png",
            f"{prompt}.png" if guided else None,
        )
        save_picture(root / "All" / name, 1000 * seed + row, (40 + row, 30))
        if image_prompt:
            save_picture(root / "I2I" / "Image_prompt" / image_prompt, 1000 * seed + 500 + prompt)
        lines.append((name, image_prompt, f"prompt number {prompt} of {seed}", *scores[row]))
    frame = pd.DataFrame(lines, columns=list(PKU_COLUMNS))
    save_table(frame, root / "annotation.xlsx")
    return frame


def write_agiqa(root: Path, rows: int = 4, pictures: str = ".") -> pd.DataFrame:
    """The AGIQA-3K layout in `root`, its pictures in the folder `pictures` below. Returns the table."""
    names = [f"{('AttnGAN', 'sd1.5')[row % 2]}_normal_{row:03d}.png" for row in range(rows)]
    for row, name in enumerate(names):
        save_picture(root / pictures / name, row)
    prompts = [f"a thing, numbered {row // 2}" for row in range(rows)]
    scores = {"mos_quality": np.arange(rows) / 2 + 0.25, "mos_align": np.arange(rows) / 4 + 1.0}
    frame = pd.DataFrame({"name": names, "prompt": prompts, "adj1": "", **scores})
    save_table(frame, root / "data.csv")
    return frame


def table_rows(
    names: Sequence[str] = ("MJ_0.png", "MJ_1.png", "SD_2.png"), **columns: Sequence[object]
) -> pd.DataFrame:
    """A generic table with distinct prompts and a score, further columns as given."""
    frame = pd.DataFrame(
        {
            "image": names,
            "prompt": [f"prompt {row}" for row in range(len(names))],
            "mos": np.arange(len(names)) + 0.5,
        }
    )
    return frame.assign(**columns)


def write_table(path: Path, frame: pd.DataFrame | None = None) -> Path:
    """A generic table at `path`, with a picture for every name that stays in its folder. Returns the path."""
    frame = table_rows() if frame is None else frame
    folder = path.parent.resolve()
    for seed, name in enumerate(frame["image"].astype(str)):
        if Path(name).suffix and (folder / name).resolve().is_relative_to(folder):
            save_picture(folder / name, seed)
    return save_table(frame, path)


def write_state(architecture: str, path: Path, seed: int = 0) -> Path:
    """Random weights of a timm architecture, classifier included, as a plain PyTorch state dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = timm.create_model(architecture).state_dict()
        # Vectors of a new network are zeros and ones, which would hide how they are used.
        for name, tensor in state.items():
            if tensor.ndim == 1 and tensor.is_floating_point():
                positive = name.endswith(("weight", "running_var", "gamma"))
                tensor.copy_(0.5 + torch.rand(tensor.shape) if positive else 0.1 * torch.randn(tensor.shape))
        torch.save(state, path)
    return path


def tiny_encoder(
    folder: Path, architecture: str = "test_resnet", feature: str = "pooled", seed: int = 0
) -> ImageEncoder:
    """An image encoder of some 300,000 random weights: CNNs get 64 pixels, transformers 160."""
    side = 160 if "vit" in architecture else 64
    preset = replace(
        image_preset(f"timm:{architecture}"), feature=feature, reference=reference(side, side + 8)
    )
    weights = file_weights(write_state(architecture, folder / f"{architecture}.pth", seed), "test")
    return ImageEncoder(preset, weights, preset.reference)


def write_test_resnet(project: Path) -> list[str]:
    """Random weights of a very small ResNet in a project folder with `bert-base-uncased/`; the options that
    name both encoders.
    """
    write_state("test_resnet", project / "test_resnet.pth")
    return [
        "--image-encoder",
        "timm:test_resnet",
        "--image-weights",
        "test_resnet.pth",
        "--text-encoder",
        "bert-base-uncased",
    ]
