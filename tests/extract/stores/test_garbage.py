"""Files in use are never offered for removal; all others are listed with the reason."""

import multiprocessing
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import broken_stores, stores
from tier4k.cache.shard_content import UnreadableShardError
from tier4k.cache.store import FeatureStore
from tier4k.cache.verify import verify
from tier4k.extract.datasets.check import check
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import write_record
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.stores.garbage import Finding, remove, review
from tier4k.extract.stores.listing import store_table
from tier4k.tests.builders.data import tiny_encoder, write_pku, write_table
from tier4k.tests.builders.listener import Silent
from tier4k.tests.builders.signatures import signature


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Stores of two encoders with the images of a data set, one store with other images, one without rows."""
    manifest = check(write_table(tmp_path / "data" / "mine.csv")).manifest
    root = tmp_path / "f"
    write_record(root, DatasetInputs.of(manifest))
    keys = manifest.keys("image")
    fill_store(root, "resnet18", keys)
    fill_store(root, "resnet50", keys)
    fill_store(root, "vit", np.zeros_like(keys[:1]))
    FeatureStore.create(root, signature("empty"), {})
    return root


def fill_store(root: Path, encoder: str, keys: np.ndarray) -> None:
    store = FeatureStore.create(root, signature(encoder), {})
    with store.writer() as writer:
        writer.add(keys, np.ones((len(keys), 4), np.float32))


def names(findings: list[Finding], kept: bool = False) -> list[str]:
    found = [one.path.name for one in findings if one.kept == kept]
    return [name.split("-")[0] for name in found]


def why(findings: list[Finding], name: str) -> str:
    (found,) = [one for one in findings if one.path.name.startswith(name)]
    return found.why


def age(store: Path, hours: float) -> None:
    """Set the time of every file of a store back by some hours."""
    then = time.time() - 3600 * hours
    for file in store.iterdir():
        os.utime(file, (then, then))


def test_stores_of_an_existing_data_set_are_in_use(root: Path) -> None:
    assert names(review(root, (), 0)) == ["empty", "vit"]


def test_stores_that_a_run_uses_are_in_use_even_without_the_data(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    findings = review(root, {signature("resnet50").digest}, 0)
    garbage = [one for one in findings if not one.kept]
    assert why(findings, "resnet50") == "a run uses the store"
    assert names(garbage) == ["mine", "empty", "resnet18", "vit"]
    assert all("data set" in one.why for one in garbage)
    assert garbage[2].megabytes > 0


def test_a_damaged_shard_can_be_removed_and_its_store_stays(root: Path) -> None:
    store = FeatureStore.open(root / signature("resnet18").folder_name)
    (store.path / "0123.h5.damaged").write_bytes(b"x" * 1000)
    garbage = [one for one in review(root, (), 0) if one.path.parent == store.path]
    assert [(one.path.name, one.megabytes) for one in garbage] == [("0123.h5.damaged", 0.001)]
    remove(garbage[0])
    assert not garbage[0].path.exists()
    assert len(FeatureStore.open(store.path).keys) == 3


def test_a_shard_that_is_a_link_to_itself_ends_in_a_message(root: Path) -> None:
    shard = FeatureStore.open(root / signature("resnet18").folder_name).files()[0]
    shard.unlink()
    shard.symlink_to(shard)
    for act in (lambda: review(root, (), 0), lambda: store_table(root, ())):
        with pytest.raises(UnreadableShardError, match=shard.name):
            act()


def test_only_remove_deletes_files_and_a_review_deletes_none(root: Path) -> None:
    before = sorted(root.rglob("*"))
    findings = review(root, (), 0)
    assert sorted(root.rglob("*")) == before
    assert all(remove(one) for one in findings if not one.kept)
    assert not names(review(root, (), 0))
    assert len(list(root.glob("resnet*"))) == 2


def test_while_a_record_of_a_data_set_is_damaged_nothing_is_removable(root: Path) -> None:
    record = next((root / "datasets").glob("*/about.json"))
    record.write_bytes(b"broken")
    findings = review(root, (), 0)
    assert names(findings) == []
    assert why(findings, record.parent.name) == "the record is damaged, so it is unknown which stores it uses"
    assert why(findings, "vit") == f"the damaged record {record.parent.name} may use the store"


def test_a_store_that_cannot_be_opened_is_kept(root: Path) -> None:
    (root / signature("vit").folder_name / "signature.json").write_text("{}")
    findings = review(root, (), 0)
    assert names(findings) == ["empty"]
    assert why(findings, "vit") == "the store cannot be opened, so it is unknown whether a run uses it"


def test_a_store_with_a_young_file_counts_as_used(root: Path) -> None:
    for name in ("vit", "empty"):
        age(root / signature(name).folder_name, 25)
    with FeatureStore.open(root / signature("vit").folder_name).writer() as writer:
        writer.add(np.ones((1, 32), np.uint8), np.ones((1, 4), np.float32))
    findings = review(root, ())
    assert names(findings) == ["empty"]
    assert why(findings, "vit") == "the newest file is 0.0 hours old, younger than 24 hours (--older-than)"
    assert why(findings, "empty").startswith("no existing data set and no run uses the store; the newest")
    assert names(review(root, (), 26)) == []
    assert names(review(root, (), 0)) == ["empty", "vit"]


def test_a_starting_extraction_makes_an_old_store_young(root: Path) -> None:
    age(root / signature("vit").folder_name, 1000)
    FeatureStore.create(root, signature("vit"), {})
    assert names(review(root, ())) == []


def test_a_store_that_is_written_to_after_the_review_stays(root: Path) -> None:
    for name in ("vit", "empty"):
        age(root / signature(name).folder_name, 25)
    empty, vit = [one for one in review(root, ()) if not one.kept]
    with FeatureStore.open(vit.path).writer() as writer:
        writer.add(np.ones((1, 32), np.uint8), np.ones((1, 4), np.float32))
    assert [remove(empty), remove(vit)] == [True, False]
    assert len(FeatureStore.open(vit.path).keys) == 2


def test_a_store_that_is_a_link_is_kept(root: Path, tmp_path: Path) -> None:
    path = root / signature("vit").folder_name
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    findings = review(root, (), 0)
    assert names(findings) == ["empty"]
    assert why(findings, "vit") == "the store is a link, which only you can remove"


def test_an_interrupted_removal_is_hidden_and_finished(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Path) -> None:
        raise KeyboardInterrupt

    (vit,) = [one for one in review(root, (), 0) if one.path.name.startswith("vit")]
    with monkeypatch.context() as patch:
        patch.setattr("tier4k.cache.removal.shutil.rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            remove(vit)
    (left,) = root.glob("*removed*")
    assert (left / "signature.json").exists()
    assert not vit.path.exists()
    assert left not in [store.path for store in stores(root)]
    assert not broken_stores(root)
    leftover = review(root, ())[0]
    assert (leftover.path, leftover.kept) == (left, False)
    assert leftover.why == "an interrupted removal left this folder"
    assert remove(leftover)
    assert not left.exists()


def fill(root: Path, name: str) -> str | int:
    """Make a store, add ten shards, and return its number of rows, or the error."""
    try:
        with FeatureStore.create(root, signature(name), {}).writer(shard_rows=1) as writer:
            for row in range(10):
                time.sleep(0.01)
                writer.add(np.full((1, 32), row, np.uint8), np.ones((1, 4), np.float32))
        return len(FeatureStore.open(root / signature(name).folder_name).keys)
    except StoreError as error:
        return str(error)


def filled_while_garbage_is_removed(root: Path, hours: float) -> list[str | int]:
    """Results of `fill` for eight stores at once, while a loop removes garbage."""
    with ThreadPoolExecutor(8) as pool:
        fills = [pool.submit(fill, root, f"encoder{number}") for number in range(8)]
        while not all(one.done() for one in fills):
            for finding in review(root, (), hours):
                if not finding.kept:
                    remove(finding)
    return [one.result() for one in fills]


def test_stores_that_are_being_filled_are_never_removed(tmp_path: Path) -> None:
    assert filled_while_garbage_is_removed(tmp_path, 24) == [10] * 8


def test_a_store_that_is_removed_while_it_is_filled_is_whole_or_absent(tmp_path: Path) -> None:
    """With --older-than 0 stores may be lost, but no writer ends as if its rows were stored."""
    outcomes = filled_while_garbage_is_removed(tmp_path, 0)
    removed = re.compile("removed while it was written to; run the same command again|is not a feature store")
    for outcome in outcomes:
        assert outcome in (0, 10) or removed.search(str(outcome))
    assert not broken_stores(tmp_path)
    for store in stores(tmp_path):
        assert not verify(store).damaged
    assert not list(tmp_path.glob("*removed*"))


@pytest.mark.slow
def test_extractions_at_once_survive_a_loop_of_removals(tmp_path: Path) -> None:
    write_pku(tmp_path / "data")
    manifest = check(tmp_path / "data").manifest
    encoder = tiny_encoder(tmp_path)
    options = ExtractionOptions(0, batch_size=2, device="cpu", shard_rows=2)
    root = tmp_path / "features"
    fork = multiprocessing.get_context("fork")
    processes = []
    for side in (32, 40, 48, 56):
        resized = replace(encoder, preprocessing=encoder.preprocessing.whole(side))
        arguments = (DatasetInputs.of(manifest), [resized], root, options, Silent())
        process = fork.Process(target=extract, args=arguments)
        process.start()
        processes.append(process)
    while any(process.is_alive() for process in processes):
        for finding in review(root, ()):
            if not finding.kept:
                remove(finding)
        time.sleep(0.01)
    assert [process.exitcode for process in processes] == [0] * 4
    assert [len(store.keys) for store in stores(root)] == [len(manifest.images())] * 4
