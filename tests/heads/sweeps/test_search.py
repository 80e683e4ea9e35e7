"""A search chooses for every repeat without its test rows, and continues where it ended."""

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

from tier4k import cli
from tier4k.cache.errors import TierError
from tier4k.extract.datasets.check import check
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.evaluation.nested import FusedCandidate, nested_selection
from tier4k.heads.protocol.fit import load_fused
from tier4k.heads.reporting.columns import result_rows
from tier4k.heads.reporting.tidy import tidy
from tier4k.heads.results.read import read_config, read_predictions, used_stores
from tier4k.heads.results.results import Results
from tier4k.heads.sweeps.blocks import as_blocks
from tier4k.heads.sweeps.candidates import draw
from tier4k.heads.sweeps.run import run_sweep
from tier4k.heads.sweeps.search import Search, run_search
from tier4k.tests.builders.commands import on_one_line
from tier4k.tests.builders.sweeps import BASE

REPEATS = 3
GRID = {
    "head": ["ridge", "kernel-ridge", "svr"],
    "method": ["nr", "pr"],
    "benchmark": "all",
    "repeats": REPEATS,
}
TARGETS = ["MOS_q", "MOS_a", "MOS_c"]


def found(
    count: int,
    root: Path = Path(),
    out: str = "runs",
    grid: dict[str, Any] = GRID,
) -> Search:
    manifest = check(root / "Dataset").manifest
    return run_search(manifest, root / "features", as_blocks(grid), BASE, count, root / out)


def runs_of_candidates(runs: Path = Path("runs")) -> dict[str, Path]:
    return {path.name: path for path in (runs / ".search").iterdir()}


def folders(finished: Search) -> list[Path]:
    """The runs of the candidates of a search on the inner splits."""
    runs = runs_of_candidates(finished.run.folder.parent)
    by_digits = {name[-10:]: path for name, path in runs.items()}
    return [by_digits[candidate.plan.config.digest] for candidate in finished.candidates]


def srcc_of_repeats(run: Path, target: str) -> list[float]:
    """SRCC of every repeat, from the predictions of a run."""
    predictions = read_predictions(run)
    own = predictions[predictions["target"] == target]
    return [
        spearmanr(part["truth"], part["prediction"]).statistic for _, part in own.groupby("repeat", sort=True)
    ]


# ---- the candidates


def test_every_combination_is_drawn_once_in_an_order_that_the_seed_gives() -> None:
    values: dict[str, list[Any]] = {"a": [1, 2, 3], "b": ["x", "y"], "c": [0.1, 0.2]}
    every = list(draw([values], seed=4))
    assert len(every) == len({json.dumps(one, sort_keys=True) for one in every}) == 12
    assert list(draw([values], seed=4)) == every != list(draw([values], seed=5))
    assert list(draw([{}], seed=0)) == [(0, {})]


def test_combinations_of_several_blocks_are_drawn_together_each_from_its_block() -> None:
    blocks: list[dict[str, list[Any]]] = [{"a": [1, 2, 3]}, {}, {"b": ["x", "y"], "c": [0.1, 0.2]}]
    every = list(draw(blocks, seed=4))
    assert [number for number, _ in every] != sorted(number for number, _ in every)
    for number, values in enumerate(blocks):
        own = [combination for block, combination in every if block == number]
        expected = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
        assert sorted(map(str, own)) == sorted(map(str, expected))


def test_every_combination_is_drawn_first_about_equally_often() -> None:
    firsts = [tuple(next(draw([{"a": [1, 2], "b": [1, 2]}], seed))[1].values()) for seed in range(400)]
    counts = [firsts.count(one) for one in set(firsts)]
    assert len(counts) == 4
    assert min(counts) > 65  # expected 100, standard deviation 9


# ---- the choice


