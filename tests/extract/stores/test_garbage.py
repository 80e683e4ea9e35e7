"""What is in use is never offered for removal; what is not is named with the reason."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.store import FeatureStore, StoreError
from tier4k.extract.datasets.check import check
from tier4k.extract.pipeline.records import DatasetRecord
from tier4k.extract.stores.garbage import Garbage, find_garbage, remove
from tier4k.tests.builders.data import write_table
from tier4k.tests.extract.stores.test_find import signature


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Stores of two encoders with the pictures of a data set, one store with others, one without rows."""
    manifest = check(write_table(tmp_path / "data" / "mine.csv")).manifest
    root = tmp_path / "f"
    DatasetRecord.of(manifest).write(root)
    foreign = np.zeros_like(manifest.keys("image"))
    for name, keys in (
        ("resnet18", manifest.keys("image")),
        ("resnet50", manifest.keys("image")),
        ("vit", foreign[:1]),
        ("empty", None),
    ):
        store = FeatureStore.create(root, signature(name), {})
        if keys is not None:
            with store.writer() as writer:
                writer.add(keys, np.ones((len(keys), 4), np.float32))
    return root


def names(garbage: list[Garbage]) -> list[str]:
    return [one.path.name.split("-")[0] for one in garbage]


def test_stores_of_a_data_set_that_is_there_are_in_use(root: Path) -> None:
    assert names(find_garbage(root, ())) == ["empty", "vit"]


def test_stores_that_a_run_uses_are_in_use_even_without_the_data(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    garbage = find_garbage(root, {signature("resnet50").digest})
    assert names(garbage) == ["mine", "empty", "resnet18", "vit"]
    assert all("data set" in one.why for one in garbage) and garbage[2].megabytes > 0


def test_a_damaged_shard_that_was_set_aside_can_go_and_its_store_stays(root: Path) -> None:
    store = FeatureStore.open(root / signature("resnet18").folder_name)
    (store.path / "0123.h5.damaged").write_bytes(b"x" * 1000)
    garbage = [one for one in find_garbage(root, ()) if one.path.parent == store.path]
    assert [(one.path.name, one.megabytes) for one in garbage] == [("0123.h5.damaged", 0.001)]
    remove(garbage[0])
    assert not garbage[0].path.exists() and len(FeatureStore.open(store.path).keys) == 3


def test_what_is_removed_is_gone_and_finding_alone_removes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    garbage = find_garbage(root, ())
    assert sorted(root.rglob("*")) == before
    for one in garbage:
        remove(one)
    assert not find_garbage(root, ()) and len(list(root.glob("resnet*"))) == 2


def test_where_a_record_cannot_be_read_nothing_is_called_garbage(root: Path) -> None:
    next((root / "datasets").glob("*.npz")).write_bytes(b"broken")
    with pytest.raises(StoreError, match="is damaged"):
        find_garbage(root, ())


def test_a_store_that_cannot_be_opened_is_left_alone(root: Path) -> None:
    (root / signature("vit").folder_name / "signature.json").write_text("{}")
    assert names(find_garbage(root, ())) == ["empty"]
