"""ImageReward and BLIPScore equal the published code at full size, through the command line (1.8 GB each)."""

import gc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import tier4k
from tier4k import cli
from tier4k.heads.results.read import read_predictions
from tier4k.tests.builders.golden import fill, write_dataset
from tier4k.tests.builders.published_scorers import published_shapes

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "scorers.npz")


def write_checkpoint(path: Path, reward: bool) -> None:
    """ImageReward.pt, or BLIP's pre-training checkpoint, with the positions that both carry, filled by the
    formula.
    """
    state = fill(
        {name: torch.empty(shape, device="meta") for name, shape in published_shapes(reward).items()}, 72
    )
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    if not reward:
        state = {name.removeprefix("blip."): tensor for name, tensor in state.items()}
    torch.save(state if reward else {"model": state}, path)


def rewards_of_dataset(scorer: str) -> np.ndarray:
    """The rewards of all rows by `tier4k.reward`, in the order of the table."""
    folder = Path("Dataset/PKU-AIGIQA-4K")
    table = pd.read_excel(folder / "annotation.xlsx")
    images = [Image.open(folder / "All" / name) for name in table["Generated_image"]]
    reward = tier4k.reward(scorer, device="cpu")
    return reward(images=images, prompts=table["Text_prompt"].tolist()).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scorer", "file", "golden"),
    [("imagereward", "ImageReward.pt", "ImageReward"), ("blipscore", "model_large.pth", "BLIPScore")],
)
def test_scores_equal_the_published_ones(
    scorer: str, file: str, golden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").mkdir()
    write_checkpoint(tmp_path / "pretrained" / file, reward=scorer == "imagereward")
    write_dataset(tmp_path / "Dataset" / "PKU-AIGIQA-4K")
    try:
        arguments = [
            "score",
            "Dataset",
            "--scorer",
            scorer,
            "--split",
            "random",
            "--repeats",
            "1",
            "--target",
            "MOS_q",
            "--workers",
            "0",
        ]
        result = CliRunner().invoke(cli.app, [*arguments, "--device", "cpu"])
        assert result.exit_code == 0, result.output
        rewards = rewards_of_dataset(scorer)
    finally:
        (tmp_path / "pretrained" / file).unlink()
        gc.collect()
    found = read_predictions(next((tmp_path / "runs").glob("zero-shot-*-whole-*")))["prediction"].to_numpy()
    np.testing.assert_allclose(found, GOLDEN[golden], rtol=1e-4)  # 1e-3 is asked for
    np.testing.assert_allclose(rewards, GOLDEN[golden], rtol=1e-4)
