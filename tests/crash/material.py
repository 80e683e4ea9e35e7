"""A small project that crash tests copy: data, weights, features, runs, and stores of many shards."""

import os
import time
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.data import save_picture, write_state
from tier4k.tests.builders.stores import SIGNATURE, number_keys, write_rows
from tier4k.tests.builders.text_models import write_text_folder

ROWS, NEW_ROWS = 40, 16

WEIGHTS = ["--image-weights", "weights/net.pth"]
STORED_ENCODERS = ["--image-encoder", "timm:test_resnet", "--text-encoder", "hf:text"]
ENCODERS = [*STORED_ENCODERS, *WEIGHTS]

MANY_ROWS, MANY_SHARD_ROWS = 900, 10  # of the store in `many/`

UNUSED = "unused"
"""Folder of a store that no data set uses, older than `tier store gc` requires."""

GRID = """\
method = ["nr", "pr"]
head = ["ridge", "svr"]
repeats = 2
target = "mos"
split = "random"
image_encoder = "timm:test_resnet"
text_encoder = "hf:text"
"""


def build(folder: Path) -> None:
    """Write the project."""
    folder.mkdir(parents=True)
    with chdir(folder):
        _write_table(Path("data"), ROWS, 0)
        _write_table(Path("new"), NEW_ROWS, 1000)
        write_state("test_resnet", Path("weights/net.pth"))
        write_text_folder(Path("text"), "bert")
        Path("grid.toml").write_text(GRID)
        _tier("extract", "data/table.csv", *ENCODERS, "--workers", "0")
        _write_runs()
        _write_stores()


def _write_table(folder: Path, rows: int, seed: int) -> None:
    names = [f"{('MJ', 'SD')[row % 2]}_{row:02d}.png" for row in range(rows)]
    for row, name in enumerate(names):
        save_picture(folder / name, seed + row)
    prompts = [f"prompt {seed + row // 2}" for row in range(rows)]
    scores = np.random.default_rng(seed).uniform(1, 5, rows).round(3)
    frame = pd.DataFrame({"image": names, "prompt": prompts, "mos": scores})
    frame.to_csv(folder / "table.csv", index=False)


def _write_runs() -> None:
    """Fit two heads, in `runs/ridge` and `runs/knn`."""
    for head in ("ridge", "svr"):
        fit = ["fit-head", "data/table.csv", *STORED_ENCODERS, "--split", "random", "--repeats", "2"]
        _tier(*fit, "--head", head, "--models", "all", "--out", f"out-{head}")
        (run,) = Path(f"out-{head}").glob("[!.]*")
        Path("runs").mkdir(exist_ok=True)
        run.rename(Path("runs") / head)


def _write_stores() -> None:
    for first in (0, MANY_ROWS // 3):  # two copies of most rows
        store = FeatureStore.create(Path("many"), SIGNATURE, {})
        write_rows(store, range(first, MANY_ROWS), MANY_SHARD_ROWS)
    write_rows(FeatureStore.create(Path(UNUSED), SIGNATURE, {}), range(50), 10)


def make_old(folder: Path) -> None:
    """Set the times of all files to two days ago."""
    then = time.time() - 2 * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def read_many(root: Path) -> None:
    """Read the store in `many/` once: it must hold every row."""
    from tier4k.tests.builders.stores import features_of

    store = FeatureStore.open(root / "many" / SIGNATURE.folder_name)
    keys = number_keys(range(MANY_ROWS))
    np.testing.assert_array_equal(store.read(keys), features_of(keys))


def _tier(*arguments: str) -> None:
    """Run a command that must succeed, in this process."""
    from typer.testing import CliRunner

    from tier4k import cli

    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exit_code:
        raise RuntimeError(f"tier {' '.join(arguments)}: {result.output}") from result.exception
