"""Weights load into timm's networks as they come: wrapped, averaged, beside other modules, in other names.
A network takes every tensor or none.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.timm_weights import load_timm_weights
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.weights.files import WeightsError, file_weights
from tier4k.tests.builders.data import tiny_encoder, write_pku, write_state
from tier4k.tests.builders.listener import Silent

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_state("test_resnet", tmp_path_factory.mktemp("weights") / "test_resnet.pth")


@pytest.fixture
def resnet(resnet_file: Path) -> State:
    return torch.load(resnet_file, weights_only=True)


def load(architecture: str, path: Path) -> tuple[State, tuple[str, ...]]:
    """The tensors of a network without a classifier after loading, and the notes."""
    model = timm.create_model(architecture, num_classes=0)
    notes = load_timm_weights(model, architecture, path)
    return model.state_dict(), notes


def assert_loads(architecture: str, path: Path, expected: State) -> tuple[str, ...]:
    """Every tensor of the network is that of the same name; returns the notes."""
    loaded, notes = load(architecture, path)
    assert loaded
    for name, tensor in loaded.items():
        assert torch.equal(tensor, expected[name]), name
    return notes


def renamed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def random_state(architecture: str, seed: int = 0, **options: int) -> State:
    """Random numbers for every tensor of a network, classifier included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        empty = timm.create_model(architecture, **options).state_dict()
    state: State = {}
    for name, tensor in empty.items():
        state[name] = torch.rand(tensor.shape, generator=generator).to(tensor.dtype)
    return state


WRAPPINGS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 7},
    "net": lambda state: {"net": state},
    "params": lambda state: {"params": state},
    "parallel": lambda state: {"state_dict": renamed(state, "module."), "optimizer": {"lr": 1.0}},
    "compiled": lambda state: renamed(state, "_orig_mod."),
    "compiled and parallel": lambda state: renamed(state, "_orig_mod.module."),
    "lightning": lambda state: {"state_dict": renamed(state, "model.backbone.")},
    "dino": lambda state: {"teacher": renamed(state, "backbone.")},
    "only ema": lambda state: {"state_dict_ema": state, "epoch": 1},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_way_of_saving_gives_the_same_network(tmp_path: Path, resnet: State, wrapping: str) -> None:
    torch.save(WRAPPINGS[wrapping](resnet), tmp_path / "w.ckpt")
    assert assert_loads("test_resnet", tmp_path / "w.ckpt", resnet) == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_number_formats_are_converted(tmp_path: Path, resnet: State, dtype: torch.dtype) -> None:
    state = {}
    for name, tensor in resnet.items():
        state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    torch.save(state, tmp_path / "w.pth")
    expected = {name: tensor.to(resnet[name].dtype) for name, tensor in state.items()}
    assert_loads("test_resnet", tmp_path / "w.pth", expected)


def test_averaged_weights_are_taken_where_raw_ones_are_there_too(tmp_path: Path, resnet: State) -> None:
    raw = {name: tensor * 2 for name, tensor in resnet.items()}
    for content in (
        {"model": raw, "model_ema": resnet},
        {"student": renamed(raw, "module.backbone."), "teacher": renamed(resnet, "backbone.")},
        {**raw, **renamed(resnet, "ema_model.")},
        {"model": raw, "swa_model": resnet},
    ):
        torch.save(content, tmp_path / "w.pth")
        (note,) = assert_loads("test_resnet", tmp_path / "w.pth", resnet)
        assert "(EMA)" in note and "w.pth" in note


def test_averaged_weights_of_another_network_are_no_rival(tmp_path: Path, resnet: State) -> None:
    torch.save({"model": resnet, "teacher": random_state("test_vit")}, tmp_path / "w.pth")
    assert assert_loads("test_resnet", tmp_path / "w.pth", resnet) == ()


def test_two_networks_of_this_architecture_are_refused_with_both_places(
    tmp_path: Path, resnet: State
) -> None:
    other = {name: tensor + 1 for name, tensor in resnet.items()}
    torch.save({"state_dict": renamed(resnet, "left.") | renamed(other, "right.")}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="'state_dict/left.' and 'state_dict/right.'"):
        load("test_resnet", tmp_path / "w.pth")


def test_modules_beside_the_network_are_left_out_and_reported(tmp_path: Path, resnet: State) -> None:
    others = {"text.proj": torch.ones(2), "logit_scale": torch.tensor(1.0)}
    torch.save(renamed(resnet, "visual.trunk.") | others, tmp_path / "w.pth")
    (note,) = assert_loads("test_resnet", tmp_path / "w.pth", resnet)
    assert "2 tensors beside 'visual.trunk.', first 'text.proj'" in note
    inside = renamed(resnet, "visual.trunk.") | {"visual.trunk.proj": torch.ones(2)}
    torch.save(inside, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="1 tensors belong to another network, first 'proj'"):
        load("test_resnet", tmp_path / "w.pth")


