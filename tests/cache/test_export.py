"""An exported store holds every distinct row once, in the order of keys, with the names of the inputs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.export import export
from tier4k.cache.keys import text_key
from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.signatures import signature
from tier4k.tests.builders.stores import text_keys


def filled(root: Path, shape: tuple[int, ...] = (3,)) -> FeatureStore:
    """Ten rows, each full of its number, and row 7 once more."""
    store = FeatureStore.create(root, signature("resnet18"), {})
    for numbers in (range(10), (7,)):
        with store.writer(shard_rows=4) as writer:
            for number in numbers:
                writer.add(text_keys(str(number)), np.full((1, *shape), number, np.float32))
    return FeatureStore.open(store.path)


NAMES = {text_key(str(number)): f"image {number}" for number in range(9)}  # none of row 9
EXPECTED = {text_key(str(number)).hex(): number for number in range(10)}


def read_exported(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Keys, names and features of an exported file."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return file["key"].tolist(), file["name"].tolist(), file["features"]
    frame = pd.read_parquet(path)
    return frame["key"].tolist(), frame["name"].tolist(), frame[["x0", "x1", "x2"]].to_numpy()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_every_row_is_exported_with_its_key_and_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    assert export(filled(tmp_path), path, NAMES) == 10
    keys, names, features = read_exported(path)
    assert keys == sorted(EXPECTED)
    assert features.dtype == np.float32
    for key, name, row in zip(keys, names, features, strict=True):
        number = EXPECTED[key]
        assert row.tolist() == [number] * 3
        assert name == (f"image {number}" if number < 9 else "")


def test_an_export_in_blocks_holds_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, (2, 3))
    export(store, tmp_path / "whole.npz", {})
    monkeypatch.setattr("tier4k.cache.export.ROWS_AT_ONCE", 3)
    export(store, tmp_path / "pieces.npz", {})
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "pieces.npz") as pieces:
        np.testing.assert_array_equal(pieces["features"], whole["features"])
        assert whole["features"].shape == (10, 2, 3)


def test_a_refused_export_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"suffix '.csv' .*: pass a file that ends in .npz or .parquet"):
        export(filled(tmp_path / "a"), tmp_path / "out.csv", {})
    with pytest.raises(StoreError, match="contains 2 crops.*pass a file that ends in .npz"):
        export(filled(tmp_path / "b", (2, 3)), tmp_path / "out.parquet", {})
    with pytest.raises(StoreError, match="is empty: run `tier extract`"):
        export(FeatureStore.create(tmp_path, signature("resnet50"), {}), tmp_path / "out.npz", {})
    assert not list(tmp_path.glob("out*"))
