"""The prepared folder in which the blocks of the documentation run; tests/docs/README.md describes it."""

import csv
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from tier4k.extract.datasets.sample import rows, write_sample
from tier4k.tests.builders.doc_shell import run_bash
from tier4k.tests.builders.golden import fill, write_tiny_bert
from tier4k.tests.builders.text_models import write_text_folder

IMAGE_TO_IMAGE_PROMPTS = 8  # 4 rows each

TEXT_TO_IMAGE_PROMPTS = 4  # 6 rows each

LARGE = 1 << 20  # bytes; no command changes a larger file of the prepared folder in place

RUNS = {"ID": "ridge", "A": "kernel-ridge", "B": "svr"}

GRID = """head = ["ridge", "pls"]
method = ["nr", "pr"]
target = "quality"
repeats = 2
"""


def write_project(folder: Path) -> None:
    """Write the prepared folder: data by the demo's code, features and runs by the public commands."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _write_data(patch)
        _write_models()
        _fit_runs()


@contextmanager
def fresh_project(prepared: Path, folder: Path) -> Iterator[None]:
    """A copy of the prepared folder as the working directory. The folder is that in which it was prepared."""
    shutil.copytree(prepared, folder, copy_function=_copy)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.syspath_prepend(folder)
            yield
    finally:
        shutil.rmtree(folder)


def _copy(source: str, target: str) -> None:
    path = Path(source)
    if path.stat().st_size > LARGE:
        Path(target).hardlink_to(path)
    else:
        shutil.copy2(source, target)


def _write_data(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows, "IMAGE_TO_IMAGE_PROMPTS", IMAGE_TO_IMAGE_PROMPTS)
    patch.setattr(rows, "TEXT_TO_IMAGE_PROMPTS", TEXT_TO_IMAGE_PROMPTS)
    root = write_sample(Path("Dataset"))
    sample = rows.sample_rows()
    Path("images").mkdir()
    Path("image_prompts").mkdir()
    lines = [_line(root, row) for row in sample]
    table = pd.DataFrame(lines)
    table.to_csv("table.csv", index=False)
    table.drop(columns="subset").rename(columns={"quality": "mos_quality"}).to_csv("other.csv", index=False)
    _write_new_images(lines[:1] + lines[-5:])
    Path("grid.toml").write_text(GRID)


def _line(root: Path, row: rows.SampleRow) -> dict[str, object]:
    shutil.copy(root / "All" / row.name, "images")
    if row.image_prompt:
        shutil.copy(root / "I2I" / "Image_prompt" / row.image_prompt, "image_prompts")
    generator, number, _ = row.name.split("_")
    return {
        "image": f"images/{row.name}",
        "prompt": row.asked.prompt,
        "image_prompt": f"image_prompts/{row.image_prompt}" if row.image_prompt else "",
        "generator": generator,
        "quality": round(row.mos_q, 3),
        "alignment": round(row.mos_c, 3),
        "subset": "test" if int(number) % 3 == 0 else "train",
    }


def _write_new_images(lines: Sequence[dict[str, object]]) -> None:
    """Images without a rating, in the forms that `tier predict` reads."""
    with Image.open(str(lines[0]["image"])) as image:
        image.save("image.png")
    with Image.open(str(lines[0]["image_prompt"])) as image:
        image.save("image_prompt.png")
    with Path("new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        writer.writerows([line["image"], line["prompt"]] for line in lines)
    Path("folder").mkdir()
    for line in lines:
        image = Path(str(line["image"]))
        shutil.copy(image, "folder")
        Path("folder", f"{image.stem}.txt").write_text(str(line["prompt"]))
    _write_tars(sorted(Path("folder").iterdir()))


def _write_tars(files: Sequence[Path]) -> None:
    Path("shards").mkdir()
    half = len(files) // 2
    for number, members in enumerate((files[:half], files[half:])):
        with tarfile.open(f"shards/{number:03d}.tar", "w") as tar:
            for member in members:
                tar.add(member, member.name)


def _write_models() -> None:
    """Networks with random weights under the names that users of TIER-4K have, and a very small CLIP."""
    Path("pretrained").mkdir()
    torch.save(fill(timm.create_model("resnet18").state_dict(), 70), "pretrained/resnet18.pth")
    write_tiny_bert(Path("bert-base-uncased"))
    write_text_folder(Path("clip-tiny"), "clip")


def _fit_runs() -> None:
    run_bash("tier extract table.csv")
    run_bash("tier extract Dataset")
    for name, head in RUNS.items():
        run_bash(f"tier fit-head table.csv --head {head} --repeats 5 --out fitted")
        (run,) = Path("fitted").iterdir()
        Path("runs").mkdir(exist_ok=True)
        run.rename(Path("runs") / name)
    Path("fitted").rmdir()
    run_bash("tier export runs/ID model")
