"""Heads with interactions: what their models read, and that a head is its tensors."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from tier4k.heads.data.embeddings import Towers
from tier4k.heads.data.fusion import Fused, fuse, interact
from tier4k.heads.data.interactions import InteractionError
from tier4k.heads.data.prompt_map import fit_prompt_map
from tier4k.heads.data.splits import make_splits
from tier4k.heads.data.streams import Part, Streams
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.registry import HEADS, make_head, resolve_options, restore_head
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.tasks import FitTask, WatchedRows
from tier4k.tests.builders.feature_sets import feature_set

KINDS = "cosine+product+templates+image-prompt"
FEATURES = (Part("text", "bert", 6), Part("image", "resnet18", 6))
NETWORK = {"max_epochs": 2, "hidden": 4}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": NETWORK,
    "gated": NETWORK,
    "bilinear": NETWORK,
    "ensemble": {"members": ("ridge", "svr", "gated")},
}


def data(rows: int = 60) -> tuple[Fused, np.ndarray]:
    """Fused vectors with all embeddings, and scores that follow the cosine of image and text."""
    features = feature_set(rows)
    random = np.random.default_rng(3)
    features = replace(features, text={"bert": random.normal(size=(rows, 6))})
    features = features.with_embeddings(KINDS, Towers("resnet18", "bert"), random.normal(size=(2, 6)))
    fused = fuse(features, "nr")
    return fused, columns(fused.X)[:, 12] + 0.1 * random.normal(size=rows)


def columns(X: np.ndarray) -> np.ndarray:
    """Twelve features, and after them the columns of all interactions."""
    image, text, prompt = (
        part / np.linalg.norm(part, axis=1)[:, None] for part in np.split(X[:, 12:30], 3, 1)
    )
    product = image * text
    others = [product.sum(1)[:, None], product, X[:, 30:], (image * prompt).sum(1)[:, None]]
    return np.hstack([X[:, :12], *others])


READ = Streams(
    (
        *FEATURES,
        Part("interaction", "cosine", 1),
        Part("interaction", "product", 6),
        Part("interaction", "templates", 2),
        Part("interaction", "image-prompt", 1),
    )
)


def head(name: HeadName, interaction: str, **others: Any) -> Any:
    options = resolve_options(name, "cached", "resnet18", QUICK.get(name, {}) | others)
    return make_head(name, options | {"interaction": interaction}, seed=0)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_reads_the_columns_in_the_place_of_the_embeddings(name: HeadName) -> None:
    (X, streams), y = data()
    own = head(name, KINDS).fit(X, y, streams=streams)
    plain = head(name, "none").fit(columns(X), y, streams=READ)
    np.testing.assert_allclose(own.predict(X), plain.predict(columns(X)), rtol=1e-6, atol=1e-6)
    assert own.n_features_in_ == X.shape[1]


@pytest.mark.parametrize("name", HEADS)
def test_without_an_interaction_a_head_is_the_same_to_the_last_bit(name: HeadName) -> None:
    (X, streams), y = data()
    own = head(name, "none").fit(X, y, streams=streams)
    plain = head(name, "none").fit(X[:, :12], y, streams=Streams(FEATURES))
    tensors = {key: values for key, values in own.weights_.items() if key != "interaction.widths"}
    assert tensors.keys() == plain.weights_.keys()
    for key, values in plain.weights_.items():
        assert values.tobytes() == tensors[key].tobytes()


@pytest.mark.parametrize("transforms", [{}, {"image_transform": "sqrt", "target_transform": "rank-gauss"}])
@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_its_tensors(name: HeadName, transforms: dict[str, str]) -> None:
    (X, streams), y = data()
    own = head(name, "templates+cosine", **transforms).fit(X, y, streams=streams)
    options = {key: value for key, value in own.get_params().items() if key != "random_state"}
    for fixed in HEADS[name].fixed:
        del options[fixed]
    restored = restore_head(name, own.weights_, options, seed=0)
    np.testing.assert_array_equal(restored.predict(X), own.predict(X))
    assert restored.n_features_in_ == X.shape[1]
    assert restored.weights_.keys() == own.weights_.keys()
    assert clone(own).get_params() == own.get_params()
    for other in ("none", "product"):
        with pytest.raises(ValueError, match=f"not the weights of a head with interaction={other} on 15 col"):
            restore_head(name, own.weights_, options | {"interaction": other}, seed=0)
    without = {key: values for key, values in own.weights_.items() if key != "interaction.widths"}
    with pytest.raises(ValueError, match=r"interaction=templates\+cosine on 15 columns: interaction.widths"):
        restore_head(name, without, options, seed=0)


@pytest.mark.parametrize(
    "widths",
    [np.zeros((2, 2), int), np.ones(5), np.array([12, -6, 6, 0, 0]), np.array([11, 6, 6, 0, 0])],
)
def test_tensors_that_do_not_fit_are_refused(widths: np.ndarray) -> None:
    (X, streams), y = data()
    weights = RidgeHead(interaction="cosine").fit(X, y, streams=streams).weights_
    with pytest.raises(ValueError, match="not the weights of a head with interaction=cosine on 13 columns"):
        RidgeHead.from_weights(weights | {"interaction.widths": widths}, interaction="cosine")


def test_each_interaction_is_standardized_on_its_own() -> None:
    """Scaled up a thousandfold, the features change nothing for the columns of interactions."""
    (X, streams), y = data()
    scaled = X.copy()
    scaled[:, :12] *= 1e3
    one, other = (RidgeHead(interaction="cosine+product") for _ in range(2))
    weights = one.fit(X, y, streams=streams).weights_["linear.weight"][0]
    scaled_weights = other.fit(scaled, y, streams=streams).weights_["linear.weight"][0]
    np.testing.assert_allclose(scaled_weights[12:], weights[12:], rtol=1e-6)
    np.testing.assert_allclose(1e3 * scaled_weights[:12], weights[:12], rtol=1e-6)


def test_heads_with_other_interactions_are_fitted_together_as_alone() -> None:
    (X, streams), y = data()
    options = ["none", "cosine", "product", "cosine"]
    heads = [RidgeHead(interaction=interaction) for interaction in options]
    tasks = [FitTask(y, np.arange(number, 50 + number)) for number in range(4)]
    finished: list[int] = []
    RidgeHead.fit_many(heads, X, tasks, finished.append, streams)
    assert sorted(finished) == [0, 1, 2, 3]
    for fitted, interaction, task in zip(heads, options, tasks, strict=True):
        alone = RidgeHead(interaction=interaction).fit(X[task.train], y[task.train], streams=streams)
        np.testing.assert_allclose(fitted.predict(X), alone.predict(X), rtol=1e-9)


def with_prompts(rows: int = 60) -> tuple[Fused, np.ndarray, np.ndarray]:
    """Fused vectors with twelve texts, scores that follow the cosine, and the prompts of the rows."""
    (X, streams), _ = data(rows)
    group = np.arange(rows) % 12
    X[:, 18:24] = X[group, 18:24]
    return Fused(X, streams), columns(X)[:, 12] + 0.1 * np.random.default_rng(4).normal(size=rows), group


@pytest.mark.parametrize("name", ["mlp", "ridge", "kernel-ridge", "svr", "ensemble"])
def test_a_head_with_a_map_is_its_tensors_which_no_held_out_row_changes(name: HeadName) -> None:
    (X, streams), y, group = with_prompts()
    other_X, other_y = X.copy(), y.copy()
    other_X[48:], other_y[48:] = 2 * X[48:] + 1, 0
    heads = [head(name, "map") for _ in range(2)]
    for one, inputs, targets in zip(heads, (X, other_X), (y, other_y), strict=True):
        type(one).fit_many([one], inputs, [FitTask(targets, np.arange(48), group=group)], streams=streams)
    own, other = heads
    assert own.weights_.keys() == other.weights_.keys()
    for key, values in own.weights_.items():
        assert values.tobytes() == other.weights_[key].tobytes(), key
    options = {key: value for key, value in own.get_params().items() if key != "random_state"}
    restored = restore_head(name, own.weights_, options, seed=0)
    np.testing.assert_array_equal(restored.predict(X), own.predict(X))


def test_training_rows_are_compared_with_a_map_that_has_not_seen_their_prompt() -> None:
    (X, streams), y, group = with_prompts()
    train = np.arange(48)
    own = RidgeHead(interaction="map", penalties=(1e-9,))
    RidgeHead.fit_many([own], X, [FitTask(y, train, group=group)], streams=streams)
    images, texts = X[:, 12:18], X[:, 18:24]
    learnt, left_out = fit_prompt_map(images[train], texts[train], y[train], group[train])
    read = Streams((*FEATURES, Part("interaction", "map", 1)))
    plain = RidgeHead(penalties=(1e-9,))
    plain.fit(np.hstack([X[train, :12], left_out]), y[train], groups=group[train], streams=read)
    new = np.hstack([X[:, :12], learnt.cosines(images, texts)])
    np.testing.assert_allclose(own.predict(X), plain.predict(new), rtol=1e-6)


def test_heads_with_maps_of_other_rows_or_scores_are_fitted_together_as_alone() -> None:
    (X, streams), y, group = with_prompts()
    tasks = [
        FitTask(scores, rows, group=group)
        for scores in (y, -y)
        for rows in (np.arange(40), np.arange(20, 60))
    ]
    heads = [RidgeHead(interaction="map") for _ in tasks]
    RidgeHead.fit_many(heads, X, tasks, streams=streams)
    for fitted, task in zip(heads, tasks, strict=True):
        rows = task.train
        alone = RidgeHead(interaction="map")
        alone.fit(X[rows], task.scores[rows], groups=group[rows], streams=streams)
        np.testing.assert_allclose(fitted.predict(X), alone.predict(X), rtol=1e-9)


def test_a_map_needs_scores_and_prompts() -> None:
    (X, streams), y, group = with_prompts()
    with pytest.raises(InteractionError, match="fitted to scores"):
        interact(Fused(X, streams), "map")
    with pytest.raises(InteractionError, match="needs 3 prompts or more in training, and there are 2"):
        RidgeHead(interaction="map").fit(X, y, groups=group % 2, streams=streams)
    weights = RidgeHead(interaction="map").fit(X, y, groups=group, streams=streams).weights_
    with pytest.raises(ValueError, match="the tensors of the map"):
        RidgeHead.from_weights(
            {key: weights[key] for key in weights if "texts" not in key}, interaction="map"
        )


def test_what_an_epoch_predicts_reads_fused_vectors() -> None:
    (X, streams), y = data()
    history = []
    own = MLPHead(max_epochs=3, validation_fraction=0.0, random_state=0, interaction=KINDS)
    watch = WatchedRows(np.arange(len(X)), lambda _, predicted: history.append(predicted))
    MLPHead.fit_many([own], X, [FitTask(y, np.arange(len(X)), watched=watch)], streams=streams)
    np.testing.assert_allclose(history[-1], own.predict(X), rtol=1e-4, atol=1e-4)


def test_a_grid_of_scikit_learn_chooses_the_interaction_that_the_scores_follow() -> None:
    (X, streams), y = data()
    grid = GridSearchCV(RidgeHead(), {"interaction": ["none", "cosine"]}).fit(X, y, streams=streams)
    assert grid.best_params_ == {"interaction": "cosine"}
    assert grid.best_score_ > 0.8


def test_the_mean_over_crops_is_what_averaging_heads_read() -> None:
    """For them, the cosine of a row is that of its mean embedding."""
    features = feature_set()
    random = np.random.default_rng(0)
    image = random.normal(size=(80, 3, 6))
    prompt = np.zeros_like(image)
    features = replace(
        features,
        text={"bert": random.normal(size=(80, 6))},
        image={"resnet18": image},
        image_prompt={"resnet18": prompt},
        has_image_prompt=np.zeros(80, bool),
    )
    fused = fuse(features.with_embeddings("cosine", Towers("resnet18", "bert")), "nr")
    splits = make_splits(features, "random", 1, 0)
    options = resolve_options("ridge", "cached", "", {"interaction": "cosine"})
    (trial,) = run_trials(features, fused, ["MOS_q"], splits, "ridge", options)
    mean, text = image.mean(1), features.text["bert"]
    cosines = (mean * text).sum(1) / np.linalg.norm(mean, axis=1) / np.linalg.norm(text, axis=1)
    X = np.hstack([text, mean, cosines[:, None]])
    streams = Streams((*FEATURES, Part("interaction", "cosine", 1)))
    y, train, held = features.targets[:, 0], splits[0].train, splits[0].validation
    plain = RidgeHead().fit(X[train], y[train], (X[held], y[held]), streams=streams)
    np.testing.assert_allclose(trial.predictions["last"], plain.predict(X)[splits[0].test], rtol=1e-6)


def test_one_spelling_is_one_value_and_unknown_names_are_listed() -> None:
    for text in ("cosine+product", "product+cosine"):
        assert resolve_options("svr", "cached", "", {"interaction": text})["interaction"] == "cosine+product"
    for wrong in ("cosin", "cosine+cosine", "", "none+cosine"):
        with pytest.raises(
            HeadError, match=re.escape(f"interaction is '{wrong}'") + ".*none, or some of cosine"
        ):
            resolve_options("svr", "cached", "", {"interaction": wrong})
    with pytest.raises(HeadError, match="interaction is 3"):
        resolve_options("mlp", "cached", "", {"interaction": 3})


def test_a_head_whose_vectors_lack_embeddings_is_refused() -> None:
    (X, _), y = data()
    with pytest.raises(InteractionError, match="needs embeddings"):
        RidgeHead(interaction="cosine").fit(X[:, :12], y, streams=Streams(FEATURES))
    with pytest.raises(InteractionError, match="needs embeddings"):
        RidgeHead(interaction="cosine").fit(X, y)
