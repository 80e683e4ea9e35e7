"""`tier extract --encoder` stores what both towers of a checkpoint compute, also of templates."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from tier4k.cache.keys import key_array
from tier4k.cache.listing import stores
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.templates import read_templates
from tier4k.tests.builders.commands import succeed, tier
from tier4k.tests.builders.data import table_rows, write_table
from tier4k.tests.builders.text_models import POSITIONS, library_inputs, write_text_folder
from tier4k.tests.builders.transformers_models import few_fast, write_vision_folder

PROMPTS = ["a red fox", "two paper boats", "the city at night, 8k"]
BUILT_IN = read_templates(None).texts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a table of three images."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "data" / "mine.csv", table_rows(prompt=PROMPTS))
    return tmp_path


def store_of(stream: str) -> FeatureStore:
    """The store of one tower of the checkpoint."""
    (found,) = [
        store
        for store in stores(Path("features"))
        if (store.signature.stream, store.signature.encoder) == (stream, "hf:towers")
    ]
    return found


def read(store: FeatureStore, inputs: list[bytes]) -> np.ndarray:
    return store.read(key_array(hashlib.sha256(one).digest() for one in inputs))


def embeddings(kind: str, texts: list[str], paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings of texts and images by the library's own classes, before they are normalised."""
    tokens, images = library_inputs(Path("towers"), kind, texts, paths)
    model: Any = hf.AutoModel.from_pretrained("towers").eval()
    with torch.inference_mode():
        text = model.get_text_features(**tokens).pooler_output
        return text.numpy(), model.get_image_features(**images).pooler_output.numpy()


@pytest.mark.parametrize("kind", few_fast("clip", names=("clip", "siglip", "siglip2")))
def test_both_towers_of_a_checkpoint_are_those_of_the_library(folder: Path, kind: str) -> None:
    write_text_folder(Path("towers"), kind)
    output = succeed("extract", "data", "--encoder", "hf:towers", "--workers", "0")
    image, text = store_of("image"), store_of("text")
    assert len(list(stores(Path("features")))) == 2
    assert (image.signature.weights, image.width) == (text.signature.weights, text.width)
    texts = [*PROMPTS, *BUILT_IN]
    paths = sorted(folder.glob("data/*.png"))
    expected_text, expected_image = embeddings(kind, texts, paths)
    np.testing.assert_allclose(read(text, [one.encode() for one in texts]), expected_text, atol=1e-5)
    np.testing.assert_allclose(read(image, [path.read_bytes() for path in paths]), expected_image, atol=1e-5)
    assert len(text.keys) == len(texts) and len(image.keys) == len(paths)
    assert f"encoded {len(texts)} of {len(texts)} distinct inputs" in output
    assert f"mine, {len(BUILT_IN)} templates" in succeed("store", "ls")


def test_other_templates_cost_their_own_texts_alone(folder: Path) -> None:
    write_text_folder(Path("towers"), "clip")
    extract = ["extract", "data", "--encoder", "hf:towers", "--workers", "0"]
    assert "encoded 3 of 3" in succeed("extract", "data", "--text-encoder", "hf:towers", "--streams", "text")
    assert f"encoded {len(BUILT_IN)} of {3 + len(BUILT_IN)} distinct inputs" in succeed(*extract)
    Path("mine.toml").write_text(f'quality = ["{BUILT_IN[0]}", "a nice one"]\nagreement = ["{PROMPTS[0]}"]\n')
    succeed(*extract, "--templates", "mine.toml")
    assert len(store_of("text").keys) == 3 + len(BUILT_IN) + 1
    output = succeed(*extract, "--templates", "mine.toml")
    assert "image hf:towers: all 3 distinct" in output and "text hf:towers: all 5 distinct" in output
    kept = succeed("store", "gc", "--older-than", "0").splitlines()[1:-1]
    assert len(kept) == 2 and all(line.startswith("kept ") for line in kept)
    succeed("store", "export", store_of("text").path.name, "-o", "X.npz")
    with np.load("X.npz") as file:
        assert set(file["name"]) == {*PROMPTS, *BUILT_IN, "a nice one"}


def test_a_checkpoint_adds_to_other_encoders_and_fills_the_chosen_streams_alone(
    folder: Path, bert_folder: Path
) -> None:
    write_text_folder(Path("towers"), "clip")
    write_vision_folder(Path("vit"), "vit")
    Path("bert").symlink_to(bert_folder)
    others = ["--image-encoder", "hf:vit", "--text-encoder", "hf:bert"]
    succeed("extract", "data", "--encoder", "hf:./towers/", *others, "--workers", "0")
    rows = {}
    for store in stores(Path("features")):
        rows[store.signature.stream, store.signature.encoder] = len(store.keys)
    towers = {("image", "hf:towers"): 3, ("text", "hf:towers"): 3 + len(BUILT_IN)}
    assert rows == towers | {("image", "hf:vit"): 3, ("text", "hf:bert"): 3}
    alone = ["extract", "data", "--encoder", "hf:towers", "--workers", "0"]
    for stream in ("image", "text"):
        succeed(*alone, "-F", stream, "--streams", stream)
        (store,) = stores(Path(stream))
        assert store.signature.stream == stream


def test_the_check_of_data_counts_with_the_tokenizer_and_the_limit_of_the_checkpoint(folder: Path) -> None:
    write_text_folder(Path("towers"), "clip")
    long = "a very detailed painting of a quiet harbour at dawn, " * 3
    write_table(
        folder / "long" / "t.csv", table_rows(prompt=[f"{long} by a child", f"{long} by a fox", "dog"])
    )
    output = succeed("data", "check", "long", "--text-encoder", "hf:towers")
    assert f"2 of 3 prompts are truncated at {POSITIONS} tokens, for example 'a very detailed" in output
    assert "2 of 3 prompts have the same tokens as another one" in output
    assert "unknown tokens" in output and "prompts have unknown tokens" not in output


def test_a_tower_alone_is_no_checkpoint_of_two(folder: Path) -> None:
    write_text_folder(Path("towers"), "clip")
    hf.CLIPVisionModelWithProjection.from_pretrained("towers").save_pretrained("towers")
    code, output = tier("extract", "data", "--encoder", "hf:towers")
    assert code == 2 and "hf:towers (model_type 'clip_vision_model') has no text tower" in output
    assert not Path("features").exists()
