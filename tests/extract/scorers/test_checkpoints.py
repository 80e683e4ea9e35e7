"""Weights that are damaged or of another network are reported, and never run code."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.weights.files import WeightsError
from tier4k.tests.builders.published_scorers import published_shapes
from tier4k.tests.builders.scorers import WIDTH
from tier4k.tests.builders.scores import score


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_half_a_download_is_reported(weights: dict[str, Path], tmp_path: Path) -> None:
    for name in SCORERS:
        whole = weights[name]
        if whole.is_dir():
            half = shutil.copytree(whole, tmp_path / name)
            file = half / "model.safetensors"
        else:
            half = file = Path(shutil.copy(whole, tmp_path))
        halve(file)
        with pytest.raises(WeightsError, match=f"{file.name}.*damaged"):
            load_network(find_scorer(name, half))
    shutil.copy(weights["clipscore"] / "model.safetensors", tmp_path / "clipscore")
    for name, message in (
        ("tokenizer.json", "tokenizer.json cannot be read .* download the folder again"),
        ("config.json", "config.json is not the config"),
    ):
        halve(tmp_path / "clipscore" / name)
        with pytest.raises(WeightsError, match=message):
            load_network(find_scorer("clipscore", tmp_path / "clipscore"))
    (tmp_path / "clipscore" / "config.json").write_text(
        json.dumps({"model_type": "clip", "vision_config": {"hidden_size": "wide"}})
    )
    with pytest.raises(WeightsError, match="not the configuration of a CLIP model"):
        load_network(find_scorer("clipscore", tmp_path / "clipscore"))
    (tmp_path / "clipscore" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks model.safetensors or pytorch_model.bin"):
        find_scorer("clipscore", tmp_path / "clipscore")


def test_a_checkpoint_of_something_else_is_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    (tmp_path / SCORERS["pickscore"].tokenizer).symlink_to(weights["clipscore"])
    no_reward = "is not an ImageReward checkpoint: it lacks the tensor 'mlp.layers.0.weight'"
    no_blip = "is not a BLIP checkpoint: it lacks the tensor 'vision_model.*first tensors .*are 'fc.weight'"
    clip_folder = "config.json is not the configuration of a BLIP model .the model type is 'clip'"
    wrong = {
        ("blipscore", weights["imagereward"]): "belong to another network, first 'mlp.layers.0.weight'",
        ("imagereward", weights["blipscore"]): no_reward,
        ("blipscore", tmp_path / "other.pth"): no_blip,
        ("blipscore", weights["clipscore"]): clip_folder,
        ("pickscore", weights["blip folder"]): "not the configuration of a CLIP model",
    }
    for (name, path), message in wrong.items():
        with pytest.raises(WeightsError, match=message):
            load_network(find_scorer(name, path, [tmp_path]))
    with pytest.raises(WeightsError, match="is a file, but clipscore is read from a folder"):
        find_scorer("clipscore", weights["imagereward"])
    with pytest.raises(WeightsError, match="--weights: there is no weights file"):
        find_scorer("imagereward", tmp_path / "nowhere.pt")


def change_tensor(change: str, tensor: str, source: Path, target: Path) -> Path:
    """Copy weights, a file or a folder, with one tensor changed. Returns their path."""
    if source.is_dir():
        shutil.copytree(source, target)
        content = load_file(source / "model.safetensors")
    else:
        target.mkdir()
        content = torch.load(source, weights_only=True)
    state = content.get("model", content)
    (name,) = (name for name in state if name.endswith(tensor))
    if change == "missing":
        del state[name]
    else:
        state[name if change == "another shape" else "surprise"] = torch.zeros(3, 3)
    if source.is_dir():
        save_file(state, target / "model.safetensors")
        return target
    torch.save(content, target / source.name)
    return target / source.name


@pytest.mark.parametrize("change", ["missing", "left over", "another shape"])
def test_every_tensor_is_accounted_for(change: str, weights: dict[str, Path], tmp_path: Path) -> None:
    for name in SCORERS:
        tensor = "logit_scale" if weights[name].is_dir() else "vision_proj.bias"
        path = change_tensor(change, tensor, weights[name], tmp_path / name)
        message = {"missing": tensor, "left over": "surprise", "another shape": rf"{tensor}.*\(3, 3\)"}[
            change
        ]
        with pytest.raises(WeightsError, match=message):
            load_network(find_scorer(name, path))


@pytest.mark.parametrize(
    "part", ["visual_encoder.blocks.23.", "text_encoder.encoder.layer.11.", "mlp.layers.4.", "mlp.layers.7."]
)
def test_a_published_checkpoint_without_its_last_layers_is_no_shorter_network(
    part: str, tmp_path: Path
) -> None:
    state = {
        name: torch.zeros(()).expand(shape)
        for name, shape in published_shapes(reward=True).items()
        if part not in name
    }
    torch.save(state, tmp_path / "ImageReward.pt")
    with pytest.raises(WeightsError, match=rf"tensors are missing|lacks the tensor '{part}weight'"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))


# Tensors of an original checkpoint whose shapes are the sizes of its networks.
SIZED_BY = (
    "visual_encoder.patch_embed.proj.weight",
    "visual_encoder.pos_embed",
    "visual_encoder.cls_token",
    "visual_encoder.blocks.0.mlp.fc1.weight",
    "text_encoder.embeddings.word_embeddings.weight",
    "text_encoder.embeddings.position_embeddings.weight",
    "text_encoder.encoder.layer.0.intermediate.dense.weight",
    "text_proj.weight",
    "mlp.layers.0.weight",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", [lambda tensor: tensor.flatten()[0], lambda tensor: tensor[:0], lambda tensor: tensor[None]]
)
def test_a_tensor_of_another_rank_or_of_no_size_is_named(
    spoil: Callable[[torch.Tensor], torch.Tensor], weights: dict[str, Path], tmp_path: Path
) -> None:
    state = torch.load(weights["imagereward"], weights_only=True)
    for name in SIZED_BY:
        full = name if name in state else f"blip.{name}"
        torch.save(state | {full: spoil(state[full]).clone()}, tmp_path / "ImageReward.pt")
        with pytest.raises(
            WeightsError, match=r"ImageReward checkpoint: the tensor|BLIP checkpoint: the tensor"
        ):
            load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))


def test_sizes_that_no_network_has_are_reported(weights: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(weights["imagereward"], weights_only=True)
    narrow = {"blip.visual_encoder.cls_token": torch.zeros(1, 1, 32)}  # half an attention head
    torch.save(state | narrow, tmp_path / "ImageReward.pt")
    with pytest.raises(WeightsError, match="no network has the sizes"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))


def test_tensors_that_a_blip_may_leave_out_are_no_part_of_a_clip(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(weights["clipscore"], tmp_path / "clip")
    state = load_file(weights["clipscore"] / "model.safetensors")
    old = {f"{part}_model.embeddings.position_ids": torch.arange(77)[None] for part in ("text", "vision")}
    save_file(state | old, folder / "model.safetensors")
    load_network(find_scorer("clipscore", folder))
    save_file(state | {"itm_head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="1 tensors belong to another network, first 'itm_head.weight'"):
        load_network(find_scorer("clipscore", folder))


def test_two_tensors_of_one_name_are_reported(weights: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(weights["imagereward"], weights_only=True)
    torch.save(state | {"text_proj.bias": torch.zeros(24)}, tmp_path / "ImageReward.pt")
    with pytest.raises(WeightsError, match="several tensors for 'text_proj.bias'"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))


def test_half_of_a_tokenizers_merges_is_reported(weights: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(weights["clipscore"], tmp_path / "clip")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(
        json.dumps(vocabulary | {"th": len(vocabulary), "the</w>": len(vocabulary) + 1})
    )
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    with pytest.raises(WeightsError, match="has 516 tokens"):  # sound in itself
        load_network(find_scorer("clipscore", folder))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    with pytest.raises(
        WeightsError, match="1 merges for 516 tokens: merges.txt is damaged or half downloaded"
    ):
        load_network(find_scorer("clipscore", folder))


def test_tensors_of_pre_training_alone_are_left_out_by_name(
    weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    content = torch.load(weights["blipscore"], weights_only=True)
    extra = {
        "visual_encoder_m.cls_token": (1, 1, WIDTH),
        "text_decoder.cls.predictions.bias": (5,),
        "itm_head.weight": (2, 64),
        "image_queue": (24, 9),
        "text_queue": (24, 9),
        "queue_ptr": (1,),
        "temp": (),
        "vision_proj_m.bias": (24,),
    }
    content["model"] |= {name: torch.ones(shape) for name, shape in extra.items()}
    torch.save(content, tmp_path / "model_large.pth")
    expected, _ = score(manifest, find_scorer("blipscore", weights["blipscore"]), tmp_path)
    found, _ = score(manifest, find_scorer("blipscore", tmp_path / "model_large.pth"), tmp_path)
    np.testing.assert_array_equal(found, expected)


def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "run",)

    (tmp_path / "ImageReward.pt").write_bytes(pickle.dumps({"blip.x": Evil()}, protocol=2))
    with pytest.raises(WeightsError, match="pickled"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))
    assert not (tmp_path / "run").exists()
