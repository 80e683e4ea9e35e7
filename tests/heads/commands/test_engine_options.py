"""Options of the engine that do not fit each other are refused before any work."""

from pathlib import Path

import pytest

from tier4k.extract.pipeline.options import RayOptions
from tier4k.heads.commands.speed_options import EngineGroup
from tier4k.tests.builders.commands import on_one_line, tier


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--actors", "2"], "--actors has no effect on this machine alone: pass --engine ray too"),
        (["--address", "auto"], "--address has no effect on this machine alone"),
        (["--gpus-per-actor", "1"], "--gpus-per-actor has no effect on this machine alone"),
        (["--engine", "ray", "--workers", "2"], "leave out --workers"),
        (["--engine", "ray", "--device", "cuda:0"], "pass --gpus-per-actor 1, or --device cpu"),
        (["--engine", "ray", "--device", "cpu", "--gpus-per-actor", "1"], "leave out one of the two"),
    ],
)
def test_options_that_do_not_fit_the_engine_are_refused(
    tmp_path: Path, options: list[str], problem: str
) -> None:
    code, output = tier("extract", str(tmp_path), *options)
    assert code == 2
    assert problem in on_one_line(output)


def test_options_of_ray_reach_the_extraction() -> None:
    assert EngineGroup().extraction_options().ray is None
    assert EngineGroup(engine="ray").extraction_options().ray == RayOptions()
    given = EngineGroup(engine="ray", address="auto", actors=3, gpus_per_actor=0.5)
    assert given.extraction_options().ray == RayOptions("auto", 3, 0.5)
    assert EngineGroup(engine="ray", device="cpu").extraction_options().ray == RayOptions(gpus_per_actor=0)
