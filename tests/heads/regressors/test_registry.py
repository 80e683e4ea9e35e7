"""Every head has the same interface: options as users write them, joint fits, tensors, no false skill."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from tier4k.heads.data.fusion import Fused, fuse
from tier4k.heads.data.splits import make_splits
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.options import OPTION_OF
from tier4k.heads.regressors.registry import (
    HEADS,
    HeadError,
    changed_options,
    fit_heads,
    has_epochs,
    head_options,
    make_head,
    resolve_options,
    restore_head,
)
from tier4k.heads.regressors.tasks import FitTask
from tier4k.tests.builders.feature_sets import feature_set

NETWORK = {"max_epochs": 20, "hidden": 8, "learning_rate": 0.01, "batch_size": 16}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": NETWORK,
    "gated": NETWORK,
    "bilinear": NETWORK,
    "ensemble": {"members": ("ridge", "svr")},
}
SEARCHED: dict[str, dict[str, list[Any]]] = {
    "mlp": {"hidden": [2, 8]},
    "gated": {"dropout": [0.0, 0.5]},
    "bilinear": {"activation": ["relu", "gelu"]},
    "ridge": {"penalties": [(0.1,), (10.0,)]},
    "kernel-ridge": {"length_scales": [(0.5,), (2.0,)]},
    "svr": {"C": [0.1, 10.0]},
    "ensemble": {"combine": ["scores", "ranks"]},
}


def options(name: HeadName) -> dict[str, Any]:
    return resolve_options(name, "cached", "resnet18", QUICK.get(name, {}))


@pytest.mark.parametrize("name", HEADS)
def test_a_restored_head_predicts_what_the_fitted_one_does(name: HeadName) -> None:
    features = feature_set()
    (trial,) = run_trials(
        features, fuse(features, "nr"), ("MOS_q",), make_splits(features, "random", 1, 0), name, options(name)
    )
    X = fuse(features, "nr").X
    restored = restore_head(name, trial.head.weights_, options(name), seed=0)
    np.testing.assert_allclose(restored.predict(X), trial.head.predict(X), rtol=1e-6)
    assert all(
        isinstance(values, np.ndarray) and values.dtype.kind == "f" for values in trial.head.weights_.values()
    )


@pytest.mark.parametrize("name", HEADS)
def test_every_head_has_the_losses_and_held_out_predictions_of_the_protocol(name: HeadName) -> None:
    features = feature_set(60)
    X, streams = fuse(features, "nr")
    head = make_head(name, options(name), seed=0)
    task = FitTask(features.targets[:, 0], np.arange(40), np.arange(40, 60), group=features.group)
    fit_heads(name, [head], X, streams, [task], lambda _: None)
    assert bool(len(head.history.training_loss)) == has_epochs(name)
    assert len(head.history.validation_loss) == len(head.history.training_loss)
    before = head.validation_prediction
    assert (before is not None) == (name == "ensemble")
    assert before is None or before.shape == (20,)
    held_out = head.held_out_prediction
    assert (held_out is not None) == (name in ("ridge", "kernel-ridge"))
    assert held_out is None or held_out.shape == (40,)
    restored = restore_head(name, head.weights_, options(name), seed=0)
    assert len(restored.history.training_loss) == 0
    assert restored.validation_prediction is None
    assert restored.held_out_prediction is None


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("rule", ["prompt", "random"])
def test_without_a_signal_no_head_has_skill(name: HeadName, rule: Any) -> None:
    features = feature_set(200)
    splits = make_splits(features, rule, 5, 0)
    trials = run_trials(features, fuse(features, "nr"), ("MOS_q",), splits, name, options(name))
    # The SRCC of n independent pairs has variance 1 / (n - 1). Five test parts of 40 rows overlap, so the
    # bound is that of one.
    found = [trial.metrics["last"]["srcc"] for trial in trials if "srcc" in trial.metrics["last"]]
    assert abs(np.nanmean(found)) < 3 / np.sqrt(39)


@pytest.mark.parametrize("name", HEADS)
def test_with_a_signal_every_head_has_skill(name: HeadName) -> None:
    features = feature_set(200)
    X, streams = fuse(features, "nr")
    features.targets[:, 0] = 3 + X[:, 0] + X[:, 5]
    (trial,) = run_trials(
        features, Fused(X, streams), ("MOS_q",), make_splits(features, "random", 1, 0), name, options(name)
    )
    assert trial.metrics["last"]["srcc"] > 0.6


@pytest.mark.parametrize("name", HEADS)
def test_scikit_learn_searches_and_validates_every_head_on_fused_features(name: HeadName) -> None:
    features = feature_set(60)
    X, streams = fuse(features, "nr")
    y, head = X[:, 0] + X[:, 5], make_head(name, options(name), seed=0)
    search = GridSearchCV(clone(head), SEARCHED[name], cv=2).fit(X, y, streams=streams)
    assert search.best_params_ and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert cross_val_score(head, X, y, cv=3, params={"streams": streams}).shape == (3,)


@pytest.mark.parametrize("name", HEADS)
def test_changed_options_are_listed_as_texts_that_resolve_to_them(name: HeadName) -> None:
    stored = json.loads(json.dumps(options(name)))  # as a run's configuration has them
    changed = [text.split("=") for text in changed_options(name, "cached", "resnet18", stored)]
    assert {OPTION_OF.get(option, option) for option, _ in changed} == set(QUICK.get(name, {}))
    assert resolve_options(
        name,
        "cached",
        "resnet18",
        {OPTION_OF.get(option, option): text for option, text in changed},
    ) == options(name)
    assert (
        changed_options(
            name,
            "cached",
            "resnet18",
            json.loads(json.dumps(resolve_options(name, "cached", "resnet18", {}))),
        )
        == []
    )


def test_none_and_booleans_are_listed_as_they_are_given() -> None:
    stored = resolve_options(
        "mlp", "published", "vit_large_patch16_224", {"patience": 3, "standardize": True, "hidden": 8}
    )
    found = changed_options("mlp", "published", "vit_large_patch16_224", stored)
    assert found == ["hidden=8", "patience=3", "standardize=true"]
    assert changed_options("ridge of another run", "fitted elsewhere", "", {"calibrated": True}) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "given", "found"),
    [
        ("mlp", {"hidden": "64"}, {"hidden": 64}),
        ("mlp", {"hidden": "none", "standardize": "false"}, {"hidden": None, "standardize": False}),
        ("mlp", {"learning_rate": "1e-4", "optimizer": "adam"}, {"learning_rate": 1e-4, "optimizer": "adam"}),
        ("mlp", {"learning_rate": 1, "max_epochs": 3}, {"learning_rate": 1.0, "max_epochs": 3}),
        ("ridge", {"penalties": "0.1, 1"}, {"penalties": (0.1, 1.0)}),
        ("ensemble", {"members": "ridge,svr"}, {"members": ("ridge", "svr")}),
        ("ridge", {"penalties": [0.5]}, {"penalties": (0.5,)}),
    ],
)
def test_texts_become_values_of_the_options_type(
    name: HeadName, given: dict[str, Any], found: dict[str, Any]
) -> None:
    resolved = resolve_options(name, "cached", "resnet18", given)
    assert {option: resolved[option] for option in found} == found
    assert all(type(resolved[option]) is type(value) for option, value in found.items())


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("mlp", {"hidden": "many"}, "hidden is 'many', which is not valid: use a whole number or none"),
        ("mlp", {"hidden": 2.5}, "hidden is 2.5, which is not valid: use a whole number or none"),
        ("mlp", {"max_epochs": "0"}, "epochs is 0, which is not valid: use a number from 1"),
        ("mlp", {"standardize": "maybe"}, "standardize is 'maybe', which is not valid: use true or false"),
        ("mlp", {"optimizer": "sgd"}, "optimizer is 'sgd', which is not valid: use one of adam, adamw"),
        ("mlp", {"learning_rate": True}, "learning_rate is True, which is not valid: use a number"),
        ("mlp", {"random_state": 3}, "has no option random_state"),
        ("ridge", {"max_epochs": 5}, "the ridge head has no option epochs: it has penalties"),
        (
            "ridge",
            {"penalties": "1,x"},
            "penalties is '1,x', which is not valid: use a list of numbers in one text, such as \"1,10\"",
        ),
        (
            "ensemble",
            {"members": "ridge,rigde"},
            "members is 'rigde', which is not valid: "
            "use one of mlp, gated, bilinear, ridge, kernel-ridge, svr",
        ),
        ("svr", {"C": "nan"}, "C is nan, which is not valid: use a number above 0"),
        ("mlp", {"dropout": 10**400}, "dropout is 10000.*which is not valid: use a"),
    ],
)
def test_a_wrong_option_or_value_is_refused_with_the_valid_ones(
    name: HeadName, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(HeadError, match=message):
        resolve_options(name, "cached", "resnet18", given)


@pytest.mark.parametrize("name", HEADS)
def test_every_default_is_within_its_limits_and_of_its_type(name: HeadName) -> None:
    resolved = resolve_options(name, "cached", "resnet18", {})
    again = resolve_options(
        name, "cached", "resnet18", {option: resolved[option] for option in head_options(name)}
    )
    assert again == resolved


def test_output_of_heads_without_epochs_mentions_none(project: Path) -> None:
    from typer.testing import CliRunner

    from tier4k import cli

    encoders = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
    arguments = ["fit-head", "Dataset", "--split", "random", "--repeats", "1", *encoders]
    for name in HEADS:
        result = CliRunner().invoke(cli.app, [*arguments, "--head", name])
        assert result.exit_code == 0, result.output
        assert ("epoch" in result.output) == has_epochs(name)
    result = CliRunner().invoke(cli.app, [*arguments, "--head", "svr", "--epochs", "5", "--set", "C=1"])
    assert (
        result.exit_code == 2
        and "the svr head has no option epochs: it has C, epsilon, length_scale" in result.output
    )
