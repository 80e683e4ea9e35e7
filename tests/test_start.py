"""Heads that go on from those of another run: which one, and what stands in the way."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache.errors import TierError
from cache.store import FeatureStore
from heads.fit import Run, fit_head
from heads.model import read_model
from heads.results import read_config
from tests.test_fit import IMAGE, OPTIONS, TARGETS, image_store, manifest, text_store

Fit = Callable[..., Run]
STAY = OPTIONS.head | {"learning_rate": 0.0}


@pytest.fixture(name="stores")
def features(tmp_path: Path) -> tuple[FeatureStore, FeatureStore]:
    return image_store(tmp_path), text_store(tmp_path)


@pytest.fixture
def fit(stores: tuple[FeatureStore, FeatureStore], tmp_path: Path) -> Fit:
    return lambda **options: fit_head(manifest(), *stores, replace(OPTIONS, **options), tmp_path / "runs")


def test_each_head_starts_from_that_of_its_own_target_and_split(fit: Fit) -> None:
    first = fit(repeats=2, seeds=2)
    on = fit(repeats=2, seeds=2, head=STAY, start=first.folder)
    before, after = read_model(first.folder).heads, read_model(on.folder).heads
    assert len(after) == len(TARGETS) * 4
    for place, head in after.items():
        for name, weights in head.weights_.items():
            np.testing.assert_allclose(weights, before[place].weights_[name], rtol=1e-4, atol=1e-5)
    assert read_config(on.folder)["start"] == first.folder.name


def test_one_repeat_of_a_run_can_be_gone_on_from_by_its_seed(fit: Fit) -> None:
    first = fit(repeats=3)
    on = fit(repeats=1, seed=2, targets=TARGETS[:1], head=STAY, start=first.folder)
    (head,) = read_model(on.folder).heads.values()
    np.testing.assert_allclose(head.weights_["fc2.weight"], read_model(first.folder).heads[TARGETS[0], 2].weights_["fc2.weight"], rtol=1e-4)


def test_what_a_head_starts_from_makes_another_run(fit: Fit) -> None:
    starts = [None, fit().folder, fit(head=OPTIONS.head | {"learning_rate": 0.1}).folder]
    assert len({fit(start=start).folder for start in starts}) == 3
    assert fit(start=starts[1]).found


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        ({}, {"seed": 5}, "may know its test rows"),
        ({}, {"split": "random"}, "may know its test rows"),
        ({}, {"head": OPTIONS.head | {"validation_fraction": 0.0}}, "may know its test rows"),
        ({"targets": TARGETS[:1]}, {}, f"no head for {TARGETS[1]}"),
        ({}, {"estimator": "ridge", "head": {}}, "use --head mlp"),
        ({}, {"estimator": "gated"}, "--head mlp, not gated"),
        ({}, {"method": "pr"}, "--method nr, not pr"),
        ({}, {"head": OPTIONS.head | {"hidden": 3}}, "give both the same options"),
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


def test_a_head_of_other_features_is_refused(fit: Fit, tmp_path: Path, stores: tuple[FeatureStore, FeatureStore]) -> None:
    run = fit().folder
    other = image_store(tmp_path / "other", replace(IMAGE, weights="12" * 32))
    with pytest.raises(TierError, match="acts on image features of"):
        fit_head(manifest(), other, stores[1], replace(OPTIONS, start=run), tmp_path / "runs")


def test_a_folder_that_is_no_run_is_told(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(TierError, match="is not the folder of a run"):
        fit(start=tmp_path / "nowhere")
