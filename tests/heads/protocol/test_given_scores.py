"""Scores of another program are a run beside heads: same test rows, baselines, comparisons and splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.scorers.given_scores import GivenScores
from tier4k.extract.stores.find import find_score_stores
from tier4k.heads.data.features import RowKeys
from tier4k.heads.data.splits import SplitError
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.publish import Run
from tier4k.heads.protocol.zero_shot import ScoreOptions, evaluate_scorer, plan_evaluation
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.reporting.terminal.notes import notes
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.read import read_predictions
from tier4k.tests.builders.stores import stores_of
from tier4k.tests.heads.protocol.test_fit import ROWS, TARGETS, image_store, manifest, text_store

TARGET = TARGETS[0]
TRUTH = manifest().table[TARGET].to_numpy()
OPTIONS = FitOptions(targets=(TARGET,), repeats=3, estimator="ridge", models="none")


def scores_like_truth(noise: float, seed: int) -> np.ndarray:
    """Scores of a metric that knows something of the first target."""
    return (TRUTH * 10 + np.random.default_rng(seed).normal(0, noise, ROWS)).astype(np.float32)


def given(name: str, scores: np.ndarray, lower_is_better: bool = False) -> GivenScores:
    return GivenScores.of(name, "column", RowKeys.of(manifest()).pairs, scores, lower_is_better)


def evaluated(scores: GivenScores, out: Path) -> Run:
    options = ScoreOptions(targets=(TARGET,), split=OPTIONS.split_request(manifest()))
    plan = plan_evaluation(manifest(), scores.signature, options, scores.keys)
    return evaluate_scorer(plan, scores.store(out.parent, DatasetInputs.of(manifest())), out)


def test_scores_of_a_file_stand_beside_a_ridge_head_with_the_same_rows_tests_and_holm(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    head = fit_head(manifest(), stores_of(image_store(tmp_path), text_store(tmp_path)), OPTIONS, runs)
    scores = {"MUSIQ": scores_like_truth(10, 1), "NIQE": -scores_like_truth(20, 2)}
    others = [evaluated(given(name, values), runs) for name, values in scores.items()]
    truth_of = dict(zip(manifest().table["name"], TRUTH, strict=True))
    rows = read_predictions(head.folder)
    for run, values in zip(others, scores.values(), strict=True):
        score_of = dict(zip(manifest().table["name"], values, strict=True))
        for repeat, names in rows.groupby("repeat")["name"]:
            expected = spearmanr([truth_of[name] for name in names], [score_of[name] for name in names])
            found = run.results.summaries[TARGET]["zero_shot"]["srcc"].values[repeat]
            assert found == pytest.approx(expected.statistic, abs=1e-12)
    assert others[1].results.summaries[TARGET]["zero_shot"]["srcc"].mean < 0  # no absolute value
    folders = [head.folder, *(run.folder for run in others)]
    compared = compare(folders)
    p = np.array([one.p for one in compared])
    order = np.argsort(p)
    stepwise = np.maximum.accumulate([(3 - rank) * p[place] for rank, place in enumerate(order)])
    np.testing.assert_allclose([compared[place].p_holm for place in order], np.minimum(stepwise, 1))
    assert compared[0].difference == pytest.approx(compared[0].means[0] - compared[0].means[1])
    table = tidy(folders)
    assert {"ridge", "MUSIQ", "NIQE"} == set(table["head"])
    for baseline in ("generator_mean", "sibling_mean"):
        ours, theirs = (run.results.summaries[TARGET][baseline]["srcc"].values for run in (head, others[0]))
        assert ours == pytest.approx(theirs, nan_ok=True)


def test_the_sign_of_scores_of_which_lower_is_better_changes(tmp_path: Path) -> None:
    values = -scores_like_truth(5, 3)
    raw, negated = (evaluated(given("BRISQUE", values, lower), tmp_path / "runs") for lower in (False, True))
    srcc = [run.results.summaries[TARGET]["zero_shot"]["srcc"].mean for run in (raw, negated)]
    assert srcc[0] == pytest.approx(-srcc[1]) and srcc[1] > 0.5
    assert raw.folder != negated.folder


def test_rows_without_a_score_are_no_test_rows_and_the_run_says_how_many(tmp_path: Path) -> None:
    values = scores_like_truth(5, 4)
    values[::5] = np.nan
    run, complete = (
        evaluated(given(name, scores), tmp_path / "runs")
        for name, scores in (("MUSIQ", values), ("full", TRUTH))
    )
    missing = set(manifest().table["name"][::5])
    expected = read_predictions(complete.folder)
    expected = expected[~expected["name"].isin(missing)]
    found = read_predictions(run.folder)
    assert found[["repeat", "name"]].to_numpy().tolist() == expected[["repeat", "name"]].to_numpy().tolist()
    assert np.isfinite(found["prediction"]).all()
    assert run.results.unscored == len(missing) and complete.results.unscored == 0
    text = " ".join(note.plain for note in notes(run.results))
    assert f"{len(missing)} of {ROWS} rows have no score of MUSIQ and are no test rows" in text
    few = np.full(ROWS, np.nan, np.float32)
    few[0] = 1
    with pytest.raises(SplitError, match="test rows of the split .* have a score of few"):
        evaluated(given("few", few), tmp_path / "runs")


def test_scores_of_a_file_are_features_like_computed_ones(tmp_path: Path) -> None:
    given("MUSIQ", scores_like_truth(1, 5)).store(tmp_path, DatasetInputs.of(manifest()))
    stores = stores_of(image_store(tmp_path), text_store(tmp_path))
    blind = fit_head(manifest(), stores, OPTIONS, tmp_path / "runs")
    seeing = replace(stores, zero_shot=find_score_stores(tmp_path, ["MUSIQ"]))
    run = fit_head(manifest(), seeing, OPTIONS, tmp_path / "runs")
    srcc = [one.results.summaries[TARGET][one.results.headline]["srcc"].mean for one in (blind, run)]
    assert srcc[1] > srcc[0] + 0.2
