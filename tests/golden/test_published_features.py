"""Our features and predictions are those of the published TIER-4K code, through the public commands."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tier4k import cli
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.tests.builders.golden import fill

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "resnet18_tinybert.npz")
ENCODERS = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("method", "rows"), [("nr", 12), ("fr", 6), ("pr", 12)])
def test_features_and_predictions_equal_the_published_ones(project: Path, method: str, rows: int) -> None:
    result = CliRunner().invoke(
        cli.app, ["features", "Dataset", "--method", method, "-o", "X.npz", *ENCODERS]
    )
    assert result.exit_code == 0, result.output
    with np.load("X.npz") as file:
        fused = file["X"]
    assert fused.shape == (rows, GOLDEN[f"{method.upper()}_features"].shape[1])
    assert relative(fused, GOLDEN[f"{method.upper()}_features"]) < 1e-5  # 1e-4 is asked for

    weights = fill(HeadNetwork(fused.shape[1]).state_dict(), 72)
    head = MLPHead.from_weights({name: tensor.numpy() for name, tensor in weights.items()})
    assert relative(head.predict(fused), GOLDEN[f"{method.upper()}_predictions"]) < 1e-4


def test_the_head_in_torch_and_the_estimator_agree() -> None:
    fused = GOLDEN["NR_features"]
    network = HeadNetwork(fused.shape[1])
    network.load_state_dict(fill(network.state_dict(), 72))
    with torch.inference_mode():
        expected = network(torch.from_numpy(fused)).numpy()
    head = MLPHead.from_weights({name: tensor.numpy() for name, tensor in network.state_dict().items()})
    np.testing.assert_allclose(head.predict(fused), expected, rtol=1e-4, atol=1e-5)
