"""A scorer's run stands beside heads' runs: the same rows, figures, tables and comparisons, and nothing that
only a fit has.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from tier4k import cli
from tier4k.cache.errors import StoreError
from tier4k.cache.keys import key_array
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.stores.find import find_score_stores
from tier4k.extract.weights.files import WeightsError
from tier4k.heads.data.encoder_choice import EncoderChoice
from tier4k.heads.data.features import load_features
from tier4k.heads.data.fusion import fuse
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.encoders.sources import encoder_sources
from tier4k.heads.evaluation.trial import headline
from tier4k.heads.metrics.all_metrics import evaluate
from tier4k.heads.protocol.fit import fit_head
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.protocol.zero_shot import NO_UNIT, ScoreOptions, evaluate_scorer, plan_evaluation
from tier4k.heads.reporting.comparison import compare
from tier4k.heads.reporting.html.detail import by_part, in_units, target_rows
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.read import read_config, read_predictions, used_stores
from tier4k.heads.results.read_model import read_model
from tier4k.heads.results.results import Results
from tier4k.heads.results.run import Run
from tier4k.heads.sweeps.grid import Cell, grid_cells
from tier4k.heads.sweeps.run import run_sweep
from tier4k.tests.builders.data import write_table
from tier4k.tests.builders.scorers import write_clip
from tier4k.tests.builders.stores import stores_of
from tier4k.tests.heads.protocol.test_fit import ROWS, TARGETS, image_store, manifest, text_store

SCORE = Signature("score", "pickscore", "transformers CLIPModel", "ef" * 32, "native: 224", "logit: of both")
SCORES = manifest().table[TARGETS[0]].to_numpy() * 3 + 20 + np.random.default_rng(5).normal(0, 3, ROWS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Scores that know something of the first target."""
    opened = FeatureStore.create(tmp_path_factory.mktemp("features"), SCORE, {})
    with opened.writer() as writer:
        writer.add(key_array(map(bytes.fromhex, manifest().pair_keys())), SCORES[:, None])
    return FeatureStore.open(opened.path)


def judge_scores(store: FeatureStore, options: ScoreOptions, out: Path) -> Run:
    return evaluate_scorer(plan_evaluation(manifest(), store.signature, options), store, out)


