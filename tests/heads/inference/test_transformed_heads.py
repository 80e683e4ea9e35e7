"""A run with transforms of image features and scores predicts the same wherever its heads are used."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tier4k import load
from tier4k.heads.encoders.sources import encoder_sources
from tier4k.heads.inference.onnx import HeadsModule, export_onnx
from tier4k.heads.results.read import read_config
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import DATA, ENCODERS, arrays, assert_scores_are, read_scores, succeed

TRANSFORMS = ["--set", "transform=sqrt", "--set", "target_transform=rank-gauss"]
HEADS = {
    "ridge": ["--method", "fr", "--benchmark", "I2I", "--set", "leave_out=group"],
    "gated": ["--epochs", "3"],
    "kernel-ridge": ["--set", "leave_out=group", "--set", "length_scales=0.5,1"],
    "kernel-ridge with a kernel per stream": ["--set", "kernels=streams+product"],
    "ensemble": ["--set", "members=ridge,mlp"],
}


def fit(entry: str) -> Path:
    """Fit a run with both transforms and return its folder; the first word of the entry is the head."""
    options = ["--split", "random", "--repeats", "2", "--out", "transformed", *ENCODERS, *TRANSFORMS]
    succeed("fit-head", "Dataset", "--head", entry.split()[0], *options, *HEADS[entry])
    (run,) = Path("transformed").iterdir()
    return run


@pytest.mark.parametrize("head", HEADS)
def test_predict_and_the_metric_give_the_scores_of_the_runs_predictions(fitted_copy: Path, head: str) -> None:
    annotation = pd.read_excel(DATA / "annotation.xlsx")
    if head == "ridge":
        annotation = annotation[annotation["Image_prompt"].notna()]
        annotation.to_excel(DATA / "annotation.xlsx", index=False)
    run = fit(head)
    options = read_config(run).head
    assert (options["image_transform"], options["target_transform"]) == ("sqrt", "rank-gauss")
    predictions = pd.read_csv(run / "predictions.csv")
    for repeat, expected in predictions.groupby("repeat"):
        succeed("predict", str(run), "Dataset", "--repeat", str(repeat), "-o", "scores.csv")
        assert_scores_are(read_scores("scores.csv"), expected)
    row = annotation.iloc[0]
    image_prompt = DATA / "I2I" / "Image_prompt" / str(row["Image_prompt"])
    found = load(run, target="MOS_a", repeat=1).score(
        DATA / "All" / row["Generated_image"], row["Text_prompt"], image_prompt
    )
    (score,) = read_scores("scores.csv").query("name == @row.Generated_image and target == 'MOS_a'")["score"]
    assert found == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("head", ["ridge", "gated"])
def test_the_onnx_module_gives_the_scores_of_the_heads(fitted_copy: Path, head: str) -> None:
    model = read_model(fit(head))
    method = ["--method", "fr", "--benchmark", "I2I"] if head == "ridge" else []
    succeed("features", "Dataset", "-o", "fused.npz", *ENCODERS, *method)
    X = arrays("fused.npz")["X"]
    X = np.concatenate([X, 5 * X - 3])  # beyond the training rows too
    expected = []
    for target in model.targets:
        heads = [one for (name, _), one in model.heads.items() if name == target]
        expected.append(np.mean([one.predict(X) for one in heads], axis=0))
    found = HeadsModule(model)(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_exported_onnx_file_gives_the_scores_of_predict(fitted_copy: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    run = fit("gated")
    (source,) = encoder_sources(read_model(run))
    assert export_onnx(source, Path("onnx"))["head"] < 1e-4
    succeed("features", "Dataset", "-o", "fused.npz", *ENCODERS)
    session = onnxruntime.InferenceSession("onnx/head.onnx")
    (found,) = session.run(None, {"fused": arrays("fused.npz")["X"]})
    succeed("predict", str(run), "Dataset", "-o", "scores.csv")
    expected = read_scores("scores.csv")["score"].to_numpy().reshape(found.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)
