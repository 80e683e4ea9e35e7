"""Write the fused matrix to a file, for regressors outside this program."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish, require_suffix
from tier4k.cache.errors import TierError
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.data.features import FeatureSet

# For each format, a pattern of the names that a score column must not have.
RESERVED_NAMES = {
    ".npz": "X|name|group|generator|dataset|file|allow_pickle",
    ".parquet": r"x\d+|name|group|generator|dataset",
}


class MatrixError(TierError):
    """The file format cannot store the matrix."""


def require_matrix_suffix(path: Path) -> None:
    """Refuse a file of an unknown format.

    Raises:
        MatrixError: The name ends neither in .npz nor in .parquet.
    """
    require_suffix(path, tuple(RESERVED_NAMES), MatrixError)


def save_matrix(
    path: Path,
    features: FeatureSet,
    fused: np.ndarray,
) -> None:
    """Write fused vectors with name, prompt group, generator and scores of each row; a missing score is NaN.

    Where there are several data sets, the name of each row's is written too. Scores are as in the tables.

    Args:
        path: `.npz`: arrays `X` (N, d), `name`, `group`, `generator` and one per target, none of them
            pickled;
            `.parquet`: the same as columns, X as `x0` to `x<d-1>`.
        features: Features and scores of the rows.
        fused: Fused vectors (N, d) of the rows; vectors (N, V, d) of V crops need `.npz`.

    Raises:
        MatrixError: The format is unknown or cannot store crops, or a score column has a reserved name.
        StoreError: The file cannot be written.
    """
    require_matrix_suffix(path)
    _require_free_names(path, features.target_names)
    if path.suffix == ".parquet" and fused.ndim > 2:
        raise MatrixError(
            f"{path}: a .parquet table cannot store the {fused.shape[1]} crops of each image: pass a .npz "
            "file"
        )
    columns = {
        "name": features.name.astype(str),
        "group": features.group.astype(str),
        "generator": features.generator.astype(str),
    }
    if len(np.unique(features.dataset)) > 1:
        columns["dataset"] = features.dataset.astype(str)
    for name in features.target_names:
        columns[name] = features.scores(name)
    with explain_write_errors(path):
        publish(path, lambda temporary: _write(temporary, columns, fused))


def _require_free_names(path: Path, targets: tuple[str, ...]) -> None:
    reserved = re.compile(RESERVED_NAMES[path.suffix])
    taken_names = [name for name in targets if reserved.fullmatch(name)]
    if taken_names:
        raise MatrixError(
            f"the names {', '.join(taken_names)} are reserved in {path.suffix} files: rename these score "
            "columns"
        )


def _write(
    path: Path,
    columns: dict[str, np.ndarray],
    fused: np.ndarray,
) -> None:
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, X=fused, **columns)
        return
    names = [f"x{number}" for number in range(fused.shape[1])]
    matrix = pd.DataFrame(fused, columns=names)
    pd.concat([pd.DataFrame(columns), matrix], axis=1).to_parquet(path, index=False)
