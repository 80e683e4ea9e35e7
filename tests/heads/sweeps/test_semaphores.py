"""A sweep ends where /dev/shm has no room for what its processes share."""

import errno
import multiprocessing
import sys
from pathlib import Path

import pytest

from tier4k.heads.sweeps.semaphores import semaphores_fit
from tier4k.tests.builders.small_shm import in_small_shm


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("room", "fits"), [(0, False), (13, False), (14, True)])
def test_semaphores_fit_where_there_is_room(monkeypatch: pytest.MonkeyPatch, room: int, fits: bool) -> None:
    made = iter(range(room))
    monkeypatch.setattr(multiprocessing, "Lock", lambda: no_room() if next(made, None) is None else object())
    assert semaphores_fit(14) == fits


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm")
def test_a_sweep_ends_where_dev_shm_has_no_room_for_processes(project: Path) -> None:
    Path("grid.toml").write_text('head = ["ridge"]\ntarget = ["MOS_q", "MOS_a"]\nseed = [0, 1]\n')
    grid = ["--grid", "grid.toml", "--jobs", "2", "--split", "random", "--repeats", "1"]
    encoders = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
    ended = in_small_shm("4k", "sweep", "Dataset", *grid, *encoders)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(list(Path("runs").glob("*/results.json"))) == 4
