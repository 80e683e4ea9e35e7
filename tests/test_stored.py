"""From the names of encoders to their stores: exactly one fits, or the error lists what there is and the way out."""

from pathlib import Path

import pytest

from cache.signature import Signature
from cache.store import FeatureStore, StoreError
from extract.presets import EncoderError
from extract.stored import find_stores


def signature(encoder: str, preparation: str = "reference: 224", weights: str = "ab", stream: str = "image") -> Signature:
    return Signature(stream, encoder, encoder, weights * 32, preparation, "pooled")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    FeatureStore.create(tmp_path, signature("resnet18"), {})
    FeatureStore.create(tmp_path, signature("minilm", "reference: 512 tokens", stream="text"), {})
    return tmp_path


def test_encoders_are_found_by_their_names_and_by_their_folders(root: Path) -> None:
    image, text = find_stores(root, "resnet18", "minilm")
    assert (image.signature.encoder, text.signature.encoder) == ("resnet18", "minilm")
    assert find_stores(root, image.path.name, text.path.name) == (image, text)


def test_the_preparation_tells_stores_of_one_encoder_apart(root: Path) -> None:
    FeatureStore.create(root, signature("resnet18", "native: 235"), {})
    for prepare in ("reference", "native"):
        assert find_stores(root, "resnet18", "minilm", prepare)[0].signature.preparation_name == prepare
    with pytest.raises(StoreError, match="2 stores in .* are of the image encoder 'resnet18'.*") as error:
        find_stores(root, "resnet18", "minilm")
    assert "preparation native: 235" in str(error.value) and "preparation reference: 224" in str(error.value)


def test_stores_of_two_weights_are_chosen_between_by_folder(root: Path) -> None:
    other = FeatureStore.create(root, signature("resnet18", weights="cd"), {})
    with pytest.raises(StoreError, match="Name one of these folders as --image-encoder") as error:
        find_stores(root, "resnet18", "minilm")
    assert "weights cdcd" in str(error.value) and "weights abab" in str(error.value)
    assert find_stores(root, other.path.name, "minilm")[0] == other


def test_features_that_are_not_there_are_told_with_what_is_and_the_command(root: Path) -> None:
    with pytest.raises(StoreError) as error:
        find_stores(root, "resnet50", "minilm", "native")
    message = str(error.value)
    assert "encoder is 'resnet18', asked for 'resnet50'; preparation is 'reference', asked for 'native'" in message
    assert f"tier extract DATA --features {root} --image-encoder resnet50 --prepare native" in message
    with pytest.raises(StoreError, match="(?s)text stores are:.*minilm.*--text-encoder bert-base-uncased.*first"):
        find_stores(root, "resnet18", "bert-base-uncased")


def test_an_empty_or_missing_folder_is_told_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="has no features.*\n  none\nRun `tier extract"):
            find_stores(folder, "resnet18", "minilm")


def test_an_unknown_name_is_an_unknown_encoder_not_a_missing_store(root: Path) -> None:
    with pytest.raises(EncoderError, match="nearest: .*resnet18"):
        find_stores(root, "resnet81", "minilm")
    with pytest.raises(EncoderError, match="no text encoder 'minilmm'"):
        find_stores(root, "resnet18", "minilmm")
