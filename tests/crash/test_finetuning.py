"""Whenever a training is killed, the same command ends with the predictions of one that was not.

`tier fit-head` runs in processes forked from one that has imported what the first imported: most of its time
would be spent on loading otherwise. The files that a training writes show from outside how far it is.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tier4k.cache.atomic import TEMPORARY_PREFIX
from tier4k.heads.finetuning.checkpoints import LAST
from tier4k.tests.builders.data import write_test_resnet

pytestmark = pytest.mark.slow

EPOCHS = 8
TRAIN = [
    "fit-head",
    "Dataset",
    "--finetune",
    "all",
    "--device",
    "cpu",
    "--target",
    "MOS_q",
    "--split",
    "random",
    "--repeats",
    "2",
]
SHORT = [
    "--models",
    "all",
    "--epochs",
    str(EPOCHS),
    "--train-batch-size",
    "2",
    "--set",
    "hidden=8",
    "--set",
    f"patience={EPOCHS}",
]
SERVER = """
import json, os, sys
from tier4k import cli
from tier4k.tests.builders.forking import Imports
imports = Imports()
for line in sys.stdin:
    child = os.fork()
    if not child:
        imports.name_at_exit()
        os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        sys.argv = ["tier", *json.loads(line)]
        cli.main()
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    imports.repeat()
"""
Moment = Callable[[Path], bool]


@pytest.fixture
def tier(project: Path) -> Iterator[Callable[..., int]]:
    """Runs `tier` in the project, or kills it `delay` seconds after a moment, and returns its exit code."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    encoders = write_test_resnet(project)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], env=environment, stdin=pipe, stdout=pipe, text=True
    )

    def call(out: Path, moment: Moment | None = None, delay: float = 0.0) -> int:
        server.stdin.write(json.dumps([*TRAIN, *encoders, *SHORT, "--out", str(out)]) + "\n")
        server.stdin.flush()
        child, ends = int(server.stdout.readline()), time.monotonic() + 300
        while moment and not moment(out):
            assert time.monotonic() < ends and not ended(child), Path("output").read_text()
            time.sleep(0.0005)
        if moment:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
        return int(server.stdout.readline())

    yield call
    server.stdin.close()
    server.wait()
    server.stdout.close()


def ended(child: int) -> bool:
    """Whether the process has ended; it may be a zombie."""
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def checkpoints(out: Path) -> dict[Path, int]:
    """The last checkpoints, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.glob(f".*/encoders/*/*/{LAST}")}


def after_checkpoints(count: int) -> Moment:
    """More than `count` checkpoints have been written: training continues with the next epoch."""
    seen: set[tuple[Path, int]] = set()

    def reached(out: Path) -> bool:
        seen.update(checkpoints(out).items())
        return len(seen) > count

    return reached


def while_writing(pattern: str) -> Moment:
    return lambda out: any(out.glob(f"{pattern}{TEMPORARY_PREFIX}*/*"))


CHECKPOINT, RUN = ".*/encoders/*/*/", ""  # where their temporary folders are


def test_a_training_killed_at_five_moments_ends_with_the_same_predictions(tier: Callable[..., int]) -> None:
    whole, killed = Path("whole"), Path("killed")
    assert tier(whole) == 0, Path("output").read_text()
    chance = random.Random(20)
    moments = [(after_checkpoints(chance.randint(1, 4)), chance.uniform(0, 0.3)) for _ in range(2)]
    moments += [(while_writing(CHECKPOINT), chance.uniform(0, 0.01)) for _ in range(2)]
    chance.shuffle(moments)
    for moment, delay in [*moments, (while_writing(RUN), chance.uniform(0, 0.02))]:
        assert tier(killed, moment, delay) == -signal.SIGKILL
        assert not list(killed.glob("[!.]*"))  # no run, or half of one
    assert tier(killed) == 0
    (expected,), (found,) = whole.iterdir(), killed.iterdir()  # nothing is left beside the runs
    assert found.name == expected.name
    for name in ("predictions.csv", "curves.csv", "splits.json"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    weights = {path.relative_to(expected): path.read_bytes() for path in expected.rglob("*.safetensors")}
    assert weights == {path.relative_to(found): path.read_bytes() for path in found.rglob("*.safetensors")}
