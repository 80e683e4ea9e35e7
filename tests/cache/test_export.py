"""A store as one file: every distinct row once, in the order of keys, with what the input is called."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tier4k.cache.export import ExportError, export
from tier4k.cache.keys import key_array, text_key
from tier4k.cache.store import FeatureStore
from tier4k.tests.extract.stores.test_find import signature


def filled(root: Path, shape: tuple[int, ...] = (3,), shard_rows: int = 4) -> FeatureStore:
    """Ten rows and a double; row i is full of i."""
    store = FeatureStore.create(root, signature("resnet18"), {})
    for numbers in (range(10), (7,)):
        with store.writer(shard_rows) as writer:
            for number in numbers:
                writer.add(key_array([text_key(str(number))]), np.full((1, *shape), number, np.float32))
    return FeatureStore.open(store.path)


NAMES = {text_key(str(number)): f"picture {number}" for number in range(9)}
EXPECTED = {text_key(str(number)).hex(): number for number in range(10)}


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_every_row_stands_under_its_key_and_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    assert export(filled(tmp_path), path, NAMES) == 10
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            keys, names, features = file["key"].tolist(), file["name"].tolist(), file["features"]
    else:
        frame = pd.read_parquet(path)
        keys, names, features = (
            frame["key"].tolist(),
            frame["name"].tolist(),
            frame[["x0", "x1", "x2"]].to_numpy(),
        )
    assert keys == sorted(EXPECTED) and features.dtype == np.float32
    for key, name, row in zip(keys, names, features, strict=True):
        assert row.tolist() == [EXPECTED[key]] * 3
        assert name == (f"picture {EXPECTED[key]}" if EXPECTED[key] < 9 else "")


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path, (2, 3))
    export(store, tmp_path / "whole.npz", {})
    monkeypatch.setattr("tier4k.cache.export.ROWS_AT_ONCE", 3)
    export(store, tmp_path / "pieces.npz", {})
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "pieces.npz") as pieces:
        np.testing.assert_array_equal(pieces["features"], whole["features"])
        assert whole["features"].shape == (10, 2, 3)


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"suffix '.csv': give a file that ends in .npz or .parquet"):
        export(filled(tmp_path / "a"), tmp_path / "out.csv", {})
    with pytest.raises(ExportError, match="holds 2 views.*give .npz"):
        export(filled(tmp_path / "b", (2, 3)), tmp_path / "out.parquet", {})
    with pytest.raises(ExportError, match="is empty: run `tier extract`"):
        export(FeatureStore.create(tmp_path, signature("resnet50"), {}), tmp_path / "out.npz", {})
    assert not list(tmp_path.glob("out*"))
