"""Several processes train as one does, and none waits for one that has ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tier4k.heads.results.read import read_curves, read_predictions
from tier4k.tests.builders.commands import succeed
from tier4k.tests.builders.data import write_test_resnet

pytestmark = pytest.mark.slow

LAUNCH = [
    str(Path(sys.executable).with_name("accelerate")),
    "launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--main_process_port",
    "0",
]
TRAIN = [
    "fit-head",
    "Dataset",
    "--finetune",
    "all",
    "--device",
    "cpu",
    "--method",
    "pr",
    "--target",
    "MOS_q",
    "--split",
    "random",
]
SHORT = [
    "--repeats",
    "1",
    "--set",
    "hidden=8",
    "--set",
    "average=0.5",
    "--learning-rate",
    "1e-5",
]  # at which rounding does not grow


def start(command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    changed = {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(
        command, env=os.environ | changed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def launch(*arguments: str) -> None:
    """Run `tier` in two processes of accelerate's launcher."""
    process = start([*LAUNCH, "-m", "tier4k.cli", *arguments])
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


@pytest.mark.parametrize(
    ("batch", "epochs"), [(4, 10), (1, 2)]
)  # of eight training rows; a batch of one leaves nothing for a process
def test_two_processes_end_with_the_same_weights_as_one(project: Path, batch: int, epochs: int) -> None:
    steps = ["--train-batch-size", str(batch), "--epochs", str(epochs), "--set", "patience=10", *SHORT]
    command = [*TRAIN, *write_test_resnet(project), *steps]
    succeed(*command, "--out", "one")
    launch(*command, "--out", "two")
    (one,), (two,) = Path("one").iterdir(), Path("two").iterdir()
    assert one.name == two.name
    curves = [read_curves(run) for run in (one, two)]
    assert len(curves[0]) == len(curves[1]) == epochs
    for name in ("training_loss", "validation_loss"):
        np.testing.assert_allclose(curves[1][name], curves[0][name], rtol=1e-3)
    assert curves[0]["validation_loss"].nunique() == epochs  # every epoch changed the weights
    np.testing.assert_allclose(
        read_predictions(two)["prediction"], read_predictions(one)["prediction"], rtol=1e-3
    )


def start_two(project: Path, *folders: str) -> list[subprocess.Popen[str]]:
    """Two processes as on two machines, where no launcher ends them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    long = ["--train-batch-size", "4", "--epochs", "5000", "--set", "patience=5000"]
    command = [sys.executable, "-m", "tier4k.cli", *TRAIN, *write_test_resnet(project), *SHORT, *long]
    return [
        start([*command, "--out", folder], RANK=str(rank), LOCAL_RANK=str(rank), **common)
        for rank, folder in enumerate(folders)
    ]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_whose_partner_is_killed_reports_it_and_ends(project: Path, killed: int) -> None:
    processes = start_two(project, "runs", "runs")
    try:
        wait_for(lambda: list(Path("runs").rglob("last.safetensors")), processes)
        processes[killed].send_signal(signal.SIGKILL)
        output, _ = processes[1 - killed].communicate(timeout=300)
    finally:
        for process in processes:
            process.kill()
    assert processes[1 - killed].returncode == 2, output
    assert "another process of this training has ended" in output
    assert "Traceback" not in output


def test_processes_with_different_folders_are_refused(project: Path) -> None:
    processes = start_two(project, "here", "there")
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 2, output
        assert "pass an --out folder that all machines share" in output
    assert not list(Path("here").iterdir()) and not list(Path("there").iterdir())


def wait_for(condition: Callable[[], object], processes: Sequence[subprocess.Popen[str]]) -> None:
    ends = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < ends and all(process.poll() is None for process in processes)
        time.sleep(0.05)
