"""EvalMuse-40K in its authors' form: a list of objects, each with all ratings of its image."""

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.ratings import FEWEST_RATERS
from tier4k.extract.datasets.tables.part import TablePart
from tier4k.extract.datasets.tables.read import read_first_part

LIST = "train_list.json"

KEYS = ("img_path", "prompt", "total_score")

RATED = ("total_score", "std_total_score", "raters")

RESTORE = "restore it from the authors' download, or select another layout with --layout"

LARGEST_RATING = 1e6  # a rating is between 1 and 5; integers of JSON may be larger than any float

HEAD_BYTES = 1 << 16  # the first object is shorter

NOT_SCORES = {"element_score": "it has texts, the ratings of the elements of each prompt"}


def is_evalmuse(data: Path) -> bool:
    """Return whether DATA is, or contains, a `train_list.json` whose first object has the authors' keys."""
    path = _list(data)
    if path.name != LIST or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return all(f'"{key}"'.encode() in head for key in KEYS)


def image_folder(root: Path, names: pd.Series) -> Path:
    """Return the folder `images` of the authors' archive, or the data folder if the images are there."""
    has_first = len(names) > 0 and (root / names.iloc[0]).is_file()
    return root if has_first else root / "images"


def read_evalmuse(data: Path) -> list[TablePart]:
    """Read the rows with the mean rating `total_score`, `std_total_score`, `raters` and `generator`.

    The standard deviation divides by n - 1. A cell that is no list of numbers stays as it is, so that its row
    is reported. The generator is the folder of the image.

    Args:
        data: The list, or its folder.

    Raises:
        DataError: The list is missing, damaged, or its objects lack a key.
    """
    path = _list(data)
    if not path.is_file():
        raise DataError(f"{path} is missing: it is the table of EvalMuse-40K; restore it from the download")
    table = read_first_part(path, KEYS, RESTORE)
    frame = table.frame
    rated = [_rated(cell) for cell in frame["total_score"]]
    ratings = pd.DataFrame(rated, frame.index, list(RATED))
    frame = frame.assign(**ratings, generator=frame["img_path"].map(_generator))
    return [replace(table, frame=frame)]


def _list(data: Path) -> Path:
    return data / LIST if data.is_dir() else data


def _rated(cell: object) -> tuple[object, float, float]:
    """Return mean, standard deviation and number of ratings; what is no list of numbers stays as it is."""
    if not isinstance(cell, list):
        return cell, np.nan, np.nan
    if not all(map(_is_rating, cell)):
        return json.dumps(cell), np.nan, np.nan
    if not cell:
        return np.nan, np.nan, np.nan
    ratings = np.array(cell, float)
    spread = float(ratings.std(ddof=1)) if len(cell) >= FEWEST_RATERS else np.nan
    return float(ratings.mean()), spread, len(cell)


def _is_rating(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_RATING


def _generator(cell: object) -> str:
    """Return the first folder of a path such as SDXL-Turbo/00110.png."""
    folders = PurePosixPath(str(cell)).parts[:-1]
    return folders[0] if folders else ""
