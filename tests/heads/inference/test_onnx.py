"""ONNX files of heads and encoders give the scores of the originals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.extract.pipeline.load import load_network
from tier4k.heads.encoders.sources import sources
from tier4k.heads.inference.onnx import HeadsModule, OnnxError, export_onnx
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.results.model import Model, read_model
from tier4k.tests.heads.commands.test_commands import DATA, tier
from tier4k.tests.heads.inference.test_predict import scores

onnxruntime = pytest.importorskip("onnxruntime")


def model(*heads: RidgeHead | MLPHead) -> Model:
    fitted = {("MOS_q" if number < 2 else "MOS_a", number): head for number, head in enumerate(heads)}
    return Model(Path(), "nr", "mlp", {}, {}, (), fitted, {}, {})


@pytest.mark.parametrize(
    "options",
    [{}, {"fusion": "gated", "text_width": 3}, {"fusion": "bilinear", "text_width": 3, "activation": "gelu"}],
)
def test_the_module_of_several_heads_is_their_mean_by_target(options: dict[str, object]) -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(40, 8)), random.normal(size=40)
    heads = [
        RidgeHead().fit(X, y),
        *(MLPHead(hidden=4, max_epochs=2, random_state=seed, **options).fit(X, y) for seed in (0, 1)),
    ]
    found = HeadsModule(model(*heads))(torch.from_numpy(X.astype(np.float32))).numpy()
    expected = [(heads[0].predict(X) + heads[1].predict(X)) / 2, heads[2].predict(X)]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-5)


def test_heads_that_keep_training_rows_are_refused() -> None:
    from tier4k.heads.regressors.kernel import SVRHead

    X = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(OnnxError, match="SVRHead keeps training rows"):
        HeadsModule(model(SVRHead().fit(X, X[:, 0])))  # type: ignore[arg-type]


@pytest.mark.slow
def test_an_exported_chain_of_onnx_files_scores_a_picture(fitted_copy: Path) -> None:
    code, output = tier("export", "runs/nr", "model", "--onnx")
    assert code == 0 and "head.onnx: differs from torch by" in output, output
    picture = next((DATA / "All").iterdir())
    assert tier("predict", "runs/nr", str(picture), "--prompt", "a thing", "-o", "scores.csv")[0] == 0
    (source,) = sources(read_model(Path("runs/nr")))
    from tier4k.extract.pipeline.live import as_image

    prepared = source.image.preprocessing.transform()(as_image(picture)[0])[None].numpy()
    tokens = load_network(source.text).tokenize(["a thing"])

    def run(name: str, **inputs: np.ndarray) -> np.ndarray:
        return onnxruntime.InferenceSession(Path("model/onnx") / f"{name}.onnx").run(None, inputs)[0]

    fused = np.concatenate(
        [run("text", ids=tokens.ids.numpy(), mask=tokens.mask.numpy()), run("image", pictures=prepared)],
        axis=1,
    )
    np.testing.assert_allclose(run("head", fused=fused)[0], scores("scores.csv")["score"], atol=1e-4)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, fitted_project: Path) -> None:
    monkeypatch.chdir(fitted_project)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OnnxError, match=r"onnx, onnxruntime, onnxscript: pip install 'tier4k\[onnx\]'"):
        export_onnx(sources(read_model(Path("runs/nr")))[0], Path("never"))
