"""The processes of a machine decode images once, into one file that no end of a process leaves behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tier4k.extract.images.content import content_key
from tier4k.tests.builders.data import save_picture

pytestmark = pytest.mark.slow

# Prints one line for each part: the images that this process has read, and what came of them.
PROCESS = """
import os, signal, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd
from tier4k.cache.errors import TierError
from tier4k.extract.images import pixels
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.images.preprocessing import reference
from tier4k.heads.finetuning.distributed import explain_lost_processes, make_accelerator
from tier4k.heads.finetuning.shared_file import SharedFile

accelerator = make_accelerator("cpu")
read, read_bytes = [], pixels.read_bytes
pixels.read_bytes = lambda place: (read.append(place), read_bytes(place))[1]
images = pd.read_csv("images.csv", index_col=0)["place"]

def files():
    accelerator.wait_for_everyone()
    count = len(list(Path(tempfile.gettempdir()).iterdir()))
    accelerator.wait_for_everyone()  # the next part makes a file, which has a name at first
    return count

def decoded(images, progress=lambda *_: None):
    read.clear()
    return DecodedImages(images, reference(32, 40), 2, progress, SharedFile(accelerator))

together = decoded(images)
alone = DecodedImages(images, reference(32, 40), 2)
equal = all(bool((together.centre(n) == alone.centre(n)).all()) for n in range(len(images)))
print(len(read) - len(images), equal, files(), flush=True)
try:
    decoded(pd.concat([images, pd.Series({"00": "missing.png"})]))
except TierError as error:
    print(type(error).__name__, "missing.png" in str(error), files(), flush=True)

def kill(done, _):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

try:
    with explain_lost_processes(accelerator):
        decoded(images, kill)
except TierError as error:
    print(type(error).__name__, "another process of this training has ended" in str(error), flush=True)
"""


def test_one_of_two_processes_decodes_and_its_failure_or_death_reaches_the_other(tmp_path: Path) -> None:
    places: dict[str, str] = {}
    for seed in range(5):
        path = tmp_path / f"{seed}.png"
        save_picture(path, seed, (50 + seed, 60))
        places[content_key(path.read_bytes()).hex()] = str(path)
    pd.Series(places, name="place").to_csv(tmp_path / "images.csv")
    (temporary := tmp_path / "temporary").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    common |= {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            cwd=tmp_path,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    finally:
        for process in processes:
            process.kill()
    failure = "ImageError True 0"
    assert outputs[0] == [f"{len(places)} True 0", failure]
    assert outputs[1] == ["0 True 0", failure, "FinetuningError True"]
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 0]
    assert not list(temporary.iterdir())
