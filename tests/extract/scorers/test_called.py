"""Scorers of other packages: their values are those of a direct call, and their versions are known."""

import sys
from email.message import Message
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tier4k
from tier4k.cache.errors import TierError
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.pipeline.loaded_scorers import LiveScorers
from tier4k.extract.plugins.find import PluginError
from tier4k.extract.scorers.called import CalledScorer, depends_on_prompts
from tier4k.extract.scorers.called_network import CalledNetwork
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.from_signature import scorer_of
from tier4k.tests.builders.data import save_table
from tier4k.tests.builders.scores import score

SIZES = [(40, 50), (64, 48), (40, 50), (64, 48), (33, 90)]
MODULE = """
class Prompted:
    name = "prompted"
    version = "1"

    def __call__(self, images, prompts):
        return [float(image.mean()) + len(prompt) for image, prompt in zip(images, prompts)]
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Manifest:
    """A table of pictures of several sizes: one is turned by its EXIF orientation, one transparent."""
    random = np.random.default_rng(0)
    names = []
    for number, (width, height) in enumerate(SIZES):
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        exif = Image.Exif()
        if number == 3:
            exif[0x0112] = 6
        if number == 4:
            image.putalpha(Image.fromarray(random.integers(0, 256, (height, width), np.uint8)))
        names.append(f"{number}.png")
        image.save(tmp_path / names[-1], exif=exif)
    frame = pd.DataFrame({"image": names, "prompt": ["a", "bb", "a", "c", "d"], "mos": 1.0})
    return check(save_table(frame, tmp_path / "t.csv")).manifest


def as_tensors(manifest: Manifest) -> list[Tensor]:
    """The pictures as tensors (1, 3, H, W) from 0 to 1, upright and over white, by Pillow alone."""
    tensors = []
    for place in manifest.table["image"]:
        with Image.open(place) as image:
            turned = Image.new("RGBA", image.size, "white")
            turned.alpha_composite(image.convert("RGBA"))
            upright = turned.rotate(-90, expand=True) if image.getexif().get(0x0112) == 6 else turned
        pixels = np.asarray(upright.convert("RGB"), np.float32) / 255
        tensors.append(torch.from_numpy(pixels.transpose(2, 0, 1))[None])
    return tensors


def columns_of(
    name: str, manifest: Manifest, root: Path, lower_is_better: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Scores through an extraction, and of the same scorer in memory."""
    scorer = find_scorer(name, lower_is_better=lower_is_better)
    stored, _ = score(manifest, scorer, root)
    live = LiveScorers([scorer], "cpu", batch_size=2)
    in_memory = live.scores(manifest.table["image"].tolist(), manifest.table["prompt"].tolist())
    assert in_memory is not None
    return stored, in_memory[:, 0]


class FakeMetric(nn.Module):
    """A metric as pyiqa makes one: its score is not that of a mean over a batch."""

    lower_better = True

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0].std(dim=(1, 2)) * len(images) ** 2


@pytest.fixture
def fake_pyiqa(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pyiqa")
    module.list_models = lambda **_: ["fid", "clipscore", "piqe", "musiq"]  # type: ignore[attr-defined]
    module.create_metric = lambda _, device: FakeMetric().to(device)  # type: ignore[attr-defined]
    about = Message()
    for field, value in (("Version", "0.1.16"), ("License-Expression", "PolyForm-Noncommercial-1.0.0")):
        about[field] = value
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    monkeypatch.setattr(metadata, "metadata", lambda _: about)


@pytest.mark.usefixtures("fake_pyiqa")
def test_a_metric_of_pyiqa_sees_each_image_alone_upright_and_over_white(
    pictures: Manifest, tmp_path: Path
) -> None:
    expected = [float(FakeMetric()(tensor)) for tensor in as_tensors(pictures)]
    for values in columns_of("pyiqa:piqe", pictures, tmp_path / "features"):
        np.testing.assert_allclose(values, expected, rtol=1e-5)
    for values in columns_of("pyiqa:piqe", pictures, tmp_path / "features", lower_is_better=True):
        np.testing.assert_allclose(values, np.negative(expected), rtol=1e-5)
    scorer = find_scorer("pyiqa:piqe")
    assert "pyiqa 0.1.16, licence PolyForm-Noncommercial-1.0.0" in scorer.weights.source
    assert not depends_on_prompts(scorer.signature) and scorer_of(scorer.signature) == scorer
    for name, message in (
        ("fid", "compares sets"),
        ("clipscore", "--scorer clipscore"),
        ("pique", "nearest: piqe"),
    ):
        with pytest.raises(EncoderError, match=message):
            score(pictures, find_scorer(f"pyiqa:{name}"), tmp_path / "features")


def test_without_pyiqa_the_message_names_the_command_and_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    with pytest.raises(EncoderError, match="pip install pyiqa. Its licence is PolyForm Noncommercial"):
        find_scorer("pyiqa:piqe")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["piqe", "entropy"])  # these need no weights
