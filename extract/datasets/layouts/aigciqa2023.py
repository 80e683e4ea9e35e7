"""AIGCIQA2023 in its authors' form: scores in files of MATLAB, prompts in a workbook, numbered images.

Row i is the image `Image/allimg/i.png`: of generator i // 400, for prompt (i % 400) // 4.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.text import shortened
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.tables.find import table_files
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.tables.workbooks import visible_rows

# In the order of the authors' list of images, pic-index.xlsx.
GENERATORS = ("Controlnet", "DALLE", "Glide", "Lafite", "stable-diffusion", "Unidiffuser")

QUANTITIES = ("quality", "authenticity", "correspondence")  # of mosz1.mat, mosz2.mat and mosz3.mat

PROMPTS = 100

IMAGES_OF_PROMPT = 4  # by each generator

ROWS = len(GENERATORS) * PROMPTS * IMAGES_OF_PROMPT

IMAGE_FOLDER = Path("Image", "allimg")

MEANS, SPREADS = Path("DATA", "MOS"), Path("DATA", "STD")

PROMPT_COLUMN = 2  # C

RESTORE = "restore it from the authors' download, or select another layout with --layout"


def is_aigciqa2023(data: Path) -> bool:
    """Return whether DATA is a folder with scores or the images of AIGCIQA2023, though perhaps not all."""
    return any((data / MEANS).glob("mosz*.mat")) or (data / IMAGE_FOLDER).is_dir()


def image_folder(root: Path, _names: pd.Series) -> Path:
    """Return the folder of the images."""
    return root / IMAGE_FOLDER


def read_aigciqa2023(folder: Path) -> list[TablePart]:
    """Read the rows: name, prompt, generator, and of each quantity its score and its standard deviation.

    The line of a row is its line in the arrays of scores.

    Args:
        folder: The data folder. `DATA/STD` may be missing: the standard deviations are then unknown.

    Raises:
        DataError: A file is missing or damaged, or has another content.
    """
    if folder.is_file():
        raise DataError(f"{folder} is a file, but AIGCIQA2023 has several: pass their folder")
    if not (folder / IMAGE_FOLDER).is_dir():
        raise DataError(f"{folder / IMAGE_FOLDER} is missing: the images of AIGCIQA2023 are in it; {RESTORE}")
    prompts = _prompts(folder)
    rows = np.arange(ROWS)
    of_generator = PROMPTS * IMAGES_OF_PROMPT
    columns: dict[str, object] = {
        "name": [f"{row}.png" for row in rows],
        "prompt": [prompts[row % of_generator // IMAGES_OF_PROMPT] for row in rows],
        "generator": np.repeat(GENERATORS, of_generator),
    }
    has_spreads = (folder / SPREADS).is_dir()
    for number, quantity in enumerate(QUANTITIES, start=1):
        columns[quantity] = _vector(folder / MEANS / f"mosz{number}.mat", "MOSz", f"{quantity} scores")
        if has_spreads:
            what = f"standard deviations of the {quantity} scores"
            columns[f"std_{quantity}"] = _vector(folder / SPREADS / f"SD{number}.mat", "SD", what, True)
    return [TablePart(folder, pd.DataFrame(columns), header_lines=0)]


def _vector(
    path: Path,
    variable: str,
    what: str,
    by_any_name: bool = False,
) -> np.ndarray:
    """Return the numbers of a file of MATLAB (2400,), NaN for unknown ones.

    Args:
        path: The file.
        variable: Name of the variable.
        what: What the numbers are, for messages.
        by_any_name: Whether the variable is also meant if it is the only one and has another name.
    """
    arrays = _arrays(path, what)
    if by_any_name and len(arrays) == 1:
        (variable,) = arrays
    if variable not in arrays:
        present = ", ".join(arrays) or "no variable"
        raise DataError(f"{path} contains {present}, but must contain {variable}, the {what}: {RESTORE}")
    values = np.squeeze(arrays[variable])
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path}: {variable}, the {what}, is not an array of numbers: {RESTORE}")
    if values.shape != (ROWS,):
        shape = " × ".join(map(str, arrays[variable].shape))
        raise DataError(
            f"{path}: {variable}, the {what}, has {shape} numbers, but AIGCIQA2023 has {ROWS:,} images: "
            f"{RESTORE}"
        )
    return values.astype(float)


def _arrays(path: Path, what: str) -> Mapping[str, np.ndarray]:
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"{path} is missing: the {what} of AIGCIQA2023 are in it; {RESTORE}")
    try:
        content = loadmat(path)
    except NotImplementedError as error:  # version 7.3 is HDF5
        raise DataError(f"{path} is a file of MATLAB 7.3: save it in MATLAB with the option -v7") from error
    except Exception as error:  # the parser of SciPy meets damage with errors of many classes
        raise DataError(
            f"{path} cannot be read as a file of MATLAB ({shortened(error)}): {RESTORE}"
        ) from error
    return {name: array for name, array in content.items() if not name.startswith("__")}


def _prompts(folder: Path) -> list[object]:
    """Return the text prompts (100,), from column C of the only workbook that has so many.

    Raises:
        DataError: There is none, or there are several that differ.
    """
    found: dict[str, list[object]] = {}
    others = []
    for path in _workbooks(folder):
        for sheet, rows in _visible_rows(path).items():
            label = f"{path.relative_to(folder)}, sheet {sheet}"
            width = max(map(len, rows), default=0)
            cells = _prompt_cells(rows)
            if cells is None:
                others.append(f"{label} has {len(rows):,} rows and {width} columns")
            else:
                found[label] = cells
    if not found:
        seen = "; ".join(others) or "there is no workbook"
        raise DataError(
            f"{folder} has no workbook (.xlsx) with the {PROMPTS} prompts of AIGCIQA2023 in column C "
            f"({seen}): put the authors' AIGCIQA2023_Prompts.xlsx there"
        )
    prompts = list(found.values())
    if any(cells != prompts[0] for cells in prompts):
        raise DataError(
            f"{folder} has several lists of {PROMPTS} prompts, which differ: {'; '.join(found)}: remove all "
            "but the authors' one"
        )
    return prompts[0]


def _workbooks(folder: Path) -> list[Path]:
    files = table_files(folder)
    if (folder / "DATA").is_dir():
        files += table_files(folder / "DATA")
    return [path for path in files if path.suffix.lower() == ".xlsx"]


def _visible_rows(path: Path) -> dict[str, list[list[object]]]:
    try:
        return visible_rows(path)
    except DataError as error:
        raise DataError(f"{error}; or {RESTORE}") from error


def _prompt_cells(rows: Sequence[Sequence[object]]) -> list[object] | None:
    """Return the cells of column C without its header; None if they are not as many as prompts."""
    if len(rows) not in (PROMPTS, PROMPTS + 1) or max(map(len, rows)) <= PROMPT_COLUMN:
        return None
    cells = []
    for row in rows[-PROMPTS:]:
        cells.append(row[PROMPT_COLUMN] if len(row) > PROMPT_COLUMN else None)
    return cells
