"""Several processes fit the runs of one, raise its errors, and end when a sweep is interrupted."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tier4k.cache.errors import StoreError
from tier4k.extract.datasets.check import check
from tier4k.heads.results.read import read_predictions
from tier4k.heads.sweeps.blocks import SweepError
from tier4k.heads.sweeps.grid import Cell, grid_cells, paper_cells
from tier4k.heads.sweeps.run import run_sweep
from tier4k.tests.builders.sweeps import BASE

ROOT = Path(__file__).parents[3]
PATIENCE = 240  # seconds for what takes ten on an idle machine; other tests may run at the same time


def require_no_processes() -> None:
    """No process of a sweep is left."""
    assert not multiprocessing.active_children()


def cells(**grid: object) -> list[Cell]:
    return grid_cells({"target": ["MOS_q", "MOS_a"], **grid}, check(Path("Dataset")).manifest, BASE)[0]


@pytest.mark.slow
def test_two_processes_write_the_predictions_of_one_and_count_the_fits(project: Path) -> None:
    manifest, counted = check(Path("Dataset")).manifest, []
    paper = paper_cells(manifest, BASE).cells
    asked = [replace(cell, options=replace(cell.options, repeats=2)) for cell in paper]
    asked += cells(head="mlp", epochs=2)
    alone = list(run_sweep(manifest, Path("features"), asked, Path("alone")))
    # Three runs, or six fits, are on disk already.
    next(run_sweep(manifest, Path("features"), asked, Path("runs")))
    runs = list(
        run_sweep(
            manifest, Path("features"), asked, Path("runs"), jobs=2, finished=lambda *now: counted.append(now)
        )
    )
    assert [run.results.id for run in runs] == [run.results.id for run in alone]
    for run, other in zip(runs, alone, strict=True):
        # Fewer threads add in another order, so that the last digits may differ.
        pd.testing.assert_frame_equal(
            read_predictions(run.folder), read_predictions(other.folder), rtol=0, atol=1e-5
        )
    done = [now for now, _ in counted]
    assert {total for _, total in counted} == {15 * 2 + 2 - 3 * 2}
    assert done == sorted(done) and done[-1] == 26
    require_no_processes()


def test_one_process_counts_the_fits_too(project: Path) -> None:
    counted: list[tuple[int, int]] = []
    manifest = check(Path("Dataset")).manifest
    list(
        run_sweep(
            manifest,
            Path("features"),
            cells(seed=[0, 1]),
            Path("runs"),
            finished=lambda *now: counted.append(now),
        )
    )
    assert counted == [(done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.slow
def test_an_error_of_a_process_is_raised_unchanged(project: Path) -> None:
    Path("runs").write_text("a file where the folder of runs should be")
    with pytest.raises(StoreError, match="runs"):
        list(
            run_sweep(
                check(Path("Dataset")).manifest, Path("features"), cells(seed=[0, 1]), Path("runs"), jobs=2
            )
        )
    require_no_processes()


@pytest.mark.slow
def test_a_process_that_the_system_kills_ends_the_sweep_with_a_remedy(project: Path) -> None:
    def kill(*_: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(SweepError, match="fewer --jobs"):
        list(
            run_sweep(
                check(Path("Dataset")).manifest,
                Path("features"),
                cells(seed=[0, 1]),
                Path("runs"),
                jobs=2,
                finished=kill,
            )
        )


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C", "kill"])
def test_an_interrupted_sweep_ends_its_processes_and_keeps_its_runs(project: Path, to_all: bool) -> None:
    Path("grid.toml").write_text(
        'target = "MOS_q"\nseed = [0, 1, 2]\nepochs = [2, 100000]\nhidden = 4\npatience = 100000\n'
    )
    options = [
        "-F",
        "features",
        "--image-encoder",
        "resnet18",
        "--text-encoder",
        "bert-base-uncased",
        "--split",
        "random",
    ]
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "sweep",
        "Dataset",
        "--grid",
        "grid.toml",
        "--jobs",
        "2",
        "--repeats",
        "1",
        *options,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    while not (kept := list(Path("runs").glob("[!.]*"))):
        assert running.poll() is None and time.monotonic() < deadline, running.communicate()
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT) if to_all else os.kill(running.pid, signal.SIGTERM)
    # It ends when no process holds its end of the pipe any more.
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert all((run / "results.json").exists() for run in kept)
