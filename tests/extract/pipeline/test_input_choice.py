"""Chosen streams and templates decide what is encoded; templates belong to a data set as its prompts do."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import input_names, records, write_record
from tier4k.extract.pipeline.listener import StreamSummary
from tier4k.extract.pipeline.missing_inputs import Encoder, InputChoice
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.stores.garbage import review
from tier4k.extract.stores.listing import store_table
from tier4k.tests.builders.data import table_rows, tiny_encoder, write_pku, write_table
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.screens import printed
from tier4k.tests.builders.stores import hexadecimal_keys

OPTIONS = ExtractionOptions(workers=0, batch_size=3, device="cpu")
TEMPLATES = ("a photo of good quality", "a photo of bad quality")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return tiny_encoder(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def text(bert_folder: Path) -> TextEncoder:
    return find_text_encoder("bert-base-uncased", bert_folder)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pku(tmp_path / "data")  # 8 images, 2 image prompts, 4 prompts
    return check(tmp_path / "data").manifest


def run(
    manifest: Manifest,
    encoder: Encoder,
    root: Path,
    choice: InputChoice,
    listener: Silent | None = None,
) -> StreamSummary:
    (summary,) = extract(
        DatasetInputs.of(manifest), [encoder], root, OPTIONS, listener or Silent(), choice=choice
    )
    return summary


def stored_keys(summary: StreamSummary) -> set[str]:
    return hexadecimal_keys(FeatureStore.open(summary.store))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def shown_stores(root: Path) -> str:
    return printed(store_table(root, records(root).sound), width=250)


@pytest.mark.slow
def test_only_images_of_the_chosen_streams_are_encoded(tmp_path: Path, manifest: Manifest, image) -> None:
    guides = run(manifest, image, tmp_path / "f", InputChoice(("image-prompt",)))
    assert (guides.inputs, guides.encoded) == (2, 2)
    assert stored_keys(guides) == set(manifest.table["image_prompt_key"]) - {""}
    images = run(manifest, image, tmp_path / "f", InputChoice(("text", "image")))
    assert (images.inputs, images.encoded) == (8, 8)
    assert run(manifest, image, tmp_path / "f", InputChoice()).encoded == 0
    assert run(manifest, image, tmp_path / "g", InputChoice(("image",))).encoded == 8
    assert "(8 of 10)" in shown_stores(tmp_path / "g")


def test_a_data_set_without_image_prompts_has_nothing_to_encode_for_them(tmp_path: Path, image) -> None:
    manifest = check(write_table(tmp_path / "mine.csv")).manifest
    with pytest.raises(ExtractionError, match="mine has no image prompts.*add image"):
        run(manifest, image, tmp_path / "f", InputChoice(("image-prompt",)))
    assert not (tmp_path / "f").exists()


def test_templates_are_stored_as_prompts_are(tmp_path: Path, manifest: Manifest, text) -> None:
    choice = InputChoice(templates={text.signature: TEMPLATES})
    summary = run(manifest, text, tmp_path / "f", choice)
    assert (summary.inputs, summary.encoded) == (4 + 2, 4 + 2)
    keys = [sha256(template) for template in TEMPLATES]
    assert stored_keys(summary) == {*manifest.table["prompt_key"], *keys}
    network = AutoModel.from_pretrained(text.weights.path).eval()
    tokenizer = AutoTokenizer.from_pretrained(text.weights.path)
    stored = FeatureStore.open(summary.store).read(key_array(map(bytes.fromhex, keys)))
    for template, row in zip(TEMPLATES, stored, strict=True):
        with torch.inference_mode():
            hidden = network(**tokenizer(template, return_tensors="pt")).last_hidden_state
        np.testing.assert_allclose(row, hidden[0].mean(0), atol=1e-5)


def test_missing_templates_alone_are_encoded_later(tmp_path: Path, manifest: Manifest, text) -> None:
    root = tmp_path / "f"
    assert run(manifest, text, root, InputChoice()).encoded == 4
    assert run(manifest, text, root, InputChoice(templates={text.signature: TEMPLATES})).encoded == 2
    others = (*TEMPLATES, "an ugly photo", manifest.table["prompt"][0])  # the last one is a prompt
    again = run(manifest, text, root, InputChoice(templates={text.signature: others}))
    assert (again.inputs, again.encoded) == (4 + 3, 1)


def test_templates_belong_to_one_encoder(tmp_path: Path, manifest: Manifest, text) -> None:
    other = replace(text, precision="bf16")
    choice = InputChoice(templates={text.signature: TEMPLATES})
    with_templates, without = extract(
        DatasetInputs.of(manifest), [text, other], tmp_path, OPTIONS, Silent(), choice=choice
    )
    assert (with_templates.inputs, without.inputs) == (6, 4)
    lines = shown_stores(tmp_path).splitlines()
    listed = {name: next(line for line in lines if name in line) for name in ("fp32", "bf16")}
    assert "data, 2 templates" in listed["fp32"]
    assert "data" in listed["bf16"] and "templates" not in listed["bf16"]
    assert not any("of 4" in line for line in lines)


def test_a_store_with_templates_alone_is_no_garbage(tmp_path: Path, manifest: Manifest, text) -> None:
    """A part of the inputs may be templates alone. A later extraction without templates keeps the names."""
    root = tmp_path / "f"
    store = FeatureStore.create(root, text.signature, {})
    with store.writer() as writer:
        writer.add(key_array([bytes.fromhex(sha256(TEMPLATES[0]))]), np.ones((1, 96), np.float32))
    assert [one.kept for one in review(root, (), 0)] == [False]
    write_record(root, DatasetInputs.of(manifest), TEMPLATES)
    write_record(root, DatasetInputs.of(manifest), ["an ugly photo", TEMPLATES[1]])
    write_record(root, DatasetInputs.of(manifest))
    assert [one.kept for one in review(root, (), 0)] == [True]
    names = input_names(records(root).sound, "text")
    assert names.keys() >= {bytes.fromhex(sha256(one)) for one in (*TEMPLATES, "an ugly photo")}
    assert {names[bytes.fromhex(key)] for key in manifest.table["prompt_key"]} == set(manifest.prompts())
    (record,) = records(root).sound
    assert len(record.keys_of("template")) == 3 and len(record.keys_of("text")) == 4


def test_losses_of_the_tokenizer_are_warned_of_before_anything_is_encoded(
    tmp_path: Path, image, text
) -> None:
    frame = table_rows(prompt=["🦊❄️", "🐶🌿", "word " * 511])
    manifest = check(write_table(tmp_path / "mine.csv", frame)).manifest
    log: list[str] = []

    class Listener(Silent):
        def warned(self, text: str) -> None:
            log.append(text)

        def started(self, stream: str, total: int) -> None:
            log.append(f"started {total} {stream}s")

    extract(DatasetInputs.of(manifest), [image, text], tmp_path / "f", OPTIONS, Listener())
    truncated, unknown, equal, *started = log
    assert truncated.startswith("text bert-base-uncased: 1 of 3 prompts is truncated at 512 tokens")
    assert "2 of 3 prompts have unknown tokens" in unknown and "'🦊❄️' = '🐶🌿'" in equal
    assert started == ["started 3 images", "started 3 texts"]
    log.clear()
    extract(DatasetInputs.of(manifest), [image, text], tmp_path / "f", OPTIONS, Listener())
    assert log == []
    whole = check(write_table(tmp_path / "whole" / "mine.csv")).manifest
    extract(DatasetInputs.of(whole), [text], tmp_path / "f", OPTIONS, Listener())
    assert log == ["started 3 texts"]
