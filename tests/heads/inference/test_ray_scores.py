"""Scores of inputs that Ray encodes are those of the local engine."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tier4k.tests.builders.commands import on_one_line, succeed, tier
from tier4k.tests.builders.data import table_rows, write_table
from tier4k.tests.builders.scorers import write_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def assert_engines_agree(command: list[str]) -> None:
    """Run a command with each engine and new stores, and compare the files of scores."""
    name = command[0]
    succeed(*command, "-F", "local", "-o", f"{name} local.parquet")
    output = succeed(*command, "-F", "ray", "-o", f"{name} ray.parquet", "--engine", "ray")
    assert "encoded" in output
    local, by_ray = (pd.read_parquet(f"{name} {engine}.parquet") for engine in ("local", "ray"))
    assert len(local) and local.filter(like="_score").notna().all(axis=None)
    pd.testing.assert_frame_equal(local, by_ray, rtol=1e-4, atol=1e-4)


def test_predictions_and_scores_of_ray_are_those_of_the_local_engine(fitted_copy: Path, no_hub: None) -> None:
    data = str(Path("Dataset").absolute())
    assert_engines_agree(["predict", "runs/pr", data, "--device", "cpu"])
    write_clip(Path("clip-vit-large-patch14"))
    table = write_table(Path("data/t.csv").absolute(), table_rows().drop(columns="mos"))
    assert_engines_agree(["score", str(table), "--scorer", "clipscore", "--device", "cpu"])
    code, output = tier("predict", "runs/pr", data, "--no-store", "--engine", "ray")
    assert code == 2
    assert "leave out --no-store or --engine ray" in on_one_line(output)
