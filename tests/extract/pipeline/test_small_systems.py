"""Extraction works where the system gives little: shared memory, open files."""

import subprocess
import sys
from pathlib import Path

import pytest

from tier4k.tests.builders.data import write_test_resnet
from tier4k.tests.builders.small_shm import in_small_shm

REPOSITORY = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm and these limits"),
]


@pytest.mark.parametrize("size", ["1m", "4k"])
def test_images_need_no_room_in_dev_shm(project: Path, size: str) -> None:
    reading = ["--image-size", "512", "--workers", "2", "--batch-size", "4"]
    ended = in_small_shm(size, "extract", "Dataset", "-F", "small", *reading, *write_test_resnet(project))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "encoded 14 of 14" in ended.stdout


def test_few_open_files_are_enough(project: Path) -> None:
    options = ["--workers", "64", *write_test_resnet(project)]
    command = [sys.executable, str(REPOSITORY / "cli.py"), "extract", "Dataset", "-F", "few", *options]
    ended = subprocess.run(
        ["sh", "-c", 'ulimit -n 24 && exec "$@"', "sh", *command], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "encoded 14 of 14" in ended.stdout
