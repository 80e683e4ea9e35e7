"""Inputs of a prediction as a stream of rows: images, a folder of images, or a data set in any form."""

import locale
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tier4k.cache.text import shown
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.image_folder import ImageFolder
from tier4k.extract.datasets.problems import LeftOut
from tier4k.extract.datasets.prompt_files import NoPromptError, prompt_beside
from tier4k.extract.datasets.rows.files import names_files
from tier4k.extract.datasets.rows.open import open_rows
from tier4k.extract.datasets.rows.source import RowSource
from tier4k.extract.datasets.rows.table import TableRows
from tier4k.extract.datasets.rows.tar_members import COMPRESSED_SUFFIXES, TAR_SUFFIX
from tier4k.extract.datasets.source import ROW_COLUMNS, TEXT_COLUMNS, SourceTable
from tier4k.extract.datasets.table_choice import RECOGNISED, TableChoice
from tier4k.extract.datasets.tables.clutter import is_clutter
from tier4k.extract.datasets.tables.find import TABLE_SUFFIXES, is_table
from tier4k.extract.images.formats import image_suffixes

SHOWN_IMAGES = 40

FOLDER = "folder"


@dataclass(frozen=True)
class PredictionInputs:
    """What is scored, and what is not.

    Attributes:
        source: The images to score.
        left_out: Images that are not scored, as they have no prompt.
    """

    source: RowSource
    left_out: tuple[LeftOut, ...] = ()


class _Row(NamedTuple):
    name: str
    image: str
    prompt: str
    image_prompt: str = ""


def read_inputs(
    inputs: Sequence[str | Path],
    prompt: str | None = None,
    image_prompt: Path | None = None,
    needs_prompts: bool = True,
    choice: TableChoice = RECOGNISED,
) -> PredictionInputs:
    """Read the inputs of a prediction.

    Args:
        inputs: Images, or one data set in any form that `open_rows` takes; a folder may have images with a
            `.txt` file beside each. Tables without a column of images, such as earlier scores, are not read.
        prompt: The text prompt of all images; None reads the `.txt` file beside each.
        image_prompt: Their image prompt.
        needs_prompts: Whether an image without a text prompt is left out; otherwise prompts are read where
            there are some.
        choice: What the user says about a table.

    Raises:
        DataError: An input is missing, or is a data set among others, or no image has a prompt.
    """
    whole = [data for data in inputs if _is_whole(data)]
    if not whole:
        _require_existing(inputs)
        return _from_images(list(map(Path, inputs)), prompt, image_prompt, needs_prompts)
    data = whole[0]
    kind = _kind(data)
    if len(inputs) > 1:
        raise DataError(f"{data} is a {kind}: pass only this {kind}, or only images")
    if prompt is not None or image_prompt is not None:
        raise DataError(
            f"{data} contains the prompts: do not pass --prompt and --image-prompt, or pass images instead"
        )
    if kind == FOLDER:
        folder = ImageFolder.read(Path(data))
        if folder.is_meant(choice):
            return _from_folder(folder, needs_prompts)
    return PredictionInputs(open_rows(data, replace(choice, to_predict=True), needs_prompts))


def _is_whole(data: str | Path) -> bool:
    """Return whether an input is a whole data set, and not an image."""
    path = Path(data)
    return path.is_dir() or is_table(path) or _is_archive(path) or names_files(data)


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.name.lower().endswith((TAR_SUFFIX, *COMPRESSED_SUFFIXES))


def _kind(data: str | Path) -> str:
    if names_files(data):
        return "data set"
    if Path(data).is_dir():
        return FOLDER
    return "archive" if _is_archive(Path(data)) else "table"


def _require_existing(inputs: Sequence[str | Path]) -> None:
    missing = [str(path) for path in inputs if not Path(path).exists()]
    if missing:
        raise DataError(
            f"there is no {', '.join(missing)}: pass images, a folder, or a table "
            f"({', '.join(TABLE_SUFFIXES)})"
        )


