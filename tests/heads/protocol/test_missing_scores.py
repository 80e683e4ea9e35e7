"""A row without a score for one target keeps its other targets, and takes no part in this one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import Split, SplitError
from tier4k.heads.data.stored_splits import StoredSplits
from tier4k.heads.evaluation.nested import FusedCandidate, nested_selection
from tier4k.heads.evaluation.run_trials import run_trials
from tier4k.heads.protocol.cross_dataset import evaluate_model
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.zero_shot import ScoreOptions, evaluate_scorer, plan_evaluation
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.reporting.terminal.notes import notes
from tier4k.heads.results.read import read_predictions
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.results import Results
from tier4k.heads.results.run import Run
from tier4k.tests.builders.stores import stores_of
from tier4k.tests.golden.golden_rows import ROWS, TARGETS, manifest, write_stores, zero_shot_scores

FULL, PARTIAL = TARGETS

PENALTY = 0.3

HEADS: dict[str, dict[str, Any]] = {
    "ridge": {},
    "kernel-ridge": {},
    "mlp": {"hidden": 8, "max_epochs": 2, "batch_size": 16},
}

WITHOUT = np.random.default_rng(5).permutation(ROWS)[:15]
"""Rows that have no score for `PARTIAL`."""


def partial_manifest() -> Manifest:
    whole = manifest()
    table = whole.table.copy()
    table.loc[WITHOUT, PARTIAL] = np.nan
    return replace(whole, table=table)


@dataclass(frozen=True)
class Project:
    """The stores of the rows, and a folder of runs."""

    runs: Path
    images: FeatureStore
    texts: FeatureStore
    scores: FeatureStore

    def fit(self, data: Manifest, **options: Any) -> Run:
        chosen = FitOptions(repeats=2, seed=3, **options)
        return fit_head(data, stores_of(self.images, self.texts), chosen, self.runs)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("missing")
    return Project(folder / "runs", *write_stores(folder))


def value(run: Run, selection: str, metric: str, repeat: int) -> float:
    """One value of `PARTIAL` in the results of a run."""
    return vars(run.results.summaries[PARTIAL][selection][metric])["values"][repeat]


def predictions(run: Run, target: str) -> pd.DataFrame:
    rows = read_predictions(run.folder)
    return rows[rows["target"] == target].reset_index(drop=True)


@pytest.mark.parametrize("head", HEADS)
def test_the_other_target_is_that_of_a_table_with_all_scores(project: Project, head: Any) -> None:
    options = {"estimator": head, "head": HEADS[head]}
    whole, partial = project.fit(manifest(), **options), project.fit(partial_manifest(), **options)
    assert whole.folder != partial.folder
    pd.testing.assert_frame_equal(predictions(whole, FULL), predictions(partial, FULL), check_exact=True)
    assert repr(whole.results.summaries[FULL]) == repr(partial.results.summaries[FULL])
    splits = [(run.folder / "splits.json").read_bytes() for run in (whole, partial)]
    assert splits[0] == splits[1]


def test_the_target_with_missing_scores_is_a_ridge_of_the_scored_rows(project: Project) -> None:
    run = project.fit(partial_manifest(), estimator="ridge", head={"penalties": (PENALTY,)})
    X = fuse(load_features(manifest(), stores_of(project.images, project.texts)), "nr").X.astype(float)
    table = partial_manifest().table.set_index("name")
    number_of = {name: number for number, name in enumerate(table.index)}
    found = predictions(run, PARTIAL)
    for repeat, split in enumerate(StoredSplits.read(run.folder / "splits.json").repeats):
        train, test = (
            [number_of[name] for name in names if number_of[name] not in WITHOUT]
            for names in (split.train, split.test)
        )
        assert len(train) < len(split.train)
        assert len(test) < len(split.test)
        y = table[PARTIAL].to_numpy()
        scaler = StandardScaler().fit(X[train])
        ridge = Ridge(PENALTY * X.shape[1]).fit(scaler.transform(X[train]), y[train])
        rows = found[found["repeat"] == repeat]
        assert rows["name"].tolist() == table.index[test].tolist()
        np.testing.assert_array_equal(rows["truth"], y[test])
        expected = ridge.predict(scaler.transform(X[test]))
        np.testing.assert_allclose(rows["prediction"], expected, rtol=1e-9)
        srcc = spearmanr(y[test], expected).statistic
        assert value(run, run.results.headline, "srcc", repeat) == pytest.approx(srcc)
        # No test prompt is in training, so that this baseline is the mean of its generator's training rows.
        generators = table["generator"].to_numpy()
        means = [y[[row for row in train if generators[row] == generators[each]]].mean() for each in test]
        rmse = np.sqrt(np.mean((y[test] - means) ** 2))
        assert value(run, "generator_mean", "rmse", repeat) == pytest.approx(rmse)


def test_a_trained_head_sees_no_row_without_a_score(project: Project) -> None:
    """Features of rows without a score do not change this target's head."""
    data = partial_manifest()
    features = load_features(data, stores_of(project.images, project.texts))
    splits = SplitRequest("prompt", repeats=2).splits(features, validation=0.2)
    fused = fuse(features, "nr")
    changed = fused._replace(X=fused.X.copy())
    changed.X[WITHOUT] *= 50
    options = read_model(project.fit(data, head=HEADS["mlp"]).folder).options
    before, after = (run_trials(features, own, [PARTIAL], splits, "mlp", options) for own in (fused, changed))
    for old, new in zip(before, after, strict=True):
        assert not set(old.test) & set(WITHOUT)
        assert old.held_out is not None and np.isfinite(old.held_out.truth).all()
        np.testing.assert_array_equal(old.predictions["best_validation"], new.predictions["best_validation"])


