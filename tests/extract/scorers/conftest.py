"""Small weights of every scorer, and a small data set to score."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.scorers import find
from tier4k.tests.builders.data import save_picture, save_table
from tier4k.tests.builders.scorers import write_blip_folder, write_clip, write_image_reward, write_model_large

LONG_PROMPT = "a very long prompt, " * 12  # more than 77 tokens of the small tokenizer, and than 35 words
SIZES = [(64, 64), (71, 67), (40, 51), (90, 33)]  # after scaling to 32, margins of 0, 1, 8 and 55 pixels


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not looked for in the hub's cache of whoever runs the tests."""
    monkeypatch.setattr(find, "from_hub", lambda *_: None)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small weights of every scorer, as published."""
    folder = tmp_path_factory.mktemp("scorers")
    blip = write_blip_folder(folder / "blip", 3)
    return {
        "clipscore": write_clip(folder / "clip", 1),
        "pickscore": write_clip(folder / "pick", 2),
        "blipscore": write_model_large(folder / "model_large.pth", blip),
        "imagereward": write_image_reward(folder / "ImageReward.pt", blip),
        "blip folder": blip,
    }


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Nine rows of four images and three prompts; the last row repeats the first pair under another name."""
    folder = tmp_path_factory.mktemp("data")
    prompts = ["a red fox", LONG_PROMPT, "two paper boats"]
    names = [f"MJ_{row}.png" for row in range(9)]
    for row, name in enumerate(names):
        save_picture(folder / name, row % 4, SIZES[row % 4])
    shutil.copy(folder / names[0], folder / names[8])
    row_prompts = [*prompts, *prompts, *prompts[:2], prompts[0]]
    frame = pd.DataFrame({"image": names, "prompt": row_prompts, "mos": np.arange(9.0)})
    return check(save_table(frame, folder / "t.csv")).manifest
