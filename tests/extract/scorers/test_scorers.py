"""Zero-shot scores are those of the published models, each pair scored once; weights that do not fit are told of."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipForImageTextRetrieval,
    CLIPImageProcessorPil,
    CLIPModel,
)

from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.weights import WeightsError
from tier4k.extract.images.decode import decode
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.records import DatasetRecord, input_names
from tier4k.extract.pipeline.run import extract
from tier4k.extract.scorers.choices import ScorerName
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.networks import NETWORKS, REWARD_MEAN, REWARD_STD, PairNetwork
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.scorers.scorer import Scorer
from tier4k.tests.builders.data import save_picture, save_table
from tier4k.tests.builders.scorers import (
    SIDE,
    WIDTH,
    write_blip_folder,
    write_clip,
    write_image_reward,
    write_model_large,
)
from tier4k.tests.extract.pipeline.test_run import Silent
from tier4k.tests.golden.test_published_scorers import published_shapes

pytestmark = pytest.mark.usefixtures("no_hub")

NAMES: tuple[ScorerName, ...] = ("clipscore", "pickscore", "blipscore", "imagereward")
LONG = "a very long prompt, " * 12  # more than 77 tokens of the small tokenizer, and than 35 words
SIZES = [(64, 64), (71, 67), (40, 51), (90, 33)]  # after scaling to 32, margins of 0, 1, 8 and 55 pixels


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small weights of every scorer, as published."""
    folder = tmp_path_factory.mktemp("scorers")
    blip = write_blip_folder(folder / "blip", 3)
    return {
        "clipscore": write_clip(folder / "clip", 1),
        "pickscore": write_clip(folder / "pick", 2),
        "blipscore": write_model_large(folder / "model_large.pth", blip),
        "imagereward": write_image_reward(folder / "ImageReward.pt", blip),
        "blip folder": blip,
    }


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Nine rows of four pictures and three prompts; the last row repeats the first pair under another name."""
    folder = tmp_path_factory.mktemp("data")
    prompts = ["a red fox", LONG, "two paper boats"]
    names = [f"MJ_{row}.png" for row in range(9)]
    for row, name in enumerate(names):
        save_picture(folder / name, row % 4, SIZES[row % 4])
    shutil.copy(folder / names[0], folder / names[8])
    frame = pd.DataFrame(
        {
            "image": names,
            "prompt": [prompts[row % 3] for row in range(8)] + [prompts[0]],
            "mos": np.arange(9.0),
        }
    )
    return check(save_table(frame, folder / "t.csv")).manifest


def score(
    manifest: Manifest, scorer: Scorer, root: Path, batch_size: int | None = 3
) -> tuple[np.ndarray, StreamSummary]:
    """Scores of the rows, read from the store."""
    options = ExtractionOptions(workers=0, batch_size=batch_size, device="cpu", text_batch_size=2)
    (summary,) = extract(manifest, [scorer], root, options, Silent())
    stored = FeatureStore.open(summary.store).read(key_array(map(bytes.fromhex, manifest.pair_keys())))
    assert stored.shape == (len(manifest), 1) and stored.dtype == np.float32
    return stored[:, 0], summary


def pictures(manifest: Manifest) -> list:
    return [decode(Path(path).read_bytes()) for path in manifest.table["image"]]


@pytest.mark.parametrize("name", ["clipscore", "pickscore"])
def test_clip_scores_are_those_of_hugging_faces_classes(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    folder = weights[name]
    model, tokenizer = CLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    texts = tokenizer(
        manifest.table["prompt"].tolist(), truncation=True, max_length=77, padding=True, return_tensors="pt"
    )
    assert texts["input_ids"].shape[1] == 77
    with torch.no_grad():
        out = model(**texts, pixel_values=processor(pictures(manifest), return_tensors="pt")["pixel_values"])
        cosine = (out.image_embeds * out.text_embeds).sum(-1)
        expected = (model.logit_scale.exp() * cosine if name == "pickscore" else cosine).numpy()
    found, _ = score(manifest, find_scorer(name, folder), tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(found) > 0.01  # these pictures and prompts are told apart


def blip_inputs(manifest: Manifest) -> dict[str, torch.Tensor]:
    """What BLIP's published code makes of rows: torchvision's preparation, 35 padded tokens."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    preprocessing = transforms.Compose([
        transforms.Resize(SIDE, interpolation=InterpolationMode.BICUBIC), transforms.CenterCrop(SIDE), transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ])  # fmt: skip
    tokenizer = BertTokenizer(str(find_scorer("blipscore", Path(__file__)).tokenizer.path))
    texts = tokenizer(
        manifest.table["prompt"].tolist(),
        truncation=True,
        max_length=35,
        padding="max_length",
        return_tensors="pt",
    )
    return {
        "pixel_values": torch.stack([preprocessing(picture) for picture in pictures(manifest)]),
        "input_ids": texts["input_ids"],
        "attention_mask": texts["attention_mask"],
    }


