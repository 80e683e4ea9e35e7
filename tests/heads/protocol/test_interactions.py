"""Runs of heads with interactions: the stores they read, their identity, and that a run predicts again."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.encoders.templates import read_templates
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import load_features
from tier4k.heads.data.interactions import InteractionError
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.finetuning.recipe import resolve_finetuning, separate_head_options
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions, ProtocolError
from tier4k.heads.results.read import read_config, read_predictions, read_splits
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.run import Run
from tier4k.tests.builders.towers import (
    BERT,
    IMAGE_TOWER,
    RESNET,
    TARGET,
    TEXT_TOWER,
    tower_store,
    towers_manifest,
    vector,
)

TEXTS = ("a good photo", "a bad photo")
BUILT_IN = read_templates(None).texts
OPTIONS = FitOptions(repeats=1, split="random", estimator="ridge")
ALL = "cosine+product+templates+image-prompt"

Fit = Callable[..., Run]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> FeatureStores:
    root = tmp_path_factory.mktemp("features")
    images = [tower_store(root, signature) for signature in (RESNET, IMAGE_TOWER)]
    texts = [tower_store(root, BERT), tower_store(root, TEXT_TOWER, [*TEXTS, *BUILT_IN])]
    return FeatureStores.of(images, texts)


@pytest.fixture(scope="module")
def fit(stores: FeatureStores, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    out = tmp_path_factory.mktemp("runs")
    return lambda **options: fit_head(towers_manifest(), stores, replace(OPTIONS, **options), out)


def with_interaction(interaction: str, **head: Any) -> dict[str, Any]:
    return {"head": {"interaction": interaction, **head}}


@pytest.mark.parametrize(
    ("method", "streams", "benchmark"),
    [
        ("nr", (), "all"),
        ("pr", (), "all"),
        ("fr", (), "I2I"),
        ("nr", ("image",), "all"),
        ("pr", ("text",), "all"),
    ],
)
def test_a_stored_run_predicts_what_it_has_recorded(
    fit: Fit, stores: FeatureStores, method: Method, streams: tuple[Stream, ...], benchmark: str
) -> None:
    run = fit(method=method, streams=streams, benchmark=benchmark, templates=TEXTS, **with_interaction(ALL))
    model = read_model(run.folder)
    assert (model.interaction, model.templates) == (ALL, TEXTS)
    features = load_features(
        towers_manifest().select(benchmark), stores, model.stages, model.interaction, model.templates
    )
    recorded = read_predictions(run.folder)
    predicted = dict(zip(features.name, model.predict(features)[TARGET, 0], strict=True))
    assert len(recorded) > 3
    np.testing.assert_allclose(recorded["prediction"], recorded["name"].map(predicted), atol=1e-6)


def test_a_run_on_one_column_is_a_line_through_cosines(fit: Fit) -> None:
    """All other columns are so small that ridge leaves them out: the head is least squares on the cosine."""
    run = fit(streams=("image",), **with_interaction("cosine", penalties="1e-9"))
    model = read_model(run.folder)
    head = model.heads[TARGET, 0]
    table = towers_manifest().table.set_index("name")
    (split,) = read_splits(run.folder)

    def columns(names: list[str]) -> np.ndarray:
        rows = []
        for name in names:
            line = table.loc[name]
            image, text = vector(line["image"], IMAGE_TOWER), vector(line["prompt"], TEXT_TOWER)
            cosine = image @ text / np.linalg.norm(image) / np.linalg.norm(text)
            rows.append([1, *image, *vector(line["image"], RESNET), cosine])
        return np.array(rows, float)

    scores = table.loc[list(split.train), TARGET].to_numpy()
    weights, *_ = np.linalg.lstsq(columns(list(split.train)), scores, rcond=None)
    recorded = read_predictions(run.folder)
    expected = columns(list(recorded["name"])) @ weights
    np.testing.assert_allclose(recorded["prediction"], expected, rtol=1e-3, atol=1e-3)
    assert head.n_features_in_ == 12 + 2 * 6


def test_both_spellings_are_one_run_and_every_interaction_is_another(fit: Fit) -> None:
    run = fit(**with_interaction("product+cosine"))
    assert fit(**with_interaction("cosine+product")).found
    assert read_config(run.folder).head["interaction"] == "cosine+product"
    kinds = ("none", "cosine", "templates", "image-prompt")
    assert len({run.folder, *(fit(**with_interaction(kind)).folder for kind in kinds)}) == 5


def test_none_is_not_part_of_the_identity(fit: Fit) -> None:
    run = fit()
    assert fit(**with_interaction("none")).folder == run.folder
    config = read_config(run.folder)
    assert "interaction" not in config.hashed["head"]
    assert "templates" not in config.hashed
    assert not any("interaction" in name for name in read_model(run.folder).heads[TARGET, 0].weights_)


def test_templates_are_part_of_the_identity_only_where_they_are_used(fit: Fit) -> None:
    built_in, other = (
        fit(**with_interaction("templates")),
        fit(templates=TEXTS, **with_interaction("templates")),
    )
    assert read_config(built_in.folder).templates == BUILT_IN
    assert read_config(other.folder).templates == TEXTS
    assert built_in.folder != other.folder
    assert (
        fit(templates=TEXTS, **with_interaction("cosine")).folder == fit(**with_interaction("cosine")).folder
    )
    assert read_config(fit(templates=TEXTS, **with_interaction("cosine")).folder).templates == ()


def test_a_run_names_the_stores_that_it_reads_and_no_others(fit: Fit) -> None:
    def encoders(**options: Any) -> set[str]:
        return set(read_config(fit(**options).folder).signatures)

    both = {"image hf:clip", "image resnet18"}
    assert encoders(streams=("image",)) == both
    assert encoders(streams=("image",), **with_interaction("image-prompt+cosine")) == both | {"text"}
    assert encoders(streams=("text",), **with_interaction("cosine")) == {
        "image",
        "text bert-base-uncased",
        "text hf:clip",
    }


def test_heads_from_before_the_option_are_read_as_heads_without_interactions(
    fit: Fit, stores: FeatureStores
) -> None:
    run = fit(seed=7)
    path = run.folder / "model.json"
    record = json.loads(path.read_text())
    del record["options"]["interaction"], record["templates"]
    path.write_text(json.dumps(record))
    model = read_model(run.folder)
    assert (model.interaction, model.templates) == ("none", ())
    features = load_features(towers_manifest(), stores, interaction=model.interaction)
    predicted = dict(zip(features.name, model.predict(features)[TARGET, 0], strict=True))
    recorded = read_predictions(run.folder)
    np.testing.assert_allclose(recorded["prediction"], recorded["name"].map(predicted), atol=1e-6)


def test_missing_towers_and_templates_are_found_before_anything_is_fitted(
    stores: FeatureStores, tmp_path: Path
) -> None:
    without = FeatureStores.of(list(stores.images.values()), [stores.texts["bert-base-uncased"]])
    for one, options, message in (
        (without, with_interaction("cosine"), "of one checkpoint.*tier extract DATA --encoder"),
        (
            stores,
            with_interaction("templates") | {"templates": ("other",)},
            "1 of 1 templates, first 'other'",
        ),
        (stores, with_interaction("cosin"), "interaction is 'cosin'.*none, or some of cosine"),
    ):
        with pytest.raises(InteractionError, match=message):
            fit_head(towers_manifest(), one, replace(OPTIONS, **options), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_training_goes_on_only_with_the_same_interaction_templates_and_streams(fit: Fit) -> None:
    network = {"max_epochs": 2, "hidden": 3}
    options = {"estimator": "gated", "templates": TEXTS, **with_interaction("templates", **network)}
    run = fit(**options)
    go_on = options | {"start": run.folder}
    stay = go_on | with_interaction("templates", **network, learning_rate=0.0)
    before, after = read_model(run.folder).heads[TARGET, 0], read_model(fit(**stay).folder).heads[TARGET, 0]
    for name, weights in before.weights_.items():
        np.testing.assert_allclose(after.weights_[name], weights, rtol=1e-4, atol=1e-5)
    for change, message in (
        (with_interaction("cosine", **network), "--set interaction templates, not cosine"),
        (with_interaction("none", **network), "--set interaction templates, not none"),
        ({"templates": BUILT_IN[:2]}, "other templates: pass the file of templates"),
    ):
        with pytest.raises(ProtocolError, match=message):
            fit(**go_on | change)


def test_training_goes_on_only_with_the_same_streams(fit: Fit) -> None:
    network = {"estimator": "mlp", **with_interaction("none", max_epochs=1, hidden=3)}
    run = fit(**network)
    with pytest.raises(ProtocolError, match=r"--streams text\+image, not image"):
        fit(**network, streams=("image",), start=run.folder)


def test_training_goes_on_only_with_the_same_encoders(
    fit: Fit, stores: FeatureStores, tmp_path: Path
) -> None:
    network = {"estimator": "gated", **with_interaction("none", max_epochs=1, hidden=2)}
    run = fit(**network)
    one = FeatureStores.of([stores.images["resnet18"]], list(stores.texts.values()))
    options = replace(OPTIONS, **network, start=run.folder)
    with pytest.raises(ProtocolError, match="image features of hf:clip, resnet18, .* features of resnet18"):
        fit_head(towers_manifest(), one, options, tmp_path)


def test_end_to_end_training_with_an_interaction_is_refused_by_name() -> None:
    head, training = separate_head_options({"interaction": "cosine", "learning_rate": "1e-3"})
    options = FitOptions(head=head, training=training, finetune="all")
    with pytest.raises(
        ProtocolError, match="--set interaction=cosine compares stored embeddings, which --fine"
    ):
        resolve_finetuning(options, "resnet18")
    assert resolve_finetuning(replace(options, head={"interaction": "none"}), "resnet18").values
