"""The hub is searched last; a hub that does not answer is a missing file like any other."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.weights.files import WeightsError


def test_weights_that_are_nowhere_else_come_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def download(repository: str, allow_patterns: list[str], **_: object) -> str:
        asked.append((repository, tuple(allow_patterns)))
        save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    found = find_image_encoder(ImageChoice("resnet18"), folders=[tmp_path / "empty"])
    assert asked == [("timm/resnet18.tv_in1k", ("model.safetensors",))]
    assert (
        found.weights.source == "hub timm/resnet18.tv_in1k"
        and found.signature.weights == found.weights.sha256
    )


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("a bad answer")])
def test_a_hub_that_does_not_answer_is_told_as_missing_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match=r"put resnet18.pth into .*empty/pretrained"):
        find_image_encoder(ImageChoice("resnet18"), folders=[tmp_path / "empty"])
