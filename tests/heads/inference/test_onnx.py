"""ONNX files of heads and encoders give the scores of the originals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.extract.pipeline.given_images import as_image
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.data.streams import Streams
from tier4k.heads.encoders.sources import encoder_sources
from tier4k.heads.inference.onnx import HeadsModule, OnnxError, export_onnx
from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.results.model import Model
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import DATA, read_scores, succeed
from tier4k.tests.builders.preprocessed import preprocessed

onnxruntime = pytest.importorskip("onnxruntime")


def model(*heads: RidgeHead | MLPHead) -> Model:
    """Return a model of two heads for MOS_q and the others for MOS_a."""
    fitted = {}
    for number, head in enumerate(heads):
        target = "MOS_q" if number < 2 else "MOS_a"
        fitted[target, number] = head
    return Model(Path(), "nr", "mlp", {}, {}, (), fitted, {}, {})


STREAMS = Streams.of(text=3, image=5)

OPTIONS = [
    {},
    {"fusion": "gated"},
    {"fusion": "bilinear", "activation": "gelu"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_module_of_several_heads_gives_the_mean_for_each_target(options: dict[str, object]) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 8))
    y = random.normal(size=40)
    ridge = RidgeHead().fit(X, y)
    first = MLPHead(hidden=4, max_epochs=2, random_state=0, **options).fit(X, y, streams=STREAMS)
    second = MLPHead(hidden=4, max_epochs=2, random_state=1, **options).fit(X, y, streams=STREAMS)
    module = HeadsModule(model(ridge, first, second))
    found = module(torch.from_numpy(X.astype(np.float32))).numpy()
    expected = [(ridge.predict(X) + first.predict(X)) / 2, second.predict(X)]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("head", [SVRHead(), KernelRidgeHead(kernels="streams")], ids=["svr", "streams"])
def test_heads_that_keep_training_rows_are_refused(head: SVRHead | KernelRidgeHead) -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(OnnxError, match="Head predicts from stored training rows"):
        HeadsModule(model(head.fit(X, X[:, 0])))  # type: ignore[arg-type]


def run_onnx(name: str, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(Path("model/onnx") / f"{name}.onnx")
    return session.run(None, inputs)[0]


@pytest.mark.slow
def test_the_exported_onnx_files_together_score_an_image(fitted_copy: Path) -> None:
    output = succeed("export", "runs/nr", "model", "--onnx")
    assert "head.onnx: outputs differ from torch by" in output
    image = next((DATA / "All").iterdir())
    succeed("predict", "runs/nr", str(image), "--prompt", "a thing", "-o", "scores.csv")
    (source,) = encoder_sources(read_model(Path("runs/nr")))
    (image_encoder,), (text_encoder,) = source.images.values(), source.texts.values()
    pixels = preprocessed(image_encoder.preprocessing, as_image(image)[0])[None].numpy()
    tokens = load_network(text_encoder).tokenize(["a thing"])
    text_features = run_onnx("text", ids=tokens.ids.numpy(), mask=tokens.mask.numpy())
    image_features = run_onnx("image", images=pixels)
    fused = np.concatenate([text_features, image_features], axis=1)
    scores = run_onnx("head", fused=fused)[0]
    np.testing.assert_allclose(scores, read_scores("scores.csv")["score"], atol=1e-4)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, fitted_project: Path) -> None:
    monkeypatch.chdir(fitted_project)
    (source,) = encoder_sources(read_model(Path("runs/nr")))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OnnxError, match=r"onnx, onnxruntime, onnxscript: run pip install 'tier4k\[onnx\]'"):
        export_onnx(source, Path("never"))
