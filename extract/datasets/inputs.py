"""Inputs of a prediction as a table without scores: images, a folder of images, or a data set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.read import read_source
from tier4k.extract.datasets.source import PLACE_COLUMNS, TEXT_COLUMNS, SourceTable
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.datasets.tables.find import TABLE_SUFFIXES, is_table

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

SHOWN_NAMES = 5


class _Row(NamedTuple):
    name: str
    image: str
    prompt: str
    image_prompt: str


def read_inputs(
    inputs: Sequence[Path],
    prompt: str | None = None,
    image_prompt: Path | None = None,
    needs_prompts: bool = True,
    choice: TableChoice = RECOGNISED,
) -> SourceTable:
    """Read the inputs of a prediction.

    Args:
        inputs: Images, or one folder or table: a data set in any layout, or a folder with a `.txt` prompt
            beside every image.
        prompt: The text prompt of the images.
        image_prompt: Their image prompt.
        needs_prompts: Whether every image must have a text prompt; otherwise prompts are read where there
            are some.
        choice: What the user says about a table.

    Raises:
        DataError: An input is missing, or is given twice.
    """
    _require_existing(inputs)
    whole = [path for path in inputs if path.is_dir() or is_table(path)]
    if not whole:
        return _images(inputs, prompt, image_prompt, needs_prompts)
    place = whole[0]
    if len(inputs) > 1:
        kind = "folder" if place.is_dir() else "table"
        raise DataError(f"{place} is a {kind}: pass only this {kind}, or only pictures")
    if prompt is not None or image_prompt is not None:
        raise DataError(
            f"{place} contains the prompts: do not pass --prompt and --image-prompt, or pass pictures instead"
        )
    if place.is_dir() and not _has_table(place):
        return _folder(place, needs_prompts)
    return replace(read_source(place, choice, needs_prompts=needs_prompts), targets=())


def _require_existing(inputs: Sequence[Path]) -> None:
    missing = [str(path) for path in inputs if not path.exists()]
    if missing:
        raise DataError(
            f"there is no {', '.join(missing)}: pass pictures, a folder, or a table "
            f"({', '.join(TABLE_SUFFIXES)})"
        )


def _images(
    paths: Sequence[Path],
    prompt: str | None,
    image_prompt: Path | None,
    needs_prompts: bool,
) -> SourceTable:
    text = (prompt or "").strip()
    if needs_prompts and not text:
        raise DataError(
            "a picture is scored for its text prompt: pass --prompt TEXT, or a table with the columns image "
            "and prompt"
        )
    if image_prompt is not None and not image_prompt.is_file():
        raise DataError(
            f"there is no image prompt {image_prompt}: pass a picture file, or do not pass --image-prompt"
        )
    guide = str(image_prompt.resolve()) if image_prompt else ""
    distinct = dict.fromkeys(paths)
    rows = [_Row(str(path), str(path.resolve()), text, guide) for path in distinct]
    return _table("pictures", Path.cwd(), rows, needs_prompts)


def _has_table(folder: Path) -> bool:
    published = folder / "PKU-AIGIQA-4K"
    return published.exists() or any(map(is_table, folder.iterdir()))


def _folder(folder: Path, needs_prompts: bool) -> SourceTable:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(
            f"{folder} contains neither a table ({', '.join(TABLE_SUFFIXES)}) nor pictures "
            f"({', '.join(IMAGE_SUFFIXES)})"
        )
    if needs_prompts:
        _require_prompts(folder, images)
    rows = []
    for path in images:
        file = _prompt_file(path)
        prompt = _read_text(file) if file.is_file() else ""
        rows.append(_Row(path.name, str(path.resolve()), prompt, ""))
    return _table(folder.resolve().name, folder, rows, needs_prompts)


def _prompt_file(image: Path) -> Path:
    return image.with_suffix(".txt")


def _require_prompts(folder: Path, images: Sequence[Path]) -> None:
    missing = [file.name for file in map(_prompt_file, images) if not file.is_file()]
    if not missing:
        return
    shown = ", ".join(missing[:SHOWN_NAMES])
    rest = len(missing) - SHOWN_NAMES
    if rest > 0:
        shown = f"{shown} and {rest} more"
    raise DataError(
        f"{folder} lacks the prompts of {len(missing)} of {len(images)} pictures: write them to {shown}"
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error})") from error


def _table(
    name: str,
    path: Path,
    rows: list[_Row],
    needs_prompts: bool,
) -> SourceTable:
    frame = pd.DataFrame(rows, columns=list(_Row._fields))
    frame = frame.assign(generator="unknown", group="", dataset="", file="", line=0)
    filesystem_root = Path(Path.cwd().anchor)  # the paths are absolute, as the images may be anywhere
    return SourceTable(
        name=name,
        path=path,
        frame=frame[[*TEXT_COLUMNS, *PLACE_COLUMNS]],
        others=pd.DataFrame(index=frame.index),
        targets=(),
        image_folder=filesystem_root,
        image_prompt_folder=filesystem_root,
        needs_prompts=needs_prompts,
    )
