"""Interactions on the command line, from a small checkpoint with two towers to runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf

from tier4k.extract.encoders.templates import read_templates
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import arrays, on_one_line, succeed, tier
from tier4k.tests.builders.data import write_pku
from tier4k.tests.builders.text_models import library_inputs, write_text_folder
from tier4k.tests.builders.transformers_models import few_fast

TOWERS = ["--encoder", "hf:towers"]
TEXTS = list(read_templates(None).texts)
ROWS = 16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with rows of which half have image prompts."""
    monkeypatch.chdir(tmp_path)
    write_pku(tmp_path / "data", ROWS, ROWS // 2)
    return tmp_path


def similarities(kind: str, prompts: list[str], paths: list[Path]) -> np.ndarray:
    """Cosines (N, P + T) of images to prompts and templates: the logits of the library's own model."""
    tokens, images = library_inputs(Path("towers"), kind, [*prompts, *TEXTS], paths)
    model = hf.AutoModel.from_pretrained("towers").eval()
    with torch.inference_mode():
        logits = model(**tokens, **images).logits_per_image
        bias = getattr(model, "logit_bias", 0)
        return ((logits - bias) / model.logit_scale.exp()).numpy()


@pytest.mark.parametrize("kind", few_fast("clip", names=("clip", "siglip")))
def test_cosines_are_those_of_the_library_for_a_checkpoint(folder: Path, kind: str) -> None:
    write_text_folder(Path("towers"), kind)
    succeed("extract", "data", *TOWERS, "--workers", "0")
    interaction = ["--interaction", "templates+cosine+image-prompt"]
    succeed("features", "data", "-o", "X.npz", *TOWERS, "--streams", "image", *interaction)
    succeed("features", "data", "-o", "image.npz", *TOWERS, "--streams", "image", "--method", "pr")
    matrix = arrays("X.npz")
    own = matrix["X"][:, -12:]
    paths = [folder / "data" / "All" / name for name in matrix["name"]]
    prompts = [f"prompt number {row // 2} of 0" for row in range(ROWS)]
    expected = similarities(kind, prompts, paths)
    np.testing.assert_allclose(own[:, 0], np.diag(expected), atol=1e-5)
    np.testing.assert_allclose(own[:, 1:-1], expected[:, ROWS:], atol=1e-5)
    # The image stream of PR is the mean of image and image prompt.
    image = matrix["X"][:, :-12].astype(float)
    prompt = 2 * arrays("image.npz")["X"] - image
    cosines = (image * prompt).sum(1) / np.linalg.norm(image, axis=1) / np.linalg.norm(prompt, axis=1)
    np.testing.assert_allclose(own[:, -1], cosines, atol=1e-5)
    np.testing.assert_allclose(own[ROWS // 2 :, -1], 1, atol=1e-6)


@pytest.mark.slow
def test_heads_and_sweeps_take_interactions_and_other_templates(folder: Path) -> None:
    write_text_folder(Path("towers"), "clip")
    extract = ["extract", "data", *TOWERS, "--workers", "0"]
    succeed(*extract)
    fit = ["fit-head", "data", *TOWERS, "--head", "ridge", "--split", "random", "--repeats", "1"]
    succeed(*fit, "--streams", "image", "--set", "interaction=product+cosine")
    (run,) = Path("runs").iterdir()
    model = read_model(run)
    assert model.interaction == "cosine+product"
    assert set(model.signatures) == {"image", "text"}
    Path("own.toml").write_text('quality = ["sharp", "blurred"]\nagreement = ["as described"]\n')
    chosen = [*fit, "--set", "interaction=templates", "--templates", "own.toml"]
    code, output = tier(*chosen)
    assert code == 2
    assert "no features of 3 of 3 templates, first 'sharp': run `tier extract data --encoder" in on_one_line(
        output
    )
    succeed(*extract, "--templates", "own.toml")
    succeed(*chosen)
    newest = max(Path("runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert read_model(newest).templates == ("sharp", "blurred", "as described")
    Path("grid.toml").write_text(
        'head = "ridge"\nsplit = "random"\nrepeats = 1\ntarget = "MOS_q"\nmethod = ["nr", "pr"]\n'
        'interaction = ["none", "templates", "product+cosine", "cosine+product"]\n'
    )
    succeed("sweep", "data", *TOWERS, "--grid", "grid.toml", "--out", "swept", "--templates", "own.toml")
    assert len(list(Path("swept").iterdir())) == 6


WRONG = {
    "--set interaction=cosin": "interaction is 'cosin', which is not valid: use none, or some of cosine",
    "--set interaction=cosine --templates own.toml": "no image is compared with templates",
    "--set interaction=cosine": "features has no image features of --image-encoder hf:towers",
}


@pytest.mark.parametrize("options", WRONG)
def test_a_request_that_cannot_be_met_ends_with_the_remedy(folder: Path, options: str) -> None:
    code, output = tier("fit-head", "data", *TOWERS, *options.split())
    assert (code, WRONG[options] in on_one_line(output)) == (2, True), output
    assert not Path("runs").exists()
