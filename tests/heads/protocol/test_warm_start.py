"""Heads that go on from those of another run: which one, and what stands in the way."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tier4k.cache.errors import TierError
from tier4k.cache.keys import key_array
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.results.read import read_config, read_predictions
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run
from tier4k.tests.builders.devices import note_devices
from tier4k.tests.builders.stores import stores_of
from tier4k.tests.heads.protocol.test_fit import IMAGE, OPTIONS, TARGETS, image_store, manifest, text_store

Fit = Callable[..., Run]
RANK_GAUSS = {"target_transform": "rank-gauss"}
STAY = OPTIONS.head | {"learning_rate": 0.0}


@pytest.fixture(name="stores")
def features(tmp_path: Path) -> tuple[FeatureStore, FeatureStore]:
    return image_store(tmp_path), text_store(tmp_path)


def score_store(root: Path, scorer: str, weights: int) -> FeatureStore:
    """A store of one scorer's random scores of all pairs of picture and prompt."""
    opened = FeatureStore.create(
        root, Signature("score", scorer, scorer, f"{weights:064d}", "native: 224", "score"), {}
    )
    keys = sorted(set(manifest().pair_keys()))
    with opened.writer() as writer:
        writer.add(
            key_array(map(bytes.fromhex, keys)), np.random.default_rng(weights).normal(size=(len(keys), 1))
        )
    return FeatureStore.open(opened.path)


@pytest.fixture
def fit(stores: tuple[FeatureStore, FeatureStore], tmp_path: Path) -> Fit:
    return lambda scorers=(), **options: fit_head(
        manifest(), stores_of(*stores, *scorers), replace(OPTIONS, **options), tmp_path / "runs"
    )


def test_each_head_starts_from_that_of_its_own_target_and_split(fit: Fit) -> None:
    first = fit(repeats=2, seeds=2)
    on = fit(repeats=2, seeds=2, head=STAY, start=first.folder)
    before, after = read_model(first.folder).heads, read_model(on.folder).heads
    assert len(after) == len(TARGETS) * 4
    for place, head in after.items():
        for name, weights in head.weights_.items():
            np.testing.assert_allclose(weights, before[place].weights_[name], rtol=1e-4, atol=1e-5)
    assert read_config(on.folder).start == f"nr-all-prompt-{first.folder.name[-10:]}"


def test_training_continues_on_the_device(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fit()
    devices = note_devices(monkeypatch)
    on = fit(head=STAY, start=first.folder, device="cuda:1")
    assert devices == ["cuda:1"]
    assert read_config(on.folder).environment.device == "cuda:1"
    assert read_config(first.folder).environment.device == "cpu"


def test_a_head_with_transforms_goes_on_where_it_ended(fit: Fit) -> None:
    transforms = {"image_transform": "sqrt", **RANK_GAUSS}
    first = fit(head=OPTIONS.head | transforms)
    on = fit(head=STAY | transforms, start=first.folder)
    before, after = read_predictions(first.folder), read_predictions(on.folder)
    np.testing.assert_allclose(after["prediction"], before["prediction"], rtol=1e-3)


def test_one_repeat_of_a_run_can_be_gone_on_from_by_its_seed(fit: Fit) -> None:
    first = fit(repeats=3)
    on = fit(repeats=1, seed=2, targets=TARGETS[:1], head=STAY, start=first.folder)
    (head,) = read_model(on.folder).heads.values()
    np.testing.assert_allclose(
        head.weights_["fc2.weight"],
        read_model(first.folder).heads[TARGETS[0], 2].weights_["fc2.weight"],
        rtol=1e-4,
    )


def test_what_a_head_starts_from_makes_another_run(fit: Fit) -> None:
    starts = [None, fit().folder, fit(head=OPTIONS.head | {"learning_rate": 0.1}).folder]
    assert len({fit(start=start).folder for start in starts}) == 3
    assert fit(start=starts[1]).found


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        ({}, {"seed": 5}, "may have seen the test rows"),
        ({}, {"split": "random"}, "may have seen the test rows"),
        ({}, {"head": OPTIONS.head | {"validation_fraction": 0.0}}, "may have seen the test rows"),
        ({"targets": TARGETS[:1]}, {}, f"no head for {TARGETS[1]}"),
        ({}, {"estimator": "ridge", "head": {}}, "--head ridge is not: leave out --start"),
        ({"estimator": "ridge", "head": {}}, {}, "--head ridge is not: leave out --start"),
        ({}, {"estimator": "gated"}, "--head mlp, not gated"),
        ({}, {"method": "pr"}, "--method nr, not pr"),
        ({}, {"head": OPTIONS.head | {"activation": "gelu"}}, "--set activation relu, not gelu"),
        ({}, {"head": OPTIONS.head | {"image_transform": "sqrt"}}, "--set transform none, not sqrt"),
        ({}, {"head": OPTIONS.head | RANK_GAUSS}, "--set target_transform none, not rank-gauss"),
        ({}, {"benchmark": "T2I"}, "pass the data set and --benchmark"),
        ({}, {"head": OPTIONS.head | {"hidden": 3}}, "use the same options for both heads"),
        ({"models": "none"}, {}, "--models all or first"),
    ],
)
def test_a_head_that_cannot_be_gone_on_from_is_refused(
    fit: Fit, tmp_path: Path, first: dict[str, Any], then: dict[str, Any], words: str
) -> None:
    run = fit(**first).folder
    with pytest.raises(TierError, match=words):
        fit(**then, start=run)
    assert list((tmp_path / "runs").iterdir()) == [run]