@pytest.fixture(scope="module")
def root(golden_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with features, which tests only add to."""
    folder = tmp_path_factory.mktemp("search") / "project"
    shutil.copytree(golden_project, folder)
    return folder


@pytest.fixture(scope="module")
def finished(root: Path) -> Search:
    return found(100, root)


def test_each_repeat_chooses_the_candidate_with_the_best_srcc_on_its_selection_part(finished: Search) -> None:
    results = finished.run.results
    assert len(finished.candidates) == 3 * 2
    assert list(results.chosen) == TARGETS
    for target in TARGETS:
        table = np.array([srcc_of_repeats(folder, target) for folder in folders(finished)])
        assert table.shape == (6, REPEATS)
        best = np.where(np.isnan(table), -2, table).argmax(axis=0)
        assert list(results.chosen[target]) == [finished.candidates[number].text for number in best]
        np.testing.assert_allclose(results.selection_srcc[target], table[best, range(REPEATS)], atol=1e-12)


def test_the_test_predictions_are_those_of_the_chosen_heads_fitted_as_usual(
    root: Path, finished: Search
) -> None:
    manifest = check(root / "Dataset").manifest
    own = read_predictions(finished.run.folder)
    for candidate in finished.candidates:
        (run,) = run_sweep(manifest, root / "features", [candidate.cell], root / "usual")
        usual = read_predictions(run.folder)
        for target, chosen in finished.run.results.chosen.items():
            for repeat in np.flatnonzero(np.array(chosen) == candidate.text):
                pair = [
                    frame[(frame["target"] == target) & (frame["repeat"] == repeat)].reset_index(drop=True)
                    for frame in (own, usual)
                ]
                assert len(pair[0]) > 0
                pd.testing.assert_frame_equal(*pair, rtol=1e-9)
    for target in TARGETS:
        values = finished.run.results.summaries[target][finished.run.results.headline]["srcc"].values  # noqa: PD011
        np.testing.assert_allclose(values, srcc_of_repeats(finished.run.folder, target), atol=1e-12)


def test_all_candidates_of_a_repeat_are_evaluated_on_the_same_rows_which_are_no_test_rows(
    finished: Search,
) -> None:
    outer = json.loads((finished.run.folder / "splits.json").read_text())
    parts = []
    for folder in folders(finished):
        inner = json.loads((folder / "splits.json").read_text())
        parts.append([split["test"] for split in inner])
        for split, own in zip(outer, inner, strict=True):
            assert sorted([*own["train"], *own["validation"], *own["test"]]) == sorted(split["train"])
            assert set(split["train"]).isdisjoint(split["test"])
    assert all(part == parts[0] for part in parts)


def test_scores_of_test_rows_have_no_part_in_the_choice(project: Path, finished: Search) -> None:
    before = finished.run.results
    (path,) = Path("Dataset").rglob("annotation.xlsx")
    table = pd.read_excel(path)
    (test, *_) = [split["test"] for split in json.loads((finished.run.folder / "splits.json").read_text())]
    is_test = table["Generated_image"].isin(test)
    assert is_test.sum() == len(test) > 0
    table.loc[is_test, TARGETS] = np.random.default_rng(0).uniform(0, 5, (len(test), 3))
    table.to_excel(path, index=False)
    after = found(100).run.results
    assert after.id != before.id
    changed = False
    for target in TARGETS:
        assert after.chosen[target][0] == before.chosen[target][0]
        assert after.selection_srcc[target][0] == before.selection_srcc[target][0]
        changed |= after.selection_srcc[target][1:] != before.selection_srcc[target][1:]
    assert changed  # these rows are training or selection rows of the other repeats


def test_a_row_without_a_score_for_one_target_is_tested_for_the_others(
    project: Path, finished: Search
) -> None:
    tested = set(read_predictions(finished.run.folder)["name"])
    (name, *_) = sorted(tested - set(read_predictions(folders(finished)[0])["name"]))
    (path,) = Path("Dataset").rglob("annotation.xlsx")
    table = pd.read_excel(path)
    table.loc[table["Generated_image"] == name, "MOS_q"] = np.nan
    table.to_excel(path, index=False)
    predictions = read_predictions(found(4).run.folder)
    assert set(predictions[predictions["name"] == name]["target"]) == {"MOS_a", "MOS_c"}
    assert set(predictions["target"]) == set(TARGETS)


def test_the_same_choices_are_made_in_memory(finished: Search) -> None:
    own = []
    for one in finished.candidates:
        features, fused = load_fused(one.plan)
        own.append(FusedCandidate(fused, one.plan.estimator, one.plan.config.head))
    for target in TARGETS:
        result = nested_selection(features, own, target, SplitRequest("random", REPEATS))
        texts = [finished.candidates[number].text for number in result.chosen]
        assert texts == list(finished.run.results.chosen[target])
        np.testing.assert_allclose(result.test_srcc, srcc_of_repeats(finished.run.folder, target), atol=1e-9)


def test_a_row_without_a_score_has_no_part_in_the_choice_nor_in_its_test(root: Path) -> None:
    manifest = check(root / "Dataset").manifest
    request = SplitRequest("random", 2)
    rows = Rows.of(manifest)
    first, _ = request.splits(rows, validation=0.0)
    _, inner = replace(request, selection=True).splits(rows, validation=0.0)
    (row, *_) = np.setdiff1d(first.test, inner.test)
    table = manifest.table.copy()
    table.loc[row, "MOS_c"] = np.nan
    partial = replace(manifest, table=table)
    grid = {"head": ["ridge", "kernel-ridge"], "benchmark": "all", "repeats": 2, "target": "MOS_c"}
    run = run_search(partial, root / "features", [grid], BASE, 2, root / "partial").run
    predictions = read_predictions(run.folder)
    tested = predictions.loc[predictions["repeat"] == 0, "name"]
    assert set(tested) == set(rows.name[first.test]) - {rows.name[row]}
    assert predictions["truth"].notna().all()
    values = vars(run.results.summaries["MOS_c"][run.results.headline]["srcc"])["values"]
    np.testing.assert_allclose(values, srcc_of_repeats(run.folder, "MOS_c"), atol=1e-12)
    assert run.results.missing_scores == {"MOS_c": 1}


# ---- the run


def test_a_search_is_one_run_with_everything_it_depends_on(finished: Search) -> None:
    config = read_config(finished.run.folder)
    assert (config.estimator, config.method, config.split, config.models) == (
        "search",
        "several",
        "random",
        "none",
    )
    assert config.head["grid"] == {"head": GRID["head"], "method": GRID["method"]}
    assert [text for text, _ in config.head["candidates"]] == [one.text for one in finished.candidates]
    assert not (finished.run.folder / "model.json").exists()
    runs = finished.run.folder.parent
    assert {path.name for path in runs.iterdir()} == {".search", finished.run.folder.name}
    shown = tidy([finished.run.folder])
    assert set(shown["head"]) == {"search"}
    candidates = tidy(folders(finished))
    assert set(candidates["split"]) == {"random-selection"}
    assert all(result_rows(candidates)["benchmark"].str.contains("selection parts", regex=False))
    assert not any(result_rows(shown)["benchmark"].str.contains("selection"))


def test_seeds_choose_apart_on_the_selection_part_of_their_split(project: Path) -> None:
    grid = GRID | {"head": "mlp", "epochs": 2, "hidden": [2, 3], "seeds": 2, "repeats": 2, "target": "MOS_q"}
    one = found(4, grid=grid)
    assert len(one.run.results.chosen["MOS_q"]) == 4
    inner = json.loads((folders(one)[0] / "splits.json").read_text())
    assert inner[0]["test"] == inner[1]["test"] != inner[2]["test"]
    assert len({split["seed"] for split in inner}) == 4
    assert all(split["validation"] for split in inner)


def test_stores_of_candidates_are_in_use_and_several_are_named_in_tables(project: Path) -> None:
    arguments = [
        "--image-encoder",
        "resnet18",
        "--text-encoder",
        "bert-base-uncased",
        "--feature",
        "multilevel",
    ]
    result = CliRunner().invoke(cli.app, ["extract", "Dataset", *arguments])
    assert result.exit_code == 0, result.output
    one = found(100, grid={"feature": ["pooled", "multilevel"], "repeats": 2})
    assert set(tidy([one.run.folder])["feature"]) in ({"pooled/multilevel"}, {"multilevel/pooled"})
    stores = {
        path.name.rpartition("-")[-1]
        for path in Path("features").iterdir()
        if (path / "signature.json").exists()
    }
    used = used_stores(Path("runs"))
    assert {digest[:12] for digest in used} == stores
    for path in one.run.folder.iterdir():
        path.unlink()
    one.run.folder.rmdir()
    assert used_stores(Path("runs")) == used  # by the candidates of an unfinished search


# ---- interruptions


def test_a_larger_search_fits_only_new_candidates_and_a_repeated_one_nothing(project: Path) -> None:
    first = found(2)
    times = {name: path.stat().st_mtime_ns for name, path in runs_of_candidates().items()}
    assert len(times) == 2
    larger = found(4)
    assert [one.text for one in larger.candidates[:2]] == [one.text for one in first.candidates]
    now = {name: path.stat().st_mtime_ns for name, path in runs_of_candidates().items()}
    assert len(now) == 4
    assert times.items() <= now.items()
    assert larger.run.results.id != first.run.results.id
    counts: list[Sequence[int]] = []
    again = run_search(
        check(Path("Dataset")).manifest,
        Path("features"),
        [GRID],
        BASE,
        4,
        Path("runs"),
        finished=lambda *n: counts.append(n),
    )
    assert again.run.found
    assert not larger.run.found
    assert not counts
    assert repr(again.run.results) == repr(larger.run.results)


def test_progress_ends_at_the_total_and_the_result_does_not_depend_on_an_interruption(project: Path) -> None:
    whole = found(4, out="whole").run.results
    counts: list[Sequence[int]] = []

    def stop(*count: int) -> None:
        counts.append(count)
        if len(counts) == 12:
            raise KeyboardInterrupt

    arguments = (check(Path("Dataset")).manifest, Path("features"), [GRID], BASE, 4, Path("runs"))
    with pytest.raises(KeyboardInterrupt):
        run_search(*arguments, finished=stop)
    kept = runs_of_candidates()
    assert 0 < len(kept) < 4
    continued = run_search(*arguments, finished=stop).run.results
    fits = (4 - len(kept)) * 3 * REPEATS + 3 * REPEATS
    assert counts[-1] == (fits, fits)
    assert all(total == fits for _, total in counts[12:])
    assert (continued.chosen, continued.selection_srcc) == (whole.chosen, whole.selection_srcc)
    assert repr(continued.summaries) == repr(whole.summaries)


# ---- refusals


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"seed": [0, 1]}, "several values of seed: use one"),
        ({"grid": [{"repeats": 2}, {}]}, "several values of repeats: use one value of each, in every block"),
        ({"grid": [{"target": "MOS_q"}, {}]}, "blocks of the grid have different targets"),
        ({"method": ["nr", "fr"], "benchmark": None}, "benchmarks differ"),
        ({"method": "fr", "benchmark": "T2I"}, "full reference"),
        ({"head": "svr", "C": [1.0, "much"]}, "C is 'much'"),
        ({"head": "mlp", "recipe": ["published", "cached"]}, "recipe published cannot be searched: it fixes"),
        (
            {"head": "mlp", "validation_fraction": [0, 0.2]},
            "mlp with validation_fraction = 0 cannot be searched",
        ),
        (
            {"head": "gated", "validation_fraction": 0},
            "gated with validation_fraction = 0 cannot be searched",
        ),
    ],
)
def test_a_grid_that_cannot_be_searched_is_refused_before_the_first_fit(
    project: Path, grid: dict, message: str
) -> None:
    given = {name: value for name, value in (GRID | grid).items() if value is not None}
    with pytest.raises(TierError, match=message):
        found(20, grid=given)
    assert not Path("runs").exists()


def test_a_head_that_needs_no_validation_rows_can_be_searched_without_them(project: Path) -> None:
    grid = {"head": "ridge", "validation_fraction": [0, 0.2], "repeats": 2, "target": "MOS_q"}
    assert len(found(9, grid=grid).candidates) == 2


def test_a_search_chooses_among_the_combinations_of_all_blocks(project: Path) -> None:
    blocks = [{"head": "ridge"}, {"head": "svr", "C": [1, 10]}]
    searched = found(20, grid={"benchmark": "all", "repeats": 2, "target": "MOS_q", "grid": blocks})
    assert {one.text for one in searched.candidates} == {
        "head=ridge",
        "head=svr, C=1",
        "head=svr, C=10",
    }
    assert set(searched.run.results.chosen["MOS_q"]) <= {one.text for one in searched.candidates}


# ---- the command


def test_the_command_prints_choices_and_their_worth_and_a_command_that_fits_them(project: Path) -> None:
    Path("grid.toml").write_text('head = ["ridge", "svr"]\ntarget = "MOS_a"\nrepeats = 2\n')
    encoders = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
    sweep = ["sweep", "Dataset", "--grid", "grid.toml", "--search", "5", *encoders, "--split", "random"]
    result = CliRunner().invoke(cli.app, [*sweep, "--seed", "3", "-o", "table.csv"])
    assert result.exit_code == 0, result.output
    flat = " ".join(result.output.split())
    assert "estimate for the whole procedure, search included" in flat
    (run,) = [path for path in Path("runs").iterdir() if path.name != ".search"]
    results = Results.read(run)
    for options, selection in zip(results.chosen["MOS_a"], results.selection_srcc["MOS_a"], strict=True):
        assert options in flat
        assert f"{selection:.3f}" in flat
    assert set(pd.read_csv("table.csv")["name"]) == {run.name}
    (line,) = [line for line in result.output.splitlines() if "tier fit-head" in line]
    fit = CliRunner().invoke(cli.app, shlex.split(line)[1:])
    assert fit.exit_code == 0, fit.output
    (fitted,) = [path for path in Path("runs").iterdir() if path.name not in (".search", run.name)]
    config = read_config(fitted)
    chosen = results.chosen["MOS_a"]
    assert f"head={config.estimator}" == max(chosen, key=chosen.count)
    assert (config.seed, config.repeats, config.split, config.targets) == (3, 2, "random", ("MOS_a",))
    assert (fitted / "model.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--paper"], "--grid FILE"), (["--grid", "grid.toml", "--models", "all"], "keeps no heads")],
)
def test_options_that_contradict_a_search_are_refused(
    project: Path, arguments: list[str], message: str
) -> None:
    Path("grid.toml").write_text('head = ["ridge", "svr"]\n')
    result = CliRunner().invoke(cli.app, ["sweep", "Dataset", "--search", "5", *arguments])
    assert result.exit_code == 2
    assert message in on_one_line(result.output)


def test_the_printed_command_keeps_a_list_of_equal_values() -> None:
    from tier4k.heads.commands.printed_commands import single_values

    grid = {"head": ["ridge", "ridge"], "transform": ["none", "sqrt"], "target": "MOS_q", "repeats": 3}
    assert single_values([grid]) == {"head": "ridge", "repeats": 3}
    assert single_values([grid, {"head": "svr", "repeats": 3}]) == {"repeats": 3}
