"""Heads compute in float32, whatever the type of the stored features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.errors import StoreError
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.stores import FeatureStores
from tier4k.tests.builders.towers import IMAGE_TOWER, TEXT_TOWER, tower_store, towers_manifest, vector

TEMPLATES = ("a good picture", "a bad picture")
HALVES = (replace(IMAGE_TOWER, dtype="float16"), replace(TEXT_TOWER, dtype="float16"))


def loaded(stores: FeatureStores) -> FeatureSet:
    return load_features(towers_manifest(), stores, interaction="cosine+templates", templates=TEMPLATES)


def test_features_of_float16_are_read_as_the_same_numbers_in_float32(tmp_path: Path) -> None:
    image, text = HALVES
    stores = FeatureStores.of([tower_store(tmp_path, image)], [tower_store(tmp_path, text, TEMPLATES)])
    features = loaded(stores)
    (images,), (texts,) = features.image.values(), features.text.values()
    table = towers_manifest().table
    for found, column, signature in ((images, "image", image), (texts, "prompt", text)):
        expected = [vector(one, signature).astype(np.float16) for one in table[column]]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert fuse(features, "nr").X.dtype == np.float32
    assert features.embeddings is not None and features.embeddings.templates is not None
    unit = images / np.linalg.norm(images.astype(float), axis=1, keepdims=True)
    templates = np.array([vector(one, text).astype(np.float16) for one in TEMPLATES], float)
    cosines = unit @ (templates / np.linalg.norm(templates, axis=1, keepdims=True)).T
    assert features.embeddings.templates.dtype == np.float32
    np.testing.assert_allclose(features.embeddings.templates, cosines, atol=1e-6)


def test_one_encoder_is_not_used_in_both_types_at_once(tmp_path: Path) -> None:
    both = [tower_store(tmp_path, signature) for signature in (IMAGE_TOWER, HALVES[0])]
    with pytest.raises(StoreError, match="are both features of hf:clip: pass only one of them"):
        FeatureStores.of(both)