def test_missing_scores_are_counted_in_the_results_and_said_in_one_note(project: Project) -> None:
    run = project.fit(partial_manifest(), estimator="ridge")
    results = Results.read(run.folder)
    assert results.missing_scores == {PARTIAL: len(WITHOUT)}
    said = [str(note) for note in notes(results)]
    assert said.count(f"{PARTIAL}: {len(WITHOUT)} of {ROWS} rows have no score and take no part") == 1
    assert not any(FULL in note and "no score" in note for note in said)
    assert project.fit(manifest(), estimator="ridge").results.missing_scores == {}


def test_counts_of_the_benchmark_are_those_of_its_own_rows(project: Project) -> None:
    run = project.fit(partial_manifest(), estimator="ridge", benchmark="I2I", split="random")
    own_rows = partial_manifest().select("I2I").table
    assert run.results.missing_scores == {PARTIAL: int(own_rows[PARTIAL].isna().sum())}


def test_runs_are_compared_on_the_rows_of_each_target(project: Project) -> None:
    ridge = project.fit(partial_manifest(), estimator="ridge")
    kernel = project.fit(partial_manifest(), estimator="kernel-ridge")
    for comparison in compare([ridge.folder, kernel.folder]):
        for run, mean in zip((ridge, kernel), comparison.means, strict=True):
            rows = predictions(run, comparison.target).groupby("repeat")
            expected = [spearmanr(part["truth"], part["prediction"]).statistic for _, part in rows]
            assert mean == pytest.approx(np.mean(expected))


