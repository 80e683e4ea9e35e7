"""`--finetune lora`: only adapters of the encoders are trained, and the kept encoders have none."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.pipeline.load import load_network
from tier4k.heads.encoders.finetuned import finetuned_encoders
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.finetuning.adapters import LowRankUpdate, adapter_parameters, add_adapters, merged_tensors
from tier4k.heads.finetuning.batches import Batches, InputRows
from tier4k.heads.finetuning.errors import FinetuningError
from tier4k.heads.finetuning.features import fused_rows
from tier4k.heads.finetuning.finetune import finetune
from tier4k.heads.finetuning.network import TierNetwork
from tier4k.heads.finetuning.parameters import parameter_groups
from tier4k.heads.finetuning.recipe import finetuning_recipe
from tier4k.heads.finetuning.trainer import Trainer
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.heads.results.read import read_curves, read_predictions
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run
from tier4k.tests.builders.data import tiny_encoder
from tier4k.tests.builders.golden import write_dataset, write_tiny_bert
from tier4k.tests.builders.text_models import MODELS, WORDS
from tier4k.tests.builders.transformers_models import SAMPLES

RANK = 2


@dataclass(frozen=True)
class Network:
    """A small network with attention.

    Attributes:
        make: Makes the network with random weights.
        inputs: Its inputs.
        blocks: Number of its blocks.
        projections: Linear layers of an attention layer.
    """

    make: Callable[[], nn.Module]
    inputs: dict[str, Tensor]
    blocks: int
    projections: int = 4

    def outputs(self, network: nn.Module) -> Tensor:
        """The outputs of the network."""
        found = network(**self.inputs)
        return found if isinstance(found, Tensor) else found.last_hidden_state


def small_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=0, **options)


TOKENS = {"input_ids": torch.arange(4, 20).view(2, 8) % WORDS}
IMAGES = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 32}
NETWORKS = {
    "vit": Network(small_timm("vit_tiny_patch16_224", **VIT), {"x": IMAGES}, 2, 2),
    "beit": Network(small_timm("beit_base_patch16_224", **VIT), {"x": IMAGES}, 2, 2),
    "dinov2": Network(SAMPLES["dinov2"].model, {"pixel_values": IMAGES}, 4),
    "bert": Network(MODELS["bert"], TOKENS, 4),
    "albert": Network(MODELS["albert"], TOKENS, 1),  # its blocks share their weights
    "t5": Network(MODELS["t5-encoder"], TOKENS, 2),
    "clip": Network(MODELS["clip-text"], TOKENS, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_change_nothing_at_first_and_merge_into_the_weights(name: str) -> None:
    case = NETWORKS[name]
    torch.manual_seed(0)
    plain = case.make().eval()
    network = copy.deepcopy(plain)
    before = case.outputs(plain)
    network.requires_grad_(False)
    add_adapters(network, RANK, seed=0)
    for weight_name, weight in merged_tensors(network).items():
        assert torch.equal(weight, plain.state_dict()[weight_name])
    # Products of equal matrices are rounded differently at other addresses.
    torch.testing.assert_close(case.outputs(network), before, rtol=1e-6, atol=1e-6)

    updates = [module for module in network.modules() if isinstance(module, LowRankUpdate)]
    assert len(updates) == case.blocks * case.projections
    for update in updates:
        nn.init.normal_(update.up, std=0.1)
    adapted = case.outputs(network)
    (adapted * torch.linspace(0, 1, adapted.shape[-1])).sum().backward()
    assert all(parameter.grad.any() for parameter in adapter_parameters(network))
    assert (adapted - before).abs().max() > 1e-3

    plain.load_state_dict(merged_tensors(network))
    torch.testing.assert_close(case.outputs(plain), adapted.detach(), rtol=1e-6, atol=5e-6)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return check(folder).manifest


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> EncoderPair:
    folder = tmp_path_factory.mktemp("weights")
    write_tiny_bert(folder / "bert")
    return EncoderPair(
        tiny_encoder(folder, "test_vit"), find_text_encoder("bert-base-uncased", folder / "bert")
    )


def trained(manifest: Manifest, pair: EncoderPair, out: Path, part: str = "lora:2", **training: Any) -> Run:
    options = FitOptions(
        finetune=part,
        targets=("MOS_q",),
        split="random",
        repeats=1,
        head={"hidden": 8},
        training={"batch_size": 4, "max_epochs": 1, "learning_rate": 0.01, "average": 0.5} | training,
    )
    return finetune(manifest, pair, options, out, device="cpu")


def test_only_adapters_and_head_are_trained_and_the_kept_encoders_give_the_predictions(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path
) -> None:
    run = trained(manifest, pair, tmp_path)
    saved = finetuned_encoders(run.folder)
    for before, after in ((pair.image, saved.image), (pair.text, saved.text)):
        old, new = load_network(before).state_dict(), load_network(after).state_dict()
        assert old.keys() == new.keys()
        changed = {name for name in old if not torch.equal(old[name], new[name])}
        projections = {
            name for name in old if ".att" in name and name.endswith("weight") and old[name].ndim == 2
        }
        assert changed == projections
        assert all(np.linalg.matrix_rank(new[name] - old[name], rtol=1e-3) <= RANK for name in changed)
    # Saved encoders have the usual preprocessing of their name.
    images = load_network(replace(saved.image, preprocessing=pair.image.preprocessing))
    texts = load_network(saved.text)
    decoded = DecodedImages(manifest.images(), pair.image.preprocessing, 1)
    batches = Batches(InputRows.of(manifest), decoded, texts, "nr", (), augment=False, shared=True, seed=0)
    fused = fused_rows(images, texts, batches, np.arange(len(manifest)), Accelerator(cpu=True))
    (head,) = read_model(run.folder).heads.values()
    expected = read_predictions(run.folder).set_index("name")["prediction"]
    found = pd.Series(head.predict(fused), manifest.table["name"])[expected.index]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_training_of_adapters_that_is_interrupted_continues_after_its_last_epoch(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(manifest, pair, tmp_path / "whole", max_epochs=2)
    save = Trainer._save

    def interrupt(self: Trainer) -> None:
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trained(manifest, pair, tmp_path / "again", max_epochs=2)
    found = trained(manifest, pair, tmp_path / "again", max_epochs=2)
    for read in (read_predictions, read_curves):
        pd.testing.assert_frame_equal(read(found.folder), read(expected.folder), check_exact=True)


@pytest.mark.slow
def test_small_memories_and_half_precision_train_the_same_adapters(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path
) -> None:
    losses = {}
    for name, training in {
        "plain": {},
        "small": {"micro_batch": 2, "recompute": True},
        "half": {"precision": "bf16"},
    }.items():
        run = trained(manifest, pair, tmp_path / name, max_epochs=2, learning_rate=1e-3, **training)
        losses[name] = read_curves(run.folder)["training_loss"]
    assert losses["plain"].iloc[1] < losses["plain"].iloc[0]
    np.testing.assert_allclose(losses["small"], losses["plain"], rtol=1e-4)
    np.testing.assert_allclose(losses["half"], losses["plain"], rtol=0.1)


def test_a_network_without_attention_is_refused_with_what_fits(
    manifest: Manifest, pair: EncoderPair, tmp_path: Path
) -> None:
    resnet = EncoderPair(tiny_encoder(tmp_path), pair.text)
    with pytest.raises(FinetuningError, match=r"ResNet has none: pass --finetune all, image, text or last:N"):
        trained(manifest, resnet, tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("part", ["lora:0", "lora:513", "lora:", "lora:x", "lora8"])
def test_a_wrong_rank_is_refused_with_the_ranks_that_exist(part: str) -> None:
    with pytest.raises(FinetuningError, match=r"lora:R such as lora:8, with a rank R from 1 to 512"):
        finetuning_recipe(part, "cached", "", {})


def test_without_a_rank_the_rank_is_eight_in_the_same_run() -> None:
    short, full = (finetuning_recipe(part, "cached", "", {}) for part in ("lora", "lora:8"))
    assert short == full
    assert (full.rank, full.learning_rate) == (8, 3e-4)


def test_adapters_of_a_block_have_a_share_of_the_rate_of_the_next_block(pair: EncoderPair) -> None:
    images = load_network(pair.image)
    add_adapters(images.backbone, RANK, seed=0)
    hyperparameters = finetuning_recipe("lora:2", "cached", "", {"layer_decay": "0.5", "learning_rate": "1"})
    network = TierNetwork(images, nn.Identity(), HeadNetwork(4, 3), "nr")
    rate_of = {
        parameter: group["rate"]
        for group in parameter_groups(network, hyperparameters)
        for parameter in group["params"]
    }
    blocks = images.backbone.blocks
    last = len(blocks) - 1
    for number, block in enumerate(blocks):
        assert {rate_of[parameter] for parameter in adapter_parameters(block)} == {0.5 ** (last - number)}
    encoder_parameters = set(rate_of) - set(network.head.parameters())
    assert encoder_parameters == adapter_parameters(images)