def test_installed_pyiqa_agrees_with_a_direct_call(name: str, pictures: Manifest, tmp_path: Path) -> None:
    pyiqa = pytest.importorskip("pyiqa")
    metric = pyiqa.create_metric(name, device=torch.device("cpu"))
    expected = [float(metric(tensor)) for tensor in as_tensors(pictures)]
    for values in columns_of(f"pyiqa:{name}", pictures, tmp_path / "features"):
        np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a scorer and its entry point."""
    folder = tmp_path / "site"
    about = folder / "demo_metrics-0.3.dist-info"
    about.mkdir(parents=True)
    (folder / "demo_metrics.py").write_text(MODULE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-metrics\nVersion: 0.3\n")
    (about / "top_level.txt").write_text("demo_metrics\n")
    (about / "entry_points.txt").write_text("[tier4k.scorers]\nwords = demo_metrics:Prompted\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "demo_metrics", raising=False)
    return about


def test_a_scorer_of_a_package_is_found_by_its_entry_point_and_by_its_path(
    package: Path, pictures: Manifest, tmp_path: Path
) -> None:
    prompts = pictures.table["prompt"]
    expected = [
        float(tensor.mean()) + len(prompt)
        for tensor, prompt in zip(as_tensors(pictures), prompts, strict=True)
    ]
    for values in columns_of("words", pictures, tmp_path / "features"):
        np.testing.assert_allclose(values, expected, rtol=1e-5)
    scorer = find_scorer("demo_metrics:Prompted")
    assert isinstance(scorer, CalledScorer) and scorer == find_scorer("words")
    assert scorer.version == "version 1 of demo-metrics 0.3" and scorer.name == "prompted"
    assert depends_on_prompts(scorer.signature)
    assert scorer_of(scorer.signature) == scorer  # an installed entry point is trusted
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: demo-metrics\nVersion: 0.4\n")
    assert find_scorer("words").signature.digest != scorer.signature.digest
    (package / "entry_points.txt").unlink()
    with pytest.raises(PluginError, match="imported only if you name it: pass --trust demo_metrics:Prompted"):
        scorer_of(scorer.signature)


class Wrong:
    """A scorer that does what its answer says."""

    name = "wrong"
    version = "1"
    reads_prompts = False
    answer: Any = None

    def __call__(self, images: Tensor, prompts: list[str]) -> Any:  # noqa: ARG002
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


ANSWERS = {
    "an error": (
        ZeroDivisionError("by zero"),
        r"fails on images \(1, 3, 32, 32\): ZeroDivisionError: by zero",
    ),
    "nothing": (None, "returned a NoneType that is no list of numbers"),
    "texts": (["1.5"], "returned a list that is no list of numbers"),
    "complex": (torch.ones(1, dtype=torch.complex64), "returned a Tensor that is no list of numbers"),
    "NaN": ([float("nan")], "returned NaN or infinity for 1 of 1 images"),
    "too large": ([1e39], "returned NaN or infinity for 1 of 1 images"),
    "two": ([1.0, 2.0], "returned 2 values for 1 images"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_scorer_that_fails_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, message = ANSWERS[case]
    monkeypatch.setattr(Wrong, "answer", answer)
    network = CalledNetwork(CalledScorer("wrong", f"{__name__}:Wrong", "version 1", False))
    with pytest.raises(EncoderError, match=message):
        network.score(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["a"])


def test_a_class_without_a_call_and_names_that_lists_cannot_have_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"{__name__}:Wrong"
    for name in ("image", "score", "a,b", " a", "x" * 101, "imagereward"):
        monkeypatch.setattr(Wrong, "name", name)
        with pytest.raises(EncoderError, match="has the name"):
            find_scorer(path)
    monkeypatch.delattr(Wrong, "__call__")
    with pytest.raises(EncoderError, match="is no scorer: it must be callable"):
        find_scorer(path)


@pytest.mark.usefixtures("fake_pyiqa")
def test_a_metric_whose_lower_values_are_better_is_a_reward_only_with_the_other_sign() -> None:
    images = torch.randint(256, (1, 3, 40, 50), dtype=torch.uint8)
    with pytest.raises(TierError, match="lower is better.*lower_is_better=True"):
        tier4k.reward("pyiqa:piqe", device="cpu")
    reward = tier4k.reward("pyiqa:piqe", device="cpu", lower_is_better=True)
    np.testing.assert_allclose(reward(images=images), -FakeMetric()(images / 255), rtol=1e-5)
