"""Work for Ray in tests: images that take time or end a process, and a driver in a process of its own."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tier4k.cache.compact import compact
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.listener import Timing
from tier4k.extract.pipeline.options import ExtractionOptions, RayOptions
from tier4k.extract.pipeline.run import extract
from tier4k.tests.builders.data import save_picture, tiny_encoder, write_pku
from tier4k.tests.builders.listener import Silent

KILLING, FAILING = (41, 37), (43, 37)  # width and height of images that `Troubled` fails at
WAITING = (47, 37)  # of images that `Troubled` waits at

ACTOR = "EncodingActor"  # part of the name of an actor that encodes


@dataclass(frozen=True)
class Troubled(Preprocessing):
    """Preprocessing that takes time, and that images of some sizes disturb.

    Attributes:
        seconds: Time of an image.
        killing: An image of this size ends the process as a fault of a library does.
        failing: An image of this size raises an error that nobody foresaw.
        awaited: An image of the size WAITING is not ready before this file exists.
    """

    seconds: float = 0.0
    killing: tuple[int, int] | None = None
    failing: tuple[int, int] | None = None
    awaited: Path | None = None

    def apply(self, pixels):
        """Preprocess an image."""
        time.sleep(self.seconds)
        size = (pixels.shape[1], pixels.shape[0])
        if size == self.killing:
            os.kill(os.getpid(), signal.SIGKILL)
        while size == WAITING and self.awaited and not self.awaited.exists():
            time.sleep(0.05)
        if size == self.failing:
            raise RuntimeError("a fault of a library")
        return super().apply(pixels)


def write_inputs(folder: Path, rows: int = 8, sizes: Sequence[tuple[int, int]] = ()) -> DatasetInputs:
    """The inputs of a data set with images of several shapes; the last ones have the given sizes."""
    names = write_pku(folder, rows=rows)["Generated_image"]
    for seed, (name, size) in enumerate(zip(names[::-5], sizes, strict=False)):
        save_picture(folder / "All" / name, seed, size)
    return DatasetInputs.of(check(folder).manifest)


def compacted(root: Path) -> dict[str, bytes]:
    """The files of the stores in a folder, compacted."""
    found = {}
    for signature in sorted(root.glob("*/signature.json")):
        compact(FeatureStore.open(signature.parent))
        for shard in sorted(signature.parent.glob("*.h5")):
            found[f"{signature.parent.name}/{shard.name}"] = shard.read_bytes()
    assert found
    return found


def troubled(encoder: ImageEncoder, **trouble) -> ImageEncoder:
    """The encoder with the same weights and signature."""
    return replace(encoder, preprocessing=Troubled(**vars(encoder.preprocessing), **trouble))


class At(Silent):
    """Calls a function once, when a number of inputs is encoded."""

    def __init__(self, count: int, function: Callable[[], object]) -> None:
        super().__init__()
        self.count, self.function = count, function

    def advanced(self, count: int, timing: Timing) -> None:
        """Count inputs."""
        super().advanced(count, timing)
        if self.done >= self.count > 0:
            self.count = 0
            self.function()


def encoding_processes() -> list[psutil.Process]:
    """The processes of this machine's Ray that encode."""
    from ray._private.state import actors  # the public list of actors needs Ray's dashboard

    alive = [actor for actor in actors().values() if actor["State"] == "ALIVE"]
    return [psutil.Process(actor["Pid"]) for actor in alive if ACTOR in actor["ActorClassName"]]


def drive(data: Path, weights: Path, root: Path) -> None:
    """Encode slowly with a Ray that is started for this, until somebody ends the process."""
    encoder = troubled(tiny_encoder(weights), seconds=0.1)
    options = ExtractionOptions(0, batch_size=2, unit_rows=2, ray=RayOptions(actors=1))
    extract(DatasetInputs.of(check(data).manifest), [encoder], root, options, Silent())


if __name__ == "__main__":
    drive(*map(Path, sys.argv[1:]))
