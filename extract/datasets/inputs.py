"""What is to be scored: pictures with one prompt, a folder of pictures with a text file each, or a data set; as a table without scores."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from tier4k.extract.datasets.layouts import TABLE_SUFFIXES, TEXT_COLUMNS, DataError, SourceTable, read_source

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def read_inputs(
    inputs: Sequence[Path], prompt: str | None = None, image_prompt: Path | None = None
) -> SourceTable:
    """The table of what is to be scored.

    Args:
        inputs: Pictures, or one folder or table: a data set in any layout, or a folder with a `.txt` prompt beside every picture.
        prompt: The text prompt of the pictures.
        image_prompt: Their image prompt.

    Raises:
        DataError: Something is missing, or is given twice.
    """
    missing = [path for path in inputs if not path.exists()]
    if missing:
        raise DataError(
            f"there is no {', '.join(map(str, missing))}: give pictures, a folder, or a table ({', '.join(TABLE_SUFFIXES)})"
        )
    whole = [path for path in inputs if path.is_dir() or path.suffix.lower() in TABLE_SUFFIXES]
    if not whole:
        return _pictures(inputs, prompt, image_prompt)
    if len(inputs) > 1:
        raise DataError(
            f"{whole[0]} is a {'folder' if whole[0].is_dir() else 'table'}: give it alone, or pictures only"
        )
    if prompt is not None or image_prompt is not None:
        raise DataError(
            f"the prompts of {whole[0]} stand in it: leave out --prompt and --image-prompt, or give pictures"
        )
    if whole[0].is_dir() and not _has_table(whole[0]):
        return _folder(whole[0])
    return replace(read_source(whole[0]), targets=())


def _pictures(paths: Sequence[Path], prompt: str | None, image_prompt: Path | None) -> SourceTable:
    if not prompt or not prompt.strip():
        raise DataError(
            "a picture is scored for its text prompt: give --prompt TEXT, or a table with the columns image and prompt"
        )
    if image_prompt is not None and not image_prompt.is_file():
        raise DataError(
            f"there is no image prompt {image_prompt}: give a picture file, or leave --image-prompt out"
        )
    paths = list(dict.fromkeys(paths))
    guide = str(image_prompt.resolve()) if image_prompt else ""
    return _table(
        "pictures", Path.cwd(), [(str(path), str(path.resolve()), prompt.strip(), guide) for path in paths]
    )


def _has_table(folder: Path) -> bool:
    return any(
        path.suffix.lower() in TABLE_SUFFIXES or path.name == "PKU-AIGIQA-4K" for path in folder.iterdir()
    )


def _folder(folder: Path) -> SourceTable:
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not pictures:
        raise DataError(
            f"{folder} holds neither a table ({', '.join(TABLE_SUFFIXES)}) nor pictures ({', '.join(PICTURE_SUFFIXES)})"
        )
    without = [path for path in pictures if not path.with_suffix(".txt").is_file()]
    if without:
        shown = ", ".join(path.with_suffix(".txt").name for path in without[:5])
        rest = f" and {len(without) - 5} more" if len(without) > 5 else ""
        raise DataError(
            f"{folder} lacks the prompts of {len(without)} of {len(pictures)} pictures: write them to {shown}{rest}"
        )
    rows = [(path.name, str(path.resolve()), _text(path.with_suffix(".txt")), "") for path in pictures]
    return _table(folder.resolve().name, folder, rows)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error})") from error


def _table(name: str, path: Path, rows: list[tuple[str, str, str, str]]) -> SourceTable:
    frame = pd.DataFrame(rows, columns=["name", "image", "prompt", "image_prompt"]).assign(
        generator="unknown"
    )
    root = Path(Path.cwd().anchor)  # the paths are absolute: pictures may lie anywhere
    return SourceTable(name, path, frame[list(TEXT_COLUMNS)], (), root, root)