@pytest.mark.parametrize("of", ["original file", "folder"])
def test_blipscore_is_the_cosine_of_hugging_faces_classes(
    of: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    with torch.no_grad():
        model = BlipForImageTextRetrieval.from_pretrained(weights["blip folder"]).eval()
        expected = model(**blip_inputs(manifest), use_itm_head=False).itm_score.diagonal().numpy()
    scorer = find_scorer("blipscore", weights["blipscore" if of == "original file" else "blip folder"])
    np.testing.assert_allclose(score(manifest, scorer, tmp_path)[0], expected, rtol=1e-4, atol=1e-6)


def test_imagereward_reads_the_first_token_of_a_text_that_attends_to_the_picture(
    weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    inputs, state = blip_inputs(manifest), torch.load(weights["imagereward"], weights_only=True)
    with torch.no_grad():
        model = BlipForImageTextRetrieval.from_pretrained(weights["blip folder"]).eval()
        patches = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
        hidden = model.text_encoder(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            encoder_hidden_states=patches,
            encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long),
        ).last_hidden_state[:, 0]
        for number in (0, 2, 4, 6, 7):
            hidden = hidden @ state[f"mlp.layers.{number}.weight"].T + state[f"mlp.layers.{number}.bias"]
    expected = ((hidden[:, 0] - REWARD_MEAN) / REWARD_STD).numpy()
    found, _ = score(manifest, find_scorer("imagereward", weights["imagereward"]), tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_batched_and_stored_scores_are_those_of_one_pair_at_a_time(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    scorer = find_scorer(name, weights[name])
    found, _ = score(manifest, scorer, tmp_path)
    network = load_network(scorer)
    preprocessing = scorer.preprocessing(network.side).transform()
    with torch.inference_mode():
        alone = [
            network.score(
                network.encode_pictures(preprocessing(picture)[None]), network.encode_texts([prompt])
            ).item()
            for picture, prompt in zip(pictures(manifest), manifest.table["prompt"], strict=True)
        ]
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        score(manifest, scorer, tmp_path / "other", batch_size=None)[0], found, rtol=1e-5, atol=1e-5
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many pictures, texts and pairs went through the networks, call by call."""
    calls: dict[str, list[int]] = {"encode_pictures": [], "encode_texts": [], "score": []}
    for network in set(NETWORKS.values()):
        for method, counted in calls.items():
            original = getattr(network, method)

            def call(self: PairNetwork, *inputs: object, original=original, counted=counted) -> torch.Tensor:
                counted.append(len(inputs[0]))  # type: ignore[arg-type]
                return original(self, *inputs)

            monkeypatch.setattr(network, method, call)
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_each_picture_prompt_and_pair_goes_through_the_network_once(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path, seen: dict[str, list[int]]
) -> None:
    scorer = find_scorer(name, weights[name])
    _, summary = score(manifest, scorer, tmp_path)
    assert {method: sum(counts) for method, counts in seen.items()} == {
        "encode_pictures": 4,
        "encode_texts": 3,
        "score": 8,
    }
    assert (summary.stream, summary.encoder, summary.inputs, summary.encoded) == ("score", name, 8, 8)
    assert max(seen["encode_pictures"]) == 3 and max(seen["encode_texts"]) == 2  # in batches
    _, again = score(manifest, scorer, tmp_path)
    assert again.encoded == 0 and sum(seen["score"]) == 8


def test_a_new_prompt_costs_its_own_pairs_only(
    weights: dict[str, Path], manifest: Manifest, tmp_path: Path, seen: dict[str, list[int]]
) -> None:
    scorer = find_scorer("clipscore", weights["clipscore"])
    half = replace(manifest, table=manifest.table.iloc[:5])
    before, _ = score(half, scorer, tmp_path)
    after, summary = score(manifest, scorer, tmp_path)
    np.testing.assert_array_equal(after[:5], before)
    assert summary.encoded == 3 and sum(seen["score"]) == 8
    whole, _ = score(manifest, scorer, tmp_path / "at once")
    np.testing.assert_allclose(after, whole, rtol=1e-5, atol=1e-6)


def test_what_changes_a_score_changes_the_signature(weights: dict[str, Path], tmp_path: Path) -> None:
    clip = find_scorer("clipscore", weights["clipscore"])
    signatures = {
        clip.signature,
        find_scorer("clipscore", weights["pickscore"]).signature,
        replace(clip, precision="bf16").signature,
    }
    signatures.add(find_scorer("pickscore", weights["clipscore"]).signature)
    copy = shutil.copytree(weights["clipscore"], tmp_path / "clip")
    assert find_scorer("clipscore", copy).signature == clip.signature
    tokenizer = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": 7}))
    signatures.add(find_scorer("clipscore", copy).signature)
    assert len({signature.digest for signature in signatures}) == 5
    assert {signature.stream for signature in signatures} == {"score"}


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_scores_are_near(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    full, _ = score(manifest, find_scorer(name, weights[name]), tmp_path)
    half, _ = score(manifest, find_scorer(name, weights[name], precision="bf16"), tmp_path)
    assert 0 < np.abs(half - full).max() < 0.1 * np.abs(full).max()


def test_pairs_are_told_by_picture_and_prompt(manifest: Manifest, tmp_path: Path) -> None:
    DatasetRecord.of(manifest).write(tmp_path)
    names = input_names(tmp_path, "score")
    assert len(names) == 8 and names[bytes.fromhex(manifest.pair_keys()[1])] == f"MJ_1.png: {LONG.strip()}"
    swapped = manifest.table.assign(
        image_key=manifest.table["prompt_key"], prompt_key=manifest.table["image_key"]
    )
    assert not set(replace(manifest, table=swapped).pair_keys()) & set(manifest.pair_keys())


# Weights that are missing, damaged or of something else.


def test_weights_are_looked_for_where_those_of_encoders_are(weights: dict[str, Path], tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(
            WeightsError,
            match=f"no weights for the scorer {name}: put .*--weights.*\nThey can be had from: https",
        ):
            find_scorer(name, folders=[tmp_path])
    shutil.copytree(weights["clipscore"], tmp_path / "clip-vit-large-patch14")
    (tmp_path / "pretrained").mkdir()
    shutil.copytree(weights["pickscore"], tmp_path / "pretrained" / "PickScore_v1")
    shutil.copy(weights["imagereward"], tmp_path / "pretrained")
    found = {
        name: find_scorer(name, folders=[tmp_path / "elsewhere", tmp_path]).weights.path
        for name in NAMES
        if name != "blipscore"
    }
    assert found == {
        "clipscore": tmp_path / "clip-vit-large-patch14",
        "pickscore": tmp_path / "pretrained" / "PickScore_v1",
        "imagereward": tmp_path / "pretrained" / "ImageReward.pt",
    }
    assert (
        find_scorer("imagereward", tmp_path / "pretrained").weights.path
        == tmp_path / "pretrained" / "ImageReward.pt"
    )
    with pytest.raises(
        EncoderError, match="there is no scorer 'clipscor' .nearest: clipscore.*Known: clipscore"
    ):
        find_scorer("clipscor")


def test_a_folder_of_pickscore_without_a_tokenizer_takes_the_published_one_from_beside_the_data(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    bare = shutil.copytree(
        weights["pickscore"],
        tmp_path / "PickScore_v1",
        ignore=shutil.ignore_patterns("tok*", "vocab*", "merges*"),
    )
    with pytest.raises(WeightsError, match="no tokenizer for the scorer pickscore.*CLIP-ViT-H-14-laion2B"):
        find_scorer("pickscore", bare, [tmp_path])
    beside = tmp_path / "CLIP-ViT-H-14-laion2B-s32B-b79K"
    shutil.copytree(
        weights["clipscore"], beside, ignore=shutil.ignore_patterns("*.safetensors", "config.json")
    )
    assert find_scorer("pickscore", bare, [tmp_path]).tokenizer.path == beside
    below = tmp_path / "pretrained" / beside.name
    below.parent.mkdir()
    beside.rename(below)
    assert find_scorer("pickscore", bare, [tmp_path]).tokenizer.path == below


def test_a_folder_of_imagerewards_code_hides_no_weights(weights: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "ImageReward").mkdir()
    with pytest.raises(
        WeightsError,
        match="holds neither ImageReward.pt nor config.json.*\n.*huggingface.co/THUDM/ImageReward",
    ):
        find_scorer("imagereward", folders=[tmp_path])
    (tmp_path / "pretrained").mkdir()
    file = shutil.copy(weights["imagereward"], tmp_path / "pretrained")
    assert find_scorer("imagereward", folders=[tmp_path]).weights.path == Path(file)


def test_blips_vocabulary_comes_from_the_users_bert_folder_or_from_the_package(
    weights: dict[str, Path], bert_folder: Path, tmp_path: Path
) -> None:
    packaged = find_scorer("blipscore", weights["blipscore"], [tmp_path])
    shutil.copytree(bert_folder, tmp_path / "bert-base-uncased")
    own = find_scorer("blipscore", weights["blipscore"], [tmp_path])
    assert own.tokenizer.path == tmp_path / "bert-base-uncased" / "vocab.txt" != packaged.tokenizer.path
    assert own.signature == packaged.signature  # the same words
    (tmp_path / "bert-base-uncased" / "vocab.txt").write_text("\n".join(map(str, range(40_000))))
    with pytest.raises(WeightsError, match="knows 40,00[0-9] tokens.*30,524"):
        load_network(find_scorer("blipscore", weights["blipscore"], [tmp_path]))
    (tmp_path / "bert-base-uncased" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nmaison\n")
    with pytest.raises(WeightsError, match="knows 8 tokens.*30,524"):  # of another language
        load_network(find_scorer("blipscore", weights["blipscore"], [tmp_path]))


def test_half_a_download_is_told_of(weights: dict[str, Path], tmp_path: Path) -> None:
    for name in NAMES:
        whole = weights[name]
        half = (
            shutil.copytree(whole, tmp_path / name) if whole.is_dir() else Path(shutil.copy(whole, tmp_path))
        )
        file = half / "model.safetensors" if whole.is_dir() else half
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(WeightsError, match=f"{file.name}.*damaged"):
            load_network(find_scorer(name, half))
    shutil.copy(weights["clipscore"] / "model.safetensors", tmp_path / "clipscore")
    for name, message in (
        ("tokenizer.json", "the tokenizer in .* cannot be loaded"),
        ("config.json", "config.json is not the config"),
    ):
        file = tmp_path / "clipscore" / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
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
    wrong = {
        ("blipscore", weights["imagereward"]): "are not of this network, first 'mlp.layers.0.weight'",
        (
            "imagereward",
            weights["blipscore"],
        ): "is not an ImageReward checkpoint: it lacks the tensor 'mlp.layers.0.weight'",
        (
            "blipscore",
            tmp_path / "other.pth",
        ): "is not a BLIP checkpoint: it lacks the tensor 'vision_model.*first tensors are 'fc.weight'",
        (
            "blipscore",
            weights["clipscore"],
        ): "config.json is not the configuration of a BLIP model .the model type is 'clip'",
        ("pickscore", weights["blip folder"]): "not the configuration of a CLIP model",
    }
    for (name, path), message in wrong.items():
        with pytest.raises(WeightsError, match=message):
            load_network(find_scorer(name, path, [tmp_path]))
    with pytest.raises(WeightsError, match="is a file; clipscore is read from a folder"):
        find_scorer("clipscore", weights["imagereward"])
    with pytest.raises(WeightsError, match="--weights: there is no weights file"):
        find_scorer("imagereward", tmp_path / "nowhere.pt")


@pytest.mark.parametrize("change", ["missing", "left over", "another shape"])
def test_every_tensor_is_accounted_for(change: str, weights: dict[str, Path], tmp_path: Path) -> None:
    for name in NAMES:
        path, first = (
            weights[name],
            {"clipscore": "logit_scale", "pickscore": "logit_scale"}.get(name, "vision_proj.bias"),
        )
        folder = shutil.copytree(path, tmp_path / name) if path.is_dir() else tmp_path / path.name
        file = folder / "model.safetensors" if path.is_dir() else folder
        content = (
            load_file(path / "model.safetensors") if path.is_dir() else torch.load(path, weights_only=True)
        )
        state = content.get("model", content)
        key = next(tensor for tensor in state if tensor.endswith(first))
        if change == "missing":
            del state[key]
        else:
            state[key if change == "another shape" else "surprise"] = torch.zeros(3, 3)
        save_file(state, file) if path.is_dir() else torch.save(content, file)
        with pytest.raises(
            WeightsError,
            match={"missing": first, "left over": "surprise", "another shape": rf"{first}.*\(3, 3\)"}[change],
        ):
            load_network(find_scorer(name, folder))


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


SIZED_BY = (  # tensors of an original checkpoint whose shapes say how large its networks are
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


def test_sizes_that_no_network_has_are_told_of(weights: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(weights["imagereward"], weights_only=True)
    narrow = {"blip.visual_encoder.cls_token": torch.zeros(1, 1, 32)}  # half an attention head
    torch.save(state | narrow, tmp_path / "ImageReward.pt")
    with pytest.raises(WeightsError, match="no network has the sizes"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))


def test_what_blip_leaves_out_is_of_no_clip(weights: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(weights["clipscore"], tmp_path / "clip")
    state = load_file(weights["clipscore"] / "model.safetensors")
    old = {f"{part}_model.embeddings.position_ids": torch.arange(77)[None] for part in ("text", "vision")}
    save_file(state | old, folder / "model.safetensors")
    load_network(find_scorer("clipscore", folder))
    save_file(state | {"itm_head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="1 are not of this network, first 'itm_head.weight'"):
        load_network(find_scorer("clipscore", folder))


def test_two_tensors_of_one_name_are_told_of(weights: dict[str, Path], tmp_path: Path) -> None:
    state = torch.load(weights["imagereward"], weights_only=True)
    torch.save(state | {"text_proj.bias": torch.zeros(24)}, tmp_path / "ImageReward.pt")
    with pytest.raises(WeightsError, match="several tensors for 'text_proj.bias'"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))


def test_half_of_a_tokenizers_merges_is_told_of(weights: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(weights["clipscore"], tmp_path / "clip")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(
        json.dumps(vocabulary | {"th": len(vocabulary), "the</w>": len(vocabulary) + 1})
    )
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    with pytest.raises(WeightsError, match="knows 516 tokens"):  # sound in itself
        load_network(find_scorer("clipscore", folder))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    with pytest.raises(
        WeightsError, match="1 merges for 516 tokens: merges.txt is damaged or half downloaded"
    ):
        load_network(find_scorer("clipscore", folder))


def test_what_pre_training_keeps_besides_is_left_out_by_name(
    weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    content = torch.load(weights["blipscore"], weights_only=True)
    extra = {
        "visual_encoder_m.cls_token": (1, 1, WIDTH),
        "text_decoder.cls.predictions.bias": (5,),
        "itm_head.weight": (2, 64),
    }
    extra |= {
        "image_queue": (24, 9),
        "text_queue": (24, 9),
        "queue_ptr": (1,),
        "temp": (),
        "vision_proj_m.bias": (24,),
    }
    content["model"] |= {name: torch.ones(shape) for name, shape in extra.items()}
    torch.save(content, tmp_path / "model_large.pth")
    expected, _ = score(manifest, find_scorer("blipscore", weights["blipscore"]), tmp_path)
    np.testing.assert_array_equal(
        score(manifest, find_scorer("blipscore", tmp_path / "model_large.pth"), tmp_path)[0], expected
    )


def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "run",)

    (tmp_path / "ImageReward.pt").write_bytes(pickle.dumps({"blip.x": Evil()}, protocol=2))
    with pytest.raises(WeightsError, match="pickled"):
        load_network(find_scorer("imagereward", tmp_path / "ImageReward.pt"))
    assert not (tmp_path / "run").exists()


def test_every_scorer_of_the_options_is_there() -> None:
    assert set(NETWORKS) == set(SCORERS) == set(NAMES)