def test_weights_of_a_training_that_diverged_are_refused(tmp_path: Path, resnet: State) -> None:
    name = [name for name in resnet if name.endswith("weight")][1]
    torch.save({**resnet, name: resnet[name] * torch.nan}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"the tensor {name!r} contains NaN"):
        load("test_resnet", tmp_path / "w.pth")


def test_files_from_before_the_batch_counters_load(tmp_path: Path, resnet_file: Path) -> None:
    state = {
        name: tensor
        for name, tensor in torch.load(resnet_file, weights_only=True).items()
        if "num_batches" not in name
    }
    torch.save(state, tmp_path / "old.pth")
    load("test_resnet", tmp_path / "old.pth")


def test_a_state_dict_that_does_not_fit_names_what_is_missing_left_over_and_misshapen(
    tmp_path: Path, resnet_file: Path
) -> None:
    state = torch.load(resnet_file, weights_only=True)
    first, second = [name for name in state if name.endswith("weight")][:2]
    shape = tuple(state[second].shape)
    del state[first]
    state["stray.weight"], state[second] = torch.zeros(2, 5), torch.zeros(7)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as error:
        load("test_resnet", tmp_path / "w.pth")
    message = str(error.value)
    assert f"1 tensors are missing, first {first!r}" in message
    assert "1 tensors belong to another network, first 'stray.weight' (2, 5)" in message
    assert f"first {second!r}: expected {shape}, found (7,)" in message


def test_weights_of_another_architecture_are_refused(resnet_file: Path) -> None:
    with pytest.raises(WeightsError, match="does not fit this encoder"):
        load("test_vit", resnet_file)


