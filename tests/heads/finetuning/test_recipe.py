"""Options for small memories and half precision train as the plain step does."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from tier4k.extract.datasets.check import check
from tier4k.extract.encoders import transformers_loading
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.data.splits import Split
from tier4k.heads.finetuning import trainer
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
    manifest = check(golden_project / "Dataset").manifest
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
        network = TierNetwork(images, texts, head, "pr", precision=recipe.precision)
        return Trainer(
            network, batches, manifest.table["MOS_q"].to_numpy(), SPLIT, recipe, accelerator, tmp_path / name
        ).run()

    return trained


def assert_equal(history: History, plain: History) -> None:
    np.testing.assert_allclose(history.training_loss, plain.training_loss, rtol=1e-5)
    np.testing.assert_allclose(history.predictions, plain.predictions, rtol=1e-5)


@pytest.mark.slow
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


@pytest.mark.skipif(
    not hasattr(PreTrainedModel, "activation_checkpointing_enable"),
    reason="transformers has the public method since 5.23",
)
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


@pytest.mark.parametrize(
    ("train", "precision"),
    [
        pytest.param("test_efficientnet", "bf16", marks=pytest.mark.slow),
        ("test_vit", "bf16"),
        pytest.param("test_vit", "fp16", marks=pytest.mark.slow),
    ],
    indirect=["train"],
)
def test_half_precision_trains_as_well_and_keeps_whole_weights(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    scale_gradients(monkeypatch, init_scale=2.0**10)
    plain, half = train(), train(name="half", precision=precision)
    assert half.training_loss != plain.training_loss
    np.testing.assert_allclose(half.training_loss, plain.training_loss, rtol=0.03)
    for name in (BEST, LAST):
        for tensor in load_file(tmp_path / "half" / name).values():
            assert tensor.dtype in (torch.float32, torch.float64, torch.int64)


def scale_gradients(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Scale gradients in float16 with other options of torch's scaler, whose first factor often overflows."""
    monkeypatch.setattr(trainer, "GradScaler", partial(GradScaler, **options))


@pytest.mark.parametrize("train", ["test_vit"], indirect=True)
def test_a_step_whose_scaled_gradients_overflow_changes_no_weight(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_gradients(monkeypatch, init_scale=2.0**100)
    one_step = {"max_epochs": 1, "batch_size": 9}
    still = train(name="still", learning_rate=0.0, head_learning_rate=0.0, weight_decay=0.0, **one_step)
    found = train(precision="fp16", **one_step)
    np.testing.assert_array_equal(found.predictions, still.predictions)
    np.testing.assert_allclose(found.training_loss, still.training_loss, rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("train", ["test_vit"], indirect=True)
def test_an_interrupted_training_in_float16_continues_with_its_factor(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_gradients(monkeypatch, init_scale=2.0**8, growth_interval=1)  # doubled in every step
    one_step = {"precision": "fp16", "batch_size": 9}
    expected = train("last:1", "whole", **one_step)
    factors: list[float] = []
    save = Trainer._save

    def interrupt(self: Trainer) -> None:
        save(self)
        factors.append(self.scaler.get_scale())
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train("last:1", **one_step)
    assert factors == [2.0**9, 2.0**10]
    found = train("last:1", **one_step)  # has ended
    assert found.training_loss == expected.training_loss
    np.testing.assert_array_equal(found.predictions, expected.predictions)


class DeviceReads(TorchDispatchMode):
    """Records operators whose result or shape depends on numbers of the device, which the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indices = args[1] if function.overloadpacket.__name__ in ("index", "index_put", "index_put_") else ()
        has_mask = any(index is not None and index.dtype == torch.bool for index in indices)
        if has_mask or function.overloadpacket.__name__ in READING:
            self.operators.append(str(function))
        return function(*args, **kwargs or {})


READING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "repeat_interleave")


def test_what_reads_from_a_device_is_recognised() -> None:
    numbers = torch.arange(3)
    for read in (lambda: float(numbers[0]), lambda: bool((numbers == 0).all()), lambda: numbers[numbers > 1]):
        with DeviceReads() as reads:
            read()
        assert reads.operators


@pytest.mark.parametrize("train", ["test_vit"], indirect=True)
@pytest.mark.parametrize(
    ("precision", "packed_tokens"), [("fp32", 3), pytest.param("fp16", 512, marks=pytest.mark.slow)]
)
def test_no_step_waits_for_a_number_of_the_device(
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    packed_tokens: int,
) -> None:
    steps: list[list[str]] = []
    step = Trainer._step

    def recorded(self: Trainer, *arguments: Any) -> Tensor:
        with DeviceReads() as reads:
            error = step(self, *arguments)
        steps.append(reads.operators)
        return error

    monkeypatch.setattr(Trainer, "_step", recorded)
    monkeypatch.setattr("tier4k.extract.encoders.text_network.PACKED_TOKENS", packed_tokens)
    # Gradients are clipped and weights averaged.
    train(precision=precision, max_epochs=1, batch_size=5, micro_batch=3)
    assert steps == [[], []]
