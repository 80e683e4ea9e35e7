"""A store of float16 has the nearest numbers of this type, and refuses what the type cannot hold."""

import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.rounding import as_stored
from tier4k.cache.shard_content import ShardError
from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.stores import SIGNATURE, text_keys

HALF = replace(SIGNATURE, dtype="float16")


def nearest_half(value: float) -> float:
    """Round a number to IEEE 754's binary16, by Python's own conversion."""
    return struct.unpack("e", struct.pack("e", value))[0]


def test_features_come_back_as_the_nearest_numbers_of_the_type(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = (random.normal(size=(3, 40)) * 10.0 ** random.uniform(-9, 4, (3, 40))).astype(np.float32)
    store = FeatureStore.create(tmp_path, HALF, {})
    with store.writer() as writer:
        writer.add(text_keys("a", "b", "c"), features)
    found = FeatureStore.open(store.path).read(text_keys("c", "a", "b"))
    assert found.dtype == np.float16
    expected = [[nearest_half(value) for value in row] for row in features[[2, 0, 1]].tolist()]
    np.testing.assert_array_equal(found.astype(float), expected)


def test_a_store_of_float16_takes_half_of_the_space(tmp_path: Path) -> None:
    sizes = []
    for signature in (SIGNATURE, HALF):
        store = FeatureStore.create(tmp_path, signature, {})
        with store.writer() as writer:
            writer.add(text_keys("a", "b"), np.ones((2, 100_000), np.float32))
        (file,) = store.path.glob("*.h5")
        sizes.append(file.stat().st_size)
    assert 0.49 < sizes[1] / sizes[0] < 0.51


def test_the_folder_names_only_an_unusual_type() -> None:
    assert HALF.folder_name.startswith("resnet18-reference-pooled-fp32-float16-")
    assert SIGNATURE.folder_name == f"resnet18-reference-pooled-fp32-{SIGNATURE.digest}"


@pytest.mark.parametrize("value", [65520.0, 70000.0, -1e9])
def test_a_value_beyond_float16_is_an_error_with_the_remedy_and_is_not_stored(
    tmp_path: Path, value: float
) -> None:
    store = FeatureStore.create(tmp_path, HALF, {})
    features = np.array([[1, 65504], [value, 2]], np.float32)
    with (
        pytest.raises(
            StoreError, match=rf"value {re.escape(f'{value:g}')}, .* 65504 .*--store-dtype float32"
        ),
        store.writer() as writer,
    ):
        writer.add(text_keys("a"), features[:1])
        writer.add(text_keys("b"), features[1:])
    stored = FeatureStore.open(store.path)
    assert stored.holds(text_keys("a", "b")).tolist() == [True, False]
    assert stored.read(text_keys("a")).tolist() == [[1, 65504]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_a_fault_of_the_encoder(tmp_path: Path, value: float) -> None:
    store = FeatureStore.create(tmp_path, HALF, {})
    with pytest.raises(ShardError, match="the encoder gave NaN or infinity"), store.writer() as writer:
        writer.add(text_keys("a"), np.array([[1, value]], np.float32))


def test_float32_features_of_a_float32_store_are_not_copied() -> None:
    features = np.ones((2, 3), np.float32)
    assert as_stored(features, "float32") is features