@pytest.fixture(scope="module")
def whole(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return judge_scores(store, ScoreOptions(), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def split(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return judge_scores(
        store, ScoreOptions(split=SplitRequest("prompt", repeats=3, seed=4)), tmp_path_factory.mktemp("runs")
    )


def test_all_rows_are_judged_at_once_as_published(whole: Run) -> None:
    predictions = read_predictions(whole.folder)
    assert len(predictions) == ROWS * len(TARGETS) and whole.results.test_rows == (ROWS,)
    np.testing.assert_allclose(predictions["prediction"], np.tile(SCORES, 2), rtol=1e-6)
    for target in TARGETS:
        truth, found = manifest().table[target].to_numpy(), whole.results.summaries[target]["zero_shot"]
        expected = evaluate(truth, SCORES.astype(np.float32).astype(float))
        assert found["srcc"].mean == pytest.approx(spearmanr(truth, SCORES).statistic)
        for metric in ("krcc", "plcc", "plcc_logistic", "rmse_logistic"):
            assert found[metric].mean == pytest.approx(expected[metric], nan_ok=True)
        low, high = found["srcc"].bounds
        assert low < found["srcc"].mean < high


def test_a_raw_score_has_no_rmse_and_says_why(whole: Run) -> None:
    found = whole.results.summaries[TARGETS[0]]["zero_shot"]
    assert np.isnan(found["rmse"].mean) and found["rmse"].interval is None
    assert found["rmse_logistic"].mean < 2  # in the target's units, though the scores are around 27
    assert NO_UNIT in whole.results.reasons[TARGETS[0]]["zero_shot"]


def test_a_run_has_nothing_that_only_a_fit_has(whole: Run, split: Run) -> None:
    assert sorted(path.name for path in whole.folder.iterdir()) == [
        "config.json",
        "predictions.csv",
        "results.json",
        "splits.json",
    ]
    assert set(whole.results.summaries[TARGETS[0]]) == {"zero_shot"}  # no training rows, no floors
    assert set(split.results.summaries[TARGETS[0]]) == {
        "zero_shot",
        "generator_mean",
        "generator_and_prompt",
        "sibling_mean",
    }
    assert headline(split.results.summaries[TARGETS[0]]) == split.results.headline == "zero_shot"
    assert Results.read(split.folder) == split.results or np.isnan(
        split.results.summaries[TARGETS[0]]["zero_shot"]["rmse"].mean
    )
    config = read_config(split.folder)
    assert (config.method, config.estimator, config.head) == ("zero-shot", "pickscore", {})
    assert used_stores(split.folder.parent) == {SCORE.digest}


@pytest.mark.parametrize("rule", ["prompt", "random", "generator", "published"])
@pytest.mark.parametrize("head", ["ridge", "mlp"])  # one needs validation rows, the other none
def test_a_scorer_and_a_head_of_one_split_are_compared_on_the_same_test_rows(
    rule: str, head: str, store: FeatureStore, tmp_path: Path
) -> None:
    options = FitOptions(
        targets=TARGETS[:1],
        split=rule,
        repeats=2,
        seed=3,
        estimator=head,
        head={"max_epochs": 1, "hidden": 2} if head == "mlp" else {},
        models="none",
    )
    fitted = fit_head(
        manifest(), stores_of(image_store(tmp_path), text_store(tmp_path)), options, tmp_path / "runs"
    )
    evaluated = judge_scores(
        store, ScoreOptions(targets=TARGETS[:1], split=options.split_request(manifest())), tmp_path / "runs"
    )
    (difference,) = compare([evaluated.folder, fitted.folder])
    assert difference.means[0] == pytest.approx(
        evaluated.results.summaries[TARGETS[0]]["zero_shot"]["srcc"].mean
    )
    for floor in set(fitted.results.summaries[TARGETS[0]]) & set(evaluated.results.summaries[TARGETS[0]]):
        ours, theirs = (run.results.summaries[TARGETS[0]][floor]["srcc"].mean for run in (evaluated, fitted))
        assert ours == pytest.approx(theirs, nan_ok=True)
    table = tidy([evaluated.folder, fitted.folder])
    assert set(table["head"]) == {"pickscore", head} and table[table["is_result"]]["run"].nunique() == 2


def test_folds_of_a_scorer_test_every_row_once_as_those_of_a_head_do(
    store: FeatureStore, tmp_path: Path
) -> None:
    options = FitOptions(targets=TARGETS[:1], folds=4, estimator="ridge", models="none")
    fitted = fit_head(
        manifest(), stores_of(image_store(tmp_path), text_store(tmp_path)), options, tmp_path / "runs"
    )
    evaluated = judge_scores(
        store, ScoreOptions(targets=TARGETS[:1], split=SplitRequest("prompt", folds=4)), tmp_path / "runs"
    )
    assert evaluated.results.split == fitted.results.split == "prompt-4-fold"
    assert sorted(read_predictions(evaluated.folder)["name"]) == sorted(manifest().table["name"])
    assert len(compare([evaluated.folder, fitted.folder])) == 1


def test_what_is_judged_makes_another_run_and_the_same_is_found_again(
    store: FeatureStore, tmp_path: Path
) -> None:
    base, drawn = ScoreOptions(), ScoreOptions(split=SplitRequest("random", repeats=1))
    changed = [
        replace(base, benchmark="I2I"),
        replace(base, targets=TARGETS[:1]),
        drawn,
        ScoreOptions(split=SplitRequest("random", repeats=2)),
        ScoreOptions(split=SplitRequest("random", repeats=1, seed=1)),
    ]
    runs = [judge_scores(store, options, tmp_path) for options in (base, *changed)]
    assert len({run.folder for run in runs}) == 6 and not any(run.found for run in runs)
    assert all(judge_scores(store, options, tmp_path).found for options in (base, *changed))


def test_errors_of_a_scorer_are_measured_in_the_targets_units(whole: Run) -> None:
    (run,) = read_runs([whole.folder])
    rows = target_rows(run)[TARGETS[0]]
    measured = in_units(run, rows, TARGETS[0])
    assert rows["prediction"].min() > 10 > 5 > measured["prediction"].max()
    expected = whole.results.summaries[TARGETS[0]]["zero_shot"]["rmse_logistic"].mean
    assert np.sqrt(np.mean((measured["prediction"] - measured["truth"]) ** 2)) == pytest.approx(
        expected, rel=1e-6
    )
    lines = by_part(rows, measured, "generator")
    assert sum(line.error * line.rows for line in lines) == pytest.approx(
        (measured["prediction"] - measured["truth"]).sum()
    )


# Scores as features of heads.


def test_scores_are_the_last_columns_of_fused_vectors(store: FeatureStore, tmp_path: Path) -> None:
    images, texts = image_store(tmp_path), text_store(tmp_path)
    for method, rows in (("nr", manifest()), ("pr", manifest()), ("fr", manifest().select("I2I"))):
        without = fuse(load_features(rows, stores_of(images, texts)), method).X
        fused = fuse(load_features(rows, stores_of(images, texts, store, store)), method).X
        np.testing.assert_array_equal(fused[:, :-2], without)
        np.testing.assert_allclose(fused[:, -2:], np.stack([SCORES[: len(rows)]] * 2, axis=1), rtol=1e-6)
    features = load_features(manifest(), stores_of(images, texts, store))
    crops = replace(
        features,
        image={"resnet18": np.stack([features.image["resnet18"]] * 3, axis=1)},
        image_prompt={"resnet18": np.stack([features.image_prompt["resnet18"]] * 3, axis=1)},
    )
    assert (fuse(features, "pr").X[:, None] == fuse(crops, "pr").X).all()


def test_a_head_that_sees_scores_knows_what_they_know_and_is_another_run(
    store: FeatureStore, tmp_path: Path
) -> None:
    options = FitOptions(targets=TARGETS[:1], repeats=2, estimator="ridge")
    stores = (image_store(tmp_path), text_store(tmp_path))
    blind = fit_head(manifest(), stores_of(*stores), options, tmp_path / "runs")
    seeing = fit_head(manifest(), stores_of(*stores, store), options, tmp_path / "runs")
    assert seeing.folder != blind.folder
    srcc = [run.results.summaries[TARGETS[0]][run.results.headline]["srcc"].mean for run in (blind, seeing)]
    assert srcc[1] > srcc[0] + 0.2  # the other features are noise
    assert set(read_config(seeing.folder).signatures) == {"image", "text", "pickscore"}
    assert SCORE.digest in used_stores(tmp_path / "runs")
    assert set(tidy([blind.folder, seeing.folder])["feature"]) == {"pooled", "pooled+pickscore"}
    (source,) = encoder_sources(read_model(seeing.folder))
    with pytest.raises(WeightsError, match="no weights for the scorer pickscore"):
        source.find_scorers["pickscore"]()


def test_a_sweep_runs_with_scores_and_without(store: FeatureStore, tmp_path: Path) -> None:
    image_store(tmp_path), text_store(tmp_path)
    (tmp_path / store.path.name).symlink_to(store.path)
    base = Cell(
        EncoderChoice((ImageChoice("resnet18"),), (text_store(tmp_path).path.name,)),
        FitOptions(repeats=1, estimator="ridge", models="none"),
    )
    cells, _ = grid_cells({"score_features": ["", " pickscore , "], "target": TARGETS[0]}, manifest(), base)
    runs = list(run_sweep(manifest(), tmp_path, cells, tmp_path / "runs"))
    assert [set(read_config(run.folder).signatures) - {"image", "text"} for run in runs] == [
        set(),
        {"pickscore"},
    ]
    with pytest.raises(
        StoreError, match="no scores of clipscore. Stores .*: pickscore-.*\n.*tier score DATA"
    ):
        list(run_sweep(manifest(), tmp_path, [replace(base, scorers=("clipscore",))], tmp_path / "runs"))
    with pytest.raises(StoreError, match="20 of 20 inputs are not in .*tier score --scorer pickscore"):
        store.read(key_array([bytes([row] * 32) for row in range(20)]))
    with pytest.raises(StoreError, match=r"no scores of pixscore \(nearest: pickscore(.|\n)*--scores FILE"):
        find_score_stores(tmp_path, ["pixscore"])


def test_two_stores_of_one_scorer_are_not_one_runs_features(tmp_path: Path) -> None:
    kept = [
        FeatureStore.create(tmp_path, replace(SCORE, precision=precision), {}).path.name
        for precision in ("fp32", "bf16")
    ]
    assert [store.path.name for store in find_score_stores(tmp_path, [kept[0], kept[0]])] == [kept[0]]
    with pytest.raises(StoreError, match=f"{kept[0]} and {kept[1]} both contain scores of pickscore: name"):
        find_score_stores(tmp_path, kept)
    shutil.rmtree(tmp_path / kept[1])
    assert len(find_score_stores(tmp_path, ["pickscore", kept[0]])) == 1  # the same one, in two ways


# The commands.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 20 pictures, two for each prompt, and CLIPScore's weights beside it."""
    names = [f"{('MJ', 'SD')[row % 2]}_{row}.png" for row in range(20)]
    frame = pd.DataFrame(
        {
            "image": names,
            "prompt": [f"prompt {row // 2}" for row in range(20)],
            "generator": [name[:2] for name in names],
        }
    )
    write_table(tmp_path / "data" / "t.csv", frame.assign(mos=np.random.default_rng(0).uniform(0, 5, 20)))
    write_clip(tmp_path / "clip-vit-large-patch14")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tier(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


COMMAND = ("score", "data/t.csv", "--scorer", "clipscore", "--workers", "0", "--device", "cpu")


def test_one_command_scores_once_and_judges_twice(folder: Path) -> None:
    code, output = tier(*COMMAND, "--repeats", "2")
    assert code == 0, output
    assert "scorer clipscore: weights from" in output and "encoded 20 of 20" in output
    assert "clipscore, zero-shot, on all rows of t, split whole" in output and "split prompt" in output
    assert "RMSE (logistic)" in output and "epoch" not in output and "prediction interval" not in output
    runs = sorted((folder / "runs").iterdir())
    assert [run.name.rsplit("-", 1)[0] for run in runs] == [
        "zero-shot-clipscore-mos-prompt",
        "zero-shot-clipscore-mos-whole",
    ]
    code, output = tier(*COMMAND, "--repeats", "2")
    assert (
        code == 0
        and "all 20 distinct inputs are in" in output
        and output.count("this run exists already") == 2
    )
    shown = {"store ls": " t ", "store verify": "20 rows are sound", "store gc": "Every store is in use"}
    for command, words in shown.items():
        assert words in tier(*command.split())[1]
    store = next(folder.glob("features/clipscore-*"))
    assert tier("store", "export", store.name, "-o", "scores.npz")[0] == 0
    with np.load("scores.npz") as file:
        assert any(array.dtype.kind == "U" and "MJ_0.png: prompt 0" in array for array in file.values())
    assert tier("report", *map(str, runs), "-o", "report.html")[0] == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "clipscore" in page and "ZERO-SHOT" in page
    code, output = tier("compare", str(runs[0]), str(runs[0]), "--metric", "rmse")
    assert code == 2 and "not in the units of the target" in output
    assert tier("table", *map(str, runs), "-o", "t.tex")[0] == 0 and "zero-shot" in Path("t.tex").read_text()


def test_scorers_are_listed_with_commas(folder: Path) -> None:
    kept = FeatureStore.create(folder / "features", SCORE, {}).path.name
    code, output = tier("fit-head", "data/t.csv", "--score-features", "pickscore, clipscore")
    assert code == 2 and f"no scores of clipscore. Stores of scores in this folder: {kept}" in output, output


def test_new_pictures_are_scored_by_the_scorer_of_a_run(folder: Path) -> None:
    assert tier(*COMMAND, "--repeats", "2")[0] == 0
    run = next(folder.glob("runs/*whole*"))
    predict = ("predict", str(run), "--workers", "0", "--device", "cpu")
    stated = read_predictions(run).set_index("name")["prediction"]
    for features, encoded in (([], False), (["-F", "anew"], True)):
        code, output = tier(*predict, "data/t.csv", *features, "-o", "scores.csv")
        assert code == 0 and ("encoded 20 of 20" in output) == encoded, output
        found = pd.read_csv("scores.csv").set_index("name")
        assert set(found["target"]) == {"clipscore"} and found[["low", "high", "spread"]].isna().all(
            axis=None
        )
        np.testing.assert_allclose(found["score"][stated.index], stated, atol=1e-5)
    code, output = tier(*predict, "data/MJ_0.png", "--prompt", "prompt 7")
    assert code == 0 and "encoded 1 of 1" in output, output
    write_clip(folder / "other", seed=1)
    wrong = {
        ("--weights", "other"): "differs from the scorer of the run: weights: the run has",
        ("--repeat", "0"): "a run of `tier score` has neither",
    }
    for options, words in wrong.items():
        code, output = tier(*predict, "data/MJ_0.png", "--prompt", "unheard of", *options)
        assert code == 2 and words in " ".join(output.split()), output
    code, output = tier("evaluate", str(run), "data/t.csv")
    assert code == 2 and "run `tier score data/t.csv`" in " ".join(output.split())


def test_what_is_wrong_is_said_before_anything_is_written(folder: Path) -> None:
    shutil.copy(folder / "data" / "MJ_0.png", folder / "other.pt")
    wrong = {
        ("--scorer", "pickscore"): "no weights for the scorer pickscore: put a folder PickScore_v1/",
        ("--scorer", "imagereward", "--weights", "other.pt"): "other.pt",
        ("--scorer", "imagereward", "--weights", "nowhere.pt"): "there is no weights file nowhere.pt",
        ("--device", "abacus"): "the device 'abacus' cannot be used",
        ("--target", "MOS"): "has no target 'MOS' (nearest: mos): pass mos",
        ("--benchmark", "I2I"): "no rows with an image prompt",
        ("--split", "generator"): "needs at least 3 generators",
        ("--folds", "3", "--repeats", "2"): "leave out --repeats",
    }
    for options, words in wrong.items():
        code, output = tier(*COMMAND, *options)
        assert code == 2 and words in output, (options, output)
        assert not (folder / "runs").exists() and not list(folder.glob("features/*-*"))
    assert tier(*COMMAND, "--scorer", "beautyscore")[0] == 2
    config = folder / "clip-vit-large-patch14" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "blip"}))
    code, output = tier(*COMMAND)
    assert code == 2 and "not the configuration of a CLIP model" in output
