"""`tier extract` end to end on many small distinct images in tar archives, with a tiny network.

    python benchmarks/scale_extract.py [--images 100000 1000000] [--folder DIR]

Draws distinct JPEGs of 64 x 64 pixels (1.3 KB each) into archives of 10,000, and extracts their features with
timm's test_resnet and random weights. Prints for each number of images the seconds of planning (reading the
archives, hashing) and what the loop then waited for (read, encode, write). The last line is one JSON object
with them, the peak memory in MiB, and the ratio of the largest peak to the smallest. 10^6 images take about
3 GB of disk.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

SIDE = 64
IMAGES_OF_AN_ARCHIVE = 10_000
ENCODER = "timm:test_resnet@64"


def write_archives(folder: Path, images: int) -> None:
    """Write archives of distinct images, each with a prompt."""
    folder.mkdir()
    random = np.random.default_rng(images)
    for first in range(0, images, IMAGES_OF_AN_ARCHIVE):
        with tarfile.open(folder / f"{first // IMAGES_OF_AN_ARCHIVE:05d}.tar", "w") as archive:
            for number in range(first, min(first + IMAGES_OF_AN_ARCHIVE, images)):
                add(archive, f"{number:08d}.jpg", draw(random))
                add(archive, f"{number:08d}.txt", f"a drawing of thing {number % 1000}".encode())


def draw(random: np.random.Generator) -> bytes:
    """Return a JPEG of a random coarse pattern."""
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, "JPEG", quality=85)
    return file.getvalue()


def add(
    archive: tarfile.TarFile,
    name: str,
    content: bytes,
) -> None:
    """Add a member to an archive."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def tier(*arguments: str) -> tuple[float, float]:
    """Run a command; return its seconds and its peak memory in MiB."""
    command = [sys.executable, "-m", "tier4k.cli", *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the command failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024


def measure(folder: Path, images: int) -> dict[str, float]:
    """Extract so many images."""
    write_archives(folder / "data", images)
    weights = folder / "weights.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), weights)
    options = ["--image-encoder", ENCODER, "--image-weights", str(weights), "--streams", "image"]
    data, features = str(folder / "data"), folder / "features"
    plan_s, plan_mib = tier("extract", data, "--features", str(features), *options, "--plan-only")
    total_s, extract_mib = tier("extract", data, "--features", str(features), *options)
    (of_encoder,) = json.loads((features / "extract.json").read_text())["encoders"]
    return {
        "images": images,
        "plan_s": round(plan_s, 1),
        "extract_s": round(total_s, 1),
        **{f"{part}_s": round(seconds, 1) for part, seconds in of_encoder["seconds"].items()},
        "images_per_s": round(of_encoder["inputs_per_second"], 1),
        "peak_mib": round(max(plan_mib, extract_mib)),
    }


def main() -> None:
    """Parse the options, measure, and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where data are made; otherwise for temporary files")
    arguments = parser.parse_args()
    measured = []
    for images in arguments.images:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            measured.append(measure(Path(folder), images))
        print(measured[-1], flush=True)
    peaks = [values["peak_mib"] for values in measured]
    print(json.dumps({"measured": measured, "memory_ratio": round(max(peaks) / min(peaks), 3)}))


if __name__ == "__main__":
    main()