def test_a_warm_start_goes_on_with_the_same_scored_rows(project: Project) -> None:
    options = {"estimator": "mlp", "head": HEADS["mlp"]}
    first = project.fit(partial_manifest(), **options)
    stays = HEADS["mlp"] | {"learning_rate": 0.0}
    second = project.fit(partial_manifest(), estimator="mlp", head=stays, start=first.folder)
    for key, head in read_model(second.folder).heads.items():
        before = read_model(first.folder).heads[key]
        for name, weights in head.weights_.items():
            np.testing.assert_allclose(weights, before.weights_[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", [None, SplitRequest("prompt", repeats=2, seed=3)])
def test_a_scorer_is_evaluated_on_the_scored_rows(project: Project, split: SplitRequest | None) -> None:
    data = partial_manifest()
    plan = plan_evaluation(data, project.scores.signature, ScoreOptions(split=split))
    run = evaluate_scorer(plan, project.scores, project.runs)
    found = predictions(run, PARTIAL)
    truth, scored = data.table[PARTIAL], zero_shot_scores()
    for repeat, part in enumerate(plan.splits):
        rows = [row for row in part.test if row not in WITHOUT]
        of_repeat = found[found["repeat"] == repeat]
        assert of_repeat["name"].tolist() == data.table["name"][rows].tolist()
        np.testing.assert_allclose(of_repeat["prediction"], scored[rows], rtol=1e-6)
        srcc = spearmanr(truth[rows], scored[rows]).statistic
        assert value(run, "zero_shot", "srcc", repeat) == pytest.approx(srcc)


def test_a_choice_among_candidates_is_made_and_tested_on_the_scored_rows(project: Project) -> None:
    data = partial_manifest()
    features = load_features(data, stores_of(project.images, project.texts))
    fused = fuse(features, "nr")
    request = SplitRequest("prompt", repeats=2, seed=3)
    candidates = [
        FusedCandidate(fused, "ridge", {"penalties": (penalty,), "validation_fraction": 0.0})
        for penalty in (1e-3, PENALTY, 1e3)
    ]
    found = nested_selection(features, candidates, PARTIAL, request)
    y = data.table[PARTIAL].to_numpy()

    def srcc_of(penalty: float, split: Split) -> float:
        train, test = np.setdiff1d(split.train, WITHOUT), np.setdiff1d(split.test, WITHOUT)
        scaler = StandardScaler().fit(fused.X[train].astype(float))
        X = scaler.transform(fused.X.astype(float))
        ridge = Ridge(penalty * X.shape[1]).fit(X[train], y[train])
        return spearmanr(y[test], ridge.predict(X[test])).statistic

    inner = replace(request, selection=True).splits(features, validation=0.0)
    for repeat, split in enumerate(request.splits(features, validation=0.0)):
        expected = [srcc_of(penalty, inner[repeat]) for penalty in (1e-3, PENALTY, 1e3)]
        np.testing.assert_allclose(found.selection_srcc[:, repeat], expected)
        chosen = (1e-3, PENALTY, 1e3)[int(np.argmax(expected))]
        assert found.test_srcc[repeat] == pytest.approx(srcc_of(chosen, split))


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_model_is_evaluated_on_the_scored_rows_of_other_data(project: Project, calibrated: bool) -> None:
    model = read_model(project.fit(manifest(), estimator="ridge").folder).only(repeat=0)
    data = partial_manifest()
    predicted = {(FULL, 0): 3 - 0.5 * zero_shot_scores()}
    pairs = {FULL: PARTIAL}
    root = project.runs.parent
    run = evaluate_model(model, data, predicted, pairs, "all", calibrated, root, project.runs)
    scored = np.setdiff1d(np.arange(ROWS), WITHOUT)
    found, truth = predictions(run, PARTIAL), data.table[PARTIAL].to_numpy()[scored]
    assert found["name"].tolist() == data.table["name"][scored].tolist()
    np.testing.assert_array_equal(found["truth"], truth)
    (summaries,) = run.results.summaries.values()
    expected = spearmanr(truth, predicted[FULL, 0][scored]).statistic
    assert summaries["elsewhere"]["srcc"].mean == pytest.approx(expected)
    assert np.isfinite(summaries["elsewhere"]["rmse"].mean) == calibrated
    assert run.results.missing_scores == {PARTIAL: len(WITHOUT)}


@pytest.mark.parametrize("kept", [0, 10])
def test_a_target_with_too_few_scores_is_refused_before_anything_is_written(
    project: Project, kept: int, tmp_path: Path
) -> None:
    whole = manifest()
    table = whole.table.copy()
    table.loc[kept:, PARTIAL] = np.nan
    data = replace(whole, table=table)
    with pytest.raises(SplitError, match=f"{PARTIAL}: .* leave {PARTIAL} out with --target"):
        fit_head(
            data, stores_of(project.images, project.texts), FitOptions(estimator="ridge"), tmp_path / "runs"
        )
    assert not (tmp_path / "runs").exists()
    assert project.fit(data, estimator="ridge", targets=(FULL,)).results.missing_scores == {}


def test_an_interval_is_rough_where_few_prompts_have_a_score_for_the_target(project: Project) -> None:
    run = project.fit(partial_manifest(), estimator="ridge", head={})
    for target in TARGETS:
        rows = predictions(run, target)
        fewest = int(rows.groupby("repeat")["group"].nunique().min())
        assert run.results.fewest_prompts[target] == fewest
    for fewest, is_rough in ((9, True), (10, False)):
        results = replace(run.results, fewest_prompts={FULL: 10, PARTIAL: fewest})
        rough = [note.plain for note in notes(results) if "rough" in note.plain]
        assert rough == (
            [f"{PARTIAL}: the interval is rough: a repeat has only 9 test prompts"] if is_rough else []
        )
