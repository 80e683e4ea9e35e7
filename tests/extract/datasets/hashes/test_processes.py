"""Processes that read images give what threads give, and never outlive the process that started them."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tier4k.extract.datasets.hashes import hasher as hasher_module
from tier4k.extract.datasets.hashes.cache import KeyCache
from tier4k.extract.datasets.hashes.hasher import ImageHasher
from tier4k.extract.datasets.hashes.processes import EndedProcessError, Processes
from tier4k.tests.builders.data import save_picture

PATIENCE = 60  # seconds; it takes less than one on an idle machine


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_many_images_are_hashed_by_processes_as_by_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [str(tmp_path / f"{seed}.png") for seed in range(6)]
    for seed, image in enumerate(images):
        save_picture(Path(image), seed)
    images.insert(2, str(tmp_path / "missing.png"))
    expected = ImageHasher(KeyCache(None)).hash(images)
    monkeypatch.setattr(hasher_module, "MANY", 1)
    monkeypatch.setattr(hasher_module, "AT_ONCE", 2)
    monkeypatch.setattr(hasher_module, "_read_image", None)  # in this process only
    with closing(ImageHasher(KeyCache(None))) as hasher:
        hashed = hasher.hash(images)
    assert hashed.keys.tolist() == expected.keys.tolist()
    assert hashed.problems == expected.problems and set(hashed.problems) == {2}
    assert hashed.missing.tolist() == expected.missing.tolist() == [2]


def test_the_end_of_a_process_is_an_error_that_says_how_it_ended() -> None:
    with closing(Processes()) as processes, pytest.raises(EndedProcessError, match=r"\(exit code 3\)"):
        list(processes.map(os._exit, [3]))


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(end: signal.Signals) -> None:
    program = """
import os, time
from tier4k.extract.datasets.hashes.processes import Processes
processes = Processes()
list(processes.map(os.getenv, ["PATH"]))
print(*(process._process.pid for process in processes._started), flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = list(map(int, parent.stdout.readline().split()))
        assert children and all(map(is_alive, children))
        parent.send_signal(end)
        parent.wait(timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, children))