def _from_images(
    paths: Sequence[Path],
    prompt: str | None,
    image_prompt: Path | None,
    needs_prompts: bool,
) -> PredictionInputs:
    """Return images that are given one by one; those with one prompt, or with a prompt file beside each."""
    if image_prompt is not None and not image_prompt.is_file():
        raise DataError(
            f"there is no image prompt {image_prompt}: pass an image file, or do not pass --image-prompt"
        )
    text = None if prompt is None else _prompt_argument(prompt, needs_prompts)
    distinct = dict.fromkeys(paths)
    rows, left_out = _rows(distinct, list(map(shown, distinct)), text, needs_prompts)
    if not rows:
        raise DataError(
            f"{_listing(left_out)}\nAn image is scored for its text prompt: pass --prompt TEXT, write a "
            ".txt file beside each image, or pass a table with the columns image and prompt."
        )
    if image_prompt is not None:
        rows = [row._replace(image_prompt=str(image_prompt.absolute())) for row in rows]
    table = _table("images", Path.cwd(), rows, needs_prompts)
    return PredictionInputs(TableRows(table), left_out)


def _prompt_argument(text: str, needs_prompts: bool) -> str:
    """Return a prompt of the command line.

    Bytes that are not UTF-8 are in the encoding of the locale, as `tier` runs in UTF-8 mode in any locale.

    Raises:
        DataError: The prompt is empty, or its bytes are not in that encoding either.
    """
    encoding = locale.getencoding()
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            text = os.fsencode(text).decode(encoding)
        except UnicodeError:
            raise DataError(
                f"the prompt {shown(text)!r} is neither UTF-8 nor {encoding}: write it into a .txt file in "
                "UTF-8 beside the image, and leave out --prompt"
            ) from None
    if needs_prompts and not text.strip():
        raise DataError("the prompt is empty: pass --prompt TEXT, or leave it out and write .txt files")
    return text.strip()


def _from_folder(folder: ImageFolder, needs_prompts: bool) -> PredictionInputs:
    if not folder.images:
        raise DataError(
            f"{folder.path} contains neither a table ({', '.join(TABLE_SUFFIXES)}) nor images "
            f"({', '.join(sorted(image_suffixes()))})"
        )
    report = folder.report()
    names = [shown(path.name) for path in folder.images]
    rows, left_out = _rows(folder.images, names, None, needs_prompts)
    if not rows:
        lines = [
            f"none of the images in {folder.path} can be scored:",
            _listing(left_out),
            *report.lines(),
            "Write the prompt of each image into a .txt file beside it, or add a table with the columns "
            "image and prompt.",
        ]
        raise DataError("\n".join(lines))
    source = _table(shown(folder.path.resolve().name), folder.path, rows, needs_prompts)
    return PredictionInputs(TableRows(replace(source, report=report)), left_out)


def _rows(
    images: Iterable[Path],
    names: Sequence[str],
    prompt: str | None,
    needs_prompts: bool,
) -> tuple[list[_Row], tuple[LeftOut, ...]]:
    """Return the images that have a prompt, and the others.

    Args:
        images: Paths of images (N,).
        names: Their names (N,).
        prompt: The prompt of all images; None reads the file beside each.
        needs_prompts: Whether an image without a prompt is left out.
    """
    rows, left_out = [], []
    for path, name in zip(images, names, strict=True):
        if is_clutter(path):
            left_out.append(LeftOut(name, "a hidden file or one of a system or program, not an image"))
            continue
        try:
            text = prompt_beside(path) if prompt is None else prompt
        except NoPromptError as error:
            if needs_prompts:
                left_out.append(LeftOut(name, shown(str(error))))
                continue
            text = ""
        rows.append(_Row(name, str(path.absolute()), text))
    return rows, tuple(left_out)


def _listing(left_out: Sequence[LeftOut]) -> str:
    lines = [f"  {image}" for image in left_out[:SHOWN_IMAGES]]
    rest = len(left_out) - SHOWN_IMAGES
    if rest > 0:
        lines.append(f"  … and {rest:,} more")
    return "\n".join(lines)


def _table(
    name: str,
    path: Path,
    rows: list[_Row],
    needs_prompts: bool,
) -> SourceTable:
    # Paths are plain objects, as pandas' own type of texts takes no bytes of names that are not UTF-8.
    frame = pd.DataFrame(rows, columns=list(_Row._fields), dtype=object).astype({"name": str, "prompt": str})
    frame = frame.assign(generator="unknown", group="", dataset="", file="", line=0, formulas="")
    filesystem_root = Path(Path.cwd().anchor)  # the paths are absolute, as the images may be anywhere
    return SourceTable(
        name=name,
        path=path,
        frame=frame[[*TEXT_COLUMNS, *ROW_COLUMNS]],
        others=pd.DataFrame(index=frame.index),
        targets=(),
        image_folder=filesystem_root,
        image_prompt_folder=filesystem_root,
        needs_prompts=needs_prompts,
    )
