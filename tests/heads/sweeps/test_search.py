"""A search uses held-out rows only, tries no combination twice, and continues where it ended."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.check import check
from tier4k.heads.results.results import Results
from tier4k.heads.sweeps.grid import SweepError
from tier4k.heads.sweeps.search import JOURNAL, TriedCombination, search
from tier4k.tests.builders.sweeps import BASE

RATES, WIDTHS = [1e-4, 1e-3, 1e-2], [2, 4]
GRID = {
    "learning_rate": RATES,
    "hidden": WIDTHS,
    "head": "mlp",
    "epochs": 2,
    "target": ["MOS_q", "MOS_a"],
    "repeats": 2,
}


def found(count: int, out: str = "runs", **grid: object) -> list[TriedCombination]:
    return search(check(Path("Dataset")).manifest, Path("features"), GRID | grid, BASE, count, Path(out))


def test_every_combination_is_tried_once_and_listed_by_its_held_out_srcc(project: Path) -> None:
    tried = found(100)
    assert sorted((one.chosen["learning_rate"], one.chosen["hidden"]) for one in tried) == [
        (r, w) for r in RATES for w in WIDTHS
    ]
    values = [one.held_out_srcc for one in tried]
    assert values == sorted(values, reverse=True)
    for one in tried:
        assert [list(run.results.summaries) for run in one.runs] == [["MOS_q"], ["MOS_a"]]
        held_out = [
            value for run in one.runs for values in run.results.held_out_srcc.values() for value in values
        ]
        assert len(held_out) == 2 * 2
        np.testing.assert_allclose(one.held_out_srcc, np.mean(held_out))
        assert all(Results.read(run.folder).held_out_srcc == run.results.held_out_srcc for run in one.runs)


def test_a_search_that_is_run_again_tries_what_is_left(project: Path) -> None:
    first = found(2)
    again = found(4)
    assert len(first) == 2 and len(again) == 4
    known = [one.chosen for one in first]
    assert all(one.chosen in [other.chosen for other in again] for one in first)
    assert [all(run.found for run in one.runs) for one in again if one.chosen in known] == [True, True]
    assert len(found(1)) == 4  # all that were tried are listed
    assert len(found(1, learning_rate=0.5, hidden=[2, 3])) == 1  # another grid is another search
    (Path("runs") / JOURNAL).write_text("no journal\n")
    with pytest.raises(SweepError, match=f"{JOURNAL}.*delete the file"):
        found(1)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"seed": [0, 1]}, "several values of seed: use one"),
        ({"method": ["nr", "fr"]}, "benchmarks differ"),
        ({"method": "fr", "benchmark": "T2I"}, "full reference"),
        ({"learning_rate": [1.0, "much"]}, "learning_rate is 'much'"),
        ({"head": "mlp", "recipe": "published", "C": 1.0}, "no option C"),
    ],
)
def test_a_grid_that_cannot_be_searched_is_refused_before_the_first_fit(
    project: Path, grid: dict, message: str
) -> None:
    with pytest.raises(TierError, match=message):
        found(2, **grid)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "grid", [{"head": "mlp", "epochs": [1, 2], "validation_fraction": 0}, {"head": "svr", "C": [1.0, 2.0]}]
)
def test_heads_that_held_nothing_out_cannot_be_searched(project: Path, grid: dict) -> None:
    with pytest.raises(SweepError, match="held no rows out"):
        search(check(Path("Dataset")).manifest, Path("features"), grid, BASE, 1, Path("runs"))


def test_without_optuna_the_extra_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SweepError, match=r"tier4k\[search\]"):
        found(1)