def test_a_head_of_other_features_is_refused(
    fit: Fit, tmp_path: Path, stores: tuple[FeatureStore, FeatureStore]
) -> None:
    run = fit().folder
    other = image_store(tmp_path / "other", replace(IMAGE, weights="12" * 32))
    with pytest.raises(TierError, match="was fitted on image features of"):
        fit_head(manifest(), stores_of(other, stores[1]), replace(OPTIONS, start=run), tmp_path / "runs")


def test_a_head_of_other_rows_of_the_same_names_is_refused(
    fit: Fit, tmp_path: Path, stores: tuple[FeatureStore, FeatureStore]
) -> None:
    run, data = fit(split="random").folder, manifest()
    # The names stay in their parts, and pictures that the head was fitted on come to stand among the test
    # rows.
    pictures = data.table["image_key"].sample(frac=1, random_state=0).to_numpy()
    other = replace(data, table=data.table.assign(image_key=pictures))
    with pytest.raises(TierError, match="were fitted on other rows"):
        fit_head(other, stores_of(*stores), replace(OPTIONS, split="random", start=run), tmp_path / "runs")


def test_scores_that_the_head_sees_are_the_same_in_the_same_order(fit: Fit, tmp_path: Path) -> None:
    scorers = [score_store(tmp_path / name, name, number) for number, name in enumerate(("a", "b"))]
    run = fit(scorers).folder
    assert fit(scorers, head=STAY, start=run)
    with pytest.raises(TierError, match="--score-features a,b, not b,a"):
        fit(scorers[::-1], start=run)
    with pytest.raises(TierError, match="was fitted on b features"):
        fit([scorers[0], score_store(tmp_path / "other", "b", 2)], start=run)


def test_a_folder_that_is_no_run_is_told(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(TierError, match="is not the folder of a run"):
        fit(start=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "file", ["model.json", "model.safetensors", "splits.json", "results.json", "config.json"]
)
def test_a_run_that_is_damaged_or_lacks_a_file_is_told_with_what_to_do(fit: Fit, file: str) -> None:
    run = fit().folder
    (run / file).write_bytes((run / file).read_bytes()[:50])
    with pytest.raises(
        TierError, match=f"{re.escape(str(run))}.*(fit it again|fit the run again|made it again)"
    ):
        fit(start=run)
    (run / file).unlink()
    with pytest.raises(
        TierError, match=f"{re.escape(str(run))}.*(fit it again|fit the run again|made it again|--models all)"
    ):
        fit(start=run)
