"""Zero-shot scores are those of the published models, and each pair is scored once."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    BlipForImageTextRetrieval,
    CLIPImageProcessorPil,
    CLIPModel,
)

from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.images.decode import decode
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import input_names, records, write_record
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.scorers.blip_network import REWARD_MEAN, REWARD_STD
from tier4k.extract.scorers.choices import ScorerName
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.networks import NETWORKS
from tier4k.extract.scorers.pair_network import PairNetwork
from tier4k.extract.scorers.presets import SCORERS
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.preprocessed import preprocessed
from tier4k.tests.builders.scorers import SIDE
from tier4k.tests.builders.scores import score

NAMES = tuple(SCORERS)


def images(manifest: Manifest) -> list[Image.Image]:
    return [decode(Path(path).read_bytes()) for path in manifest.table["image"]]


@pytest.mark.parametrize("name", ["clipscore", "pickscore"])
def test_clip_scores_are_those_of_hugging_faces_classes(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    folder = weights[name]
    model = CLIPModel.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    prompts = manifest.table["prompt"].tolist()
    texts = tokenizer(prompts, truncation=True, max_length=77, padding=True, return_tensors="pt")
    assert texts["input_ids"].shape[1] == 77
    pixels = processor(images(manifest), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(**texts, pixel_values=pixels)
        expected = (output.image_embeds * output.text_embeds).sum(-1)
        if name == "pickscore":
            expected = model.logit_scale.exp() * expected
    found, _ = score(manifest, find_scorer(name, folder), tmp_path)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert np.ptp(found) > 0.01  # the scores of these images and prompts differ


def blip_inputs(manifest: Manifest) -> dict[str, torch.Tensor]:
    """Inputs of rows as BLIP's published code makes them: torchvision's preprocessing, 35 padded tokens."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    preprocessing = transforms.Compose(
        [
            transforms.Resize(SIDE, interpolation=InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    tokenizer = BertTokenizer(str(find_scorer("blipscore", Path(__file__)).tokenizer.path))
    texts = tokenizer(
        manifest.table["prompt"].tolist(),
        truncation=True,
        max_length=35,
        padding="max_length",
        return_tensors="pt",
    )
    return {
        "pixel_values": torch.stack([preprocessing(image) for image in images(manifest)]),
        "input_ids": texts["input_ids"],
        "attention_mask": texts["attention_mask"],
    }


@pytest.mark.parametrize("source", ["blipscore", "blip folder"])
def test_blipscore_is_the_cosine_of_hugging_faces_classes(
    source: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    with torch.no_grad():
        model = BlipForImageTextRetrieval.from_pretrained(weights["blip folder"]).eval()
        expected = model(**blip_inputs(manifest), use_itm_head=False).itm_score.diagonal().numpy()
    found, _ = score(manifest, find_scorer("blipscore", weights[source]), tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_imagereward_reads_the_first_token_of_a_text_that_attends_to_the_image(
    weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    inputs = blip_inputs(manifest)
    state = torch.load(weights["imagereward"], weights_only=True)
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


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_batched_and_stored_scores_are_those_of_one_pair_at_a_time(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    scorer = find_scorer(name, weights[name])
    found, _ = score(manifest, scorer, tmp_path)
    network = load_network(scorer)
    preprocessing = scorer.preprocessing(network.side)
    alone = []
    with torch.inference_mode():
        for image, prompt in zip(images(manifest), manifest.table["prompt"], strict=True):
            encoded_image = network.encode_images(preprocessed(preprocessing, image)[None])
            encoded_text = network.encode_texts([prompt])
            alone.append(network.score(encoded_image, encoded_text).item())
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)
    in_one_batch, _ = score(manifest, scorer, tmp_path / "other", batch_size=None)
    np.testing.assert_allclose(in_one_batch, found, rtol=1e-5, atol=1e-5)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Numbers of images, texts and pairs that went through the networks, call by call."""
    calls: dict[str, list[int]] = {"encode_images": [], "encode_texts": [], "score": []}
    for network in set(NETWORKS.values()):
        for method, counted in calls.items():
            original = getattr(network, method)

            def call(self: PairNetwork, *inputs: object, original=original, counted=counted) -> torch.Tensor:
                counted.append(len(inputs[0]))  # type: ignore[arg-type]
                return original(self, *inputs)

            monkeypatch.setattr(network, method, call)
    return calls


@pytest.mark.parametrize("name", NAMES)
def test_each_image_prompt_and_pair_goes_through_the_network_once(
    name: str, weights: dict[str, Path], manifest: Manifest, tmp_path: Path, seen: dict[str, list[int]]
) -> None:
    scorer = find_scorer(name, weights[name])
    _, summary = score(manifest, scorer, tmp_path)
    assert {method: sum(counts) for method, counts in seen.items()} == {
        "encode_images": 4,
        "encode_texts": 3,
        "score": 8,
    }
    assert (summary.stream, summary.encoder, summary.inputs, summary.encoded) == ("score", name, 8, 8)
    assert max(seen["encode_images"]) == 3 and max(seen["encode_texts"]) == 2  # in batches
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


def test_weights_tokenizer_scorer_and_precision_change_the_signature(
    weights: dict[str, Path], tmp_path: Path
) -> None:
    clip = find_scorer("clipscore", weights["clipscore"])
    signatures = {
        clip.signature,
        find_scorer("clipscore", weights["pickscore"]).signature,
        find_scorer("pickscore", weights["clipscore"]).signature,
        replace(clip, precision="bf16").signature,
    }
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


def test_a_pair_is_identified_by_its_image_and_its_prompt(manifest: Manifest, tmp_path: Path) -> None:
    dataset = DatasetInputs.of(manifest)
    write_record(tmp_path, dataset, pairs=dataset.pairs)
    names = input_names(records(tmp_path).sound, "score")
    assert len(names) == 8
    assert names[bytes.fromhex(manifest.pair_keys()[1])] == f"MJ_1.png: {manifest.table['prompt'][1]}"
    swapped = manifest.table.assign(
        image_key=manifest.table["prompt_key"], prompt_key=manifest.table["image_key"]
    )
    assert not set(replace(manifest, table=swapped).pair_keys()) & set(manifest.pair_keys())


@pytest.mark.parametrize(("name", "limit"), [("clipscore", 77), ("imagereward", 35)])
def test_prompts_that_a_scorer_truncates_are_warned_of(
    name: str, limit: int, weights: dict[str, Path], manifest: Manifest, tmp_path: Path
) -> None:
    listener = Silent()
    scorer = find_scorer(name, weights[name])
    extract(DatasetInputs.of(manifest), [scorer], tmp_path, ExtractionOptions(0, 4, device="cpu"), listener)
    (warning,) = listener.warnings
    assert warning.startswith(f"score {name}: 1 of 3 prompts is truncated at {limit} tokens")


def test_every_scorer_name_has_a_preset_and_a_network() -> None:
    assert set(NETWORKS) == set(SCORERS) == set(get_args(ScorerName))
    for name, preset in SCORERS.items():
        assert preset.name == name
