"""Options for small memories and half precision train as the plain step does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from tier4k.extract.datasets.check import load_manifest
from tier4k.extract.encoders import transformers_loading
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.data.splits import Split
from tier4k.heads.finetuning.batches import Batches, InputRows
from tier4k.heads.finetuning.checkpoints import BEST, LAST
from tier4k.heads.finetuning.features import fused_rows
from tier4k.heads.finetuning.history import History
from tier4k.heads.finetuning.network import TierNetwork
from tier4k.heads.finetuning.recipe import finetuning_recipe
from tier4k.heads.finetuning.trainer import Trainer
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.tests.builders.data import tiny_encoder
from tier4k.tests.builders.golden import fill

ROWS = np.arange(12)
SPLIT = Split(train=ROWS[:9], validation=ROWS[:0], test=ROWS[9:], seed=3)
Train = Callable[..., History]


@pytest.fixture(params=["test_efficientnet", "test_vit"])
def train(request: pytest.FixtureRequest, golden_project: Path, tmp_path: Path) -> Train:
    """Trains a small network of this kind and a small BERT for two epochs of two steps; the history."""
    manifest = load_manifest(golden_project / "Dataset").manifest
    image = tiny_encoder(tmp_path, request.param)
    text = find_text_encoder("bert-base-uncased", folders=[golden_project])
    pictures = DecodedImages(manifest.images(), image.preprocessing, 1)
    accelerator = Accelerator(cpu=True)

    def trained(part: str = "all", name: str = "plain", **changed: Any) -> History:
        images, texts = load_network(image), load_network(text)
        batches = Batches(
            InputRows.of(manifest), pictures, texts, "pr", (), augment=True, shared=True, seed=0
        )
        head = HeadNetwork(fused_rows(images, texts, batches, ROWS[:1], accelerator).shape[1])
        head.load_state_dict(fill(head.state_dict(), 72))
        recipe = finetuning_recipe(
            part, "cached", "", {"batch_size": 8, "max_epochs": 2, "average": 0.5} | changed
        )
        network = TierNetwork(images, texts, head, "pr", half=recipe.precision == "bf16")
        return Trainer(
            network, batches, manifest.table["MOS_q"].to_numpy(), SPLIT, recipe, accelerator, tmp_path / name
        ).run()

    return trained


def assert_equal(history: History, plain: History) -> None:
    np.testing.assert_allclose(history.training_loss, plain.training_loss, rtol=1e-5)
    np.testing.assert_allclose(history.predictions, plain.predictions, rtol=1e-5)


@pytest.mark.parametrize("part", ["all", pytest.param("last:1", marks=pytest.mark.slow)])
def test_parts_of_a_batch_and_activations_computed_again_change_no_number(train: Train, part: str) -> None:
    plain = train(part)
    assert plain.training_loss[-1] < plain.training_loss[0]
    assert_equal(train(part, "parts", micro_batch=3), plain)
    assert_equal(train(part, "again", recompute=True), plain)
    assert_equal(train(part, "both", micro_batch=3, recompute=True), plain)


def test_a_part_of_a_batch_is_all_that_goes_through_the_network_at_once(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, forward = [], ImageNetwork.forward

    def counted(self: ImageNetwork, crops: Tensor) -> Tensor:
        pictures.append(len(crops) if torch.is_grad_enabled() else 0)
        return forward(self, crops)

    monkeypatch.setattr(ImageNetwork, "forward", counted)
    train(micro_batch=3, max_epochs=1)
    assert 3 <= max(pictures) <= 3 * 2  # every row may have an image prompt


def test_activations_that_are_computed_again_are_not_kept(train: Train) -> None:
    assert kept_for_the_backward_pass(
        lambda: train(max_epochs=1, recompute=True)
    ) < 0.5 * kept_for_the_backward_pass(lambda: train(name="again", max_epochs=1))


def test_activations_are_computed_again_without_the_private_method_of_transformers_too(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(max_epochs=1, recompute=True)
    monkeypatch.setattr(transformers_loading, "has_private_checkpointing", lambda _: False)
    histories: list[History] = []
    kept = kept_for_the_backward_pass(
        lambda: histories.append(train(name="public", max_epochs=1, recompute=True))
    )
    assert_equal(histories[0], expected)
    assert kept < 0.5 * kept_for_the_backward_pass(lambda: train(name="kept", max_epochs=1))


def kept_for_the_backward_pass(run: Callable[[], object]) -> int:
    """Bytes."""
    total = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return total


def test_half_precision_trains_as_well_and_keeps_whole_weights(train: Train, tmp_path: Path) -> None:
    plain, half = train(), train(name="half", precision="bf16")
    assert half.training_loss != plain.training_loss
    np.testing.assert_allclose(half.training_loss, plain.training_loss, rtol=0.03)
    for name in (BEST, LAST):
        for tensor in load_file(tmp_path / "half" / name).values():
            assert tensor.dtype in (torch.float32, torch.float64, torch.int64)