def google_arrays(state: dict[str, torch.Tensor], heads: int) -> dict[str, np.ndarray]:
    """A vision transformer's weights as Google's .npz files name and lay them out."""
    width = state["cls_token"].shape[-1]
    arrays = {
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for block in range(sum(name.endswith("attn.qkv.weight") for name in state)):
        ours, theirs = f"blocks.{block}.", f"Transformer/encoderblock_{block}/"
        attention = theirs + "MultiHeadDotProductAttention_1/"
        weights, biases = state[ours + "attn.qkv.weight"].chunk(3), state[ours + "attn.qkv.bias"].chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}{name}/kernel"] = weight.T.reshape(width, heads, -1)
            arrays[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        arrays[attention + "out/kernel"] = state[ours + "attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[attention + "out/bias"] = state[ours + "attn.proj.bias"]
        for there, here in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            arrays[f"{theirs}{there}/scale"], arrays[f"{theirs}{there}/bias"] = (
                state[f"{ours}{here}.weight"],
                state[f"{ours}{here}.bias"],
            )
        for there, here in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            arrays[f"{theirs}MlpBlock_3/{there}/kernel"] = state[f"{ours}mlp.{here}.weight"].T
            arrays[f"{theirs}MlpBlock_3/{there}/bias"] = state[f"{ours}mlp.{here}.bias"]
    return {name: tensor.numpy() for name, tensor in arrays.items()}


def test_a_vision_transformer_loads_from_googles_npz(tmp_path: Path) -> None:
    state = torch.load(write_state("vit_tiny_patch16_224", tmp_path / "vit.pth"), weights_only=True)
    arrays = google_arrays(state, heads=3)
    np.savez(tmp_path / "vit.npz", **arrays)
    assert_loads("vit_tiny_patch16_224", tmp_path / "vit.npz", state)

    del arrays["Transformer/encoderblock_3/LayerNorm_0/scale"]
    np.savez(tmp_path / "lacking.npz", **arrays)
    with pytest.raises(WeightsError, match="lacking.npz does not fit this encoder"):
        load("vit_tiny_patch16_224", tmp_path / "lacking.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "vit.npz").read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="half.npz does not fit this encoder or is damaged"):
        load("vit_tiny_patch16_224", tmp_path / "half.npz")
    with pytest.raises(WeightsError, match=".npz weights are supported for vision transformers only"):
        load("test_resnet", tmp_path / "vit.npz")


# One network of each family whose classifier has more than one part, or a part with another name.
CLASSIFIERS = {
    "deit_tiny_distilled_patch16_224": "head_dist.weight",
    "levit_128s": "head_dist.linear.weight",
    "pit_ti_distilled_224": "head_dist.weight",
}
SLOW_CLASSIFIERS = {
    "crossvit_9_240": "head.1.weight",
    "efficientformer_l1": "head_dist.weight",
    "caformer_s18": "head.fc.fc2.weight",
    "volo_d1_224": "aux_head.weight",
}


@pytest.mark.parametrize(
    "architecture",
    [*CLASSIFIERS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CLASSIFIERS)],
)
def test_every_part_of_a_classifier_may_be_left_over(tmp_path: Path, architecture: str) -> None:
    state = random_state(architecture)
    assert (CLASSIFIERS | SLOW_CLASSIFIERS)[architecture] in state
    torch.save(state, tmp_path / "w.pth")
    assert assert_loads(architecture, tmp_path / "w.pth", state) == ()
    torch.save({**state, "stray": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="1 tensors belong to another network, first 'stray'"):
        load(architecture, tmp_path / "w.pth")


def test_a_classifier_of_any_size_may_be_left_over(tmp_path: Path) -> None:
    state = random_state("test_vit", num_classes=7)
    torch.save(state, tmp_path / "w.pth")
    assert_loads("test_vit", tmp_path / "w.pth", state)


def test_the_body_of_a_network_is_needed_in_full_without_a_classifier_too(tmp_path: Path) -> None:
    state = random_state("test_convnext")
    del state["head.norm.weight"]  # it stands under "head", but is applied without a classifier too
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="1 tensors are missing, first 'head.norm.weight'"):
        load("test_convnext", tmp_path / "w.pth")


CLIP = "vit_xsmall_patch16_clip_224"
CLIP_NAMES = (
    (r"^patch_embed\.proj", "conv1"),
    (r"^norm_pre", "ln_pre"),
    (r"^norm", "ln_post"),
    (r"^blocks", "transformer.resblocks"),
    (r"\.norm([12])", r".ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"attn\.qkv\.", "attn.in_proj_"),
    (r"attn\.proj", "attn.out_proj"),
)


def openai_state(state: State) -> State:
    """A CLIP's vision tower in OpenAI's names and shapes, with parts of the text tower."""
    published = {"logit_scale": torch.tensor(4.6), "transformer.resblocks.0.ln_1.weight": torch.ones(8)}
    for name, tensor in state.items():
        for pattern, replacement in CLIP_NAMES:
            name = re.sub(pattern, replacement, name)
        published[f"visual.{name}"] = tensor
    published["visual.class_embedding"] = published.pop("visual.cls_token")[0, 0]
    published["visual.positional_embedding"] = published.pop("visual.pos_embed")[0]
    published["visual.proj"] = published.pop("visual.head.weight").T
    del published["visual.head.bias"]  # zeros, in timm only
    return published


def test_openais_clip_loads(tmp_path: Path) -> None:
    state = random_state(CLIP)
    torch.save(openai_state(state), tmp_path / "w.pth")
    (note,) = assert_loads(CLIP, tmp_path / "w.pth", state)
    assert "2 tensors that this network does not have, first 'logit_scale'" in note


def test_metas_convnext_loads_also_inside_of_another_module(tmp_path: Path) -> None:
    state = random_state("test_convnext")
    published: State = {}
    for name, tensor in state.items():
        name = re.sub(r"^stages\.(\d)\.downsample", r"downsample_layers.\1", name)
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        published[name.replace("head.norm", "norm").replace("head.fc", "head")] = tensor
    for content in ({"model": published}, {"state_dict": renamed(published, "encoder.")}):
        torch.save(content, tmp_path / "w.pth")
        assert_loads("test_convnext", tmp_path / "w.pth", state)


def test_a_conversion_that_would_interpolate_positions_is_refused(tmp_path: Path) -> None:
    state = random_state(CLIP)
    width = state["pos_embed"].shape[-1]
    state["pos_embed"] = torch.rand(1, 1 + 12 * 12, width)
    for content, reason in (
        (state, rf"first 'pos_embed': expected \(1, 197, {width}\), found \(1, 145, {width}\)"),
        (openai_state(state), "1 tensors are for images or patches of another size, first 'pos_embed'"),
    ):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=reason):
            load(CLIP, tmp_path / "w.pth")


def test_a_note_about_weights_reaches_the_listener_of_an_extraction(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path)
    state = torch.load(encoder.weights.path, weights_only=True)
    torch.save({"model": random_state("test_resnet"), "ema": state}, tmp_path / "both.pth")
    encoder = replace(encoder, weights=file_weights(tmp_path / "both.pth", "test"))
    write_pku(tmp_path / "data", rows=2, image_to_image=0)
    listener = Silent()
    options = ExtractionOptions(0, 2, device="cpu")
    extract(DatasetInputs.of(check(tmp_path / "data").manifest), [encoder], tmp_path / "f", options, listener)
    note, _ = listener.notes  # the second is about the bytes to write
    assert "both.pth" in note and "'ema'" in note
    assert load_image_network(encoder).notes == (note,)
