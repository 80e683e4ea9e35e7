"""Reading processes hand over images whatever the size of /dev/shm. Without it, one process reads."""

import errno
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tier4k.extract.datasets.check import check
from tier4k.extract.pipeline.chunks import Chunk, CropStack, SentChunk
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.read import CroppedImage, collate_and_send
from tier4k.extract.pipeline.run import extract
from tier4k.extract.pipeline.shared_memory import SharedImages, possible_workers
from tier4k.tests.builders.data import tiny_encoder, write_pku, write_test_resnet
from tier4k.tests.builders.listener import Silent

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 240  # seconds for a command that takes ten on an idle machine


def images() -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 3, 5, 7), (1, 3, 4, 4), (3, 3, 1, 1)]
    return [torch.randint(0, 256, shape, dtype=torch.uint8) for shape in shapes]


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("unnamed", ["in memory", "in the temporary folder"])
def test_images_arrive_as_they_were_sent(monkeypatch: pytest.MonkeyPatch, unnamed: str) -> None:
    if unnamed == "in the temporary folder":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    sent = images()
    for one, other in zip(SharedImages(sent).received(), sent, strict=True):
        assert torch.equal(one, other)


def test_an_image_that_is_a_view_of_another_arrives_whole() -> None:
    (wide,) = images()[:1]
    (arrived,) = SharedImages([wide[:, :, ::2].transpose(2, 3)]).received()
    assert torch.equal(arrived, wide[:, :, ::2].transpose(2, 3))


def test_a_chunk_travels_without_its_images() -> None:
    """The pickled chunk is small, and holds no tensor that PyTorch would put into /dev/shm."""
    large = torch.ones(64, 3, 224, 224, dtype=torch.uint8)
    stack = CropStack(np.arange(64), np.zeros(64, int), large)
    chunk = Chunk(np.arange(64), ((stack,), ()))
    pickled = pickle.dumps(SentChunk(chunk))
    assert len(pickled) < 10_000
    arrived = pickle.loads(pickled).received()
    assert [len(stacks) for stacks in arrived.images] == [1, 0]
    np.testing.assert_array_equal(arrived.numbers, chunk.numbers)
    assert torch.equal(arrived.images[0][0].pixels, large)


def test_an_error_names_the_remedy_where_nothing_has_room_for_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    items = [CroppedImage(number, [list(crops)]) for number, crops in enumerate(images())]
    error = collate_and_send(items)
    assert isinstance(error, ExtractionError)
    assert "No space left on device" in str(error) and "pass --workers 0" in str(error)


@pytest.mark.parametrize(("room", "workers"), [(0, 0), (13, 0), (14, 2), (1000, 2)])
def test_processes_read_where_there_is_room(monkeypatch: pytest.MonkeyPatch, room: int, workers: int) -> None:
    """PyTorch's queues take 8 semaphores and 3 a process."""
    made = iter(range(room))
    monkeypatch.setattr(multiprocessing, "Lock", lambda: no_room() if next(made, None) is None else object())
    assert possible_workers(2) == workers


def test_features_do_not_depend_on_the_reading_process(tmp_path: Path) -> None:
    write_pku(tmp_path / "data")
    manifest, encoder = check(tmp_path / "data").manifest, tiny_encoder(tmp_path)
    shards = []
    for workers in (0, 2):
        options = ExtractionOptions(workers, batch_size=3, device="cpu")
        (summary,) = extract(manifest, [encoder], tmp_path / str(workers), options, Silent())
        shards.append({path.name: path.read_bytes() for path in summary.store.glob("*.h5")})
    assert shards[0] and shards[0] == shards[1]


def in_small_shm(size: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tier` where /dev/shm has that size. A command that hangs is ended, and the test fails."""
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    mount = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount a /dev/shm")
    command = [*mount, "timeout", str(PATIENCE), sys.executable, str(REPOSITORY / "cli.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm")
@pytest.mark.slow
@pytest.mark.parametrize("size", ["1m", "4k"])
def test_extraction_ends_where_dev_shm_is_smaller_than_a_batch(project: Path, size: str) -> None:
    reading = ["--image-size", "512", "--workers", "2", "--batch-size", "4"]
    ended = in_small_shm(size, "extract", "Dataset", "-F", "small", *reading, *write_test_resnet(project))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "encoded 14 of 14" in ended.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm")
def test_a_sweep_ends_where_dev_shm_has_no_room_for_processes(project: Path) -> None:
    Path("grid.toml").write_text('head = ["ridge"]\ntarget = ["MOS_q", "MOS_a"]\nseed = [0, 1]\n')
    grid = ["--grid", "grid.toml", "--jobs", "2", "--split", "random", "--repeats", "1"]
    encoders = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]
    ended = in_small_shm("4k", "sweep", "Dataset", *grid, *encoders)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(list(Path("runs").glob("*/results.json"))) == 4
