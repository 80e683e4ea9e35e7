"""The fused matrix as a file, for models of the user's own."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.atomic import publish, require_suffix
from tier4k.cache.errors import TierError
from tier4k.cache.store import writing
from tier4k.heads.data.features import FeatureSet

OWN_NAMES = {".npz": "X|name|group|generator|file|allow_pickle", ".parquet": r"x\d+|name|group|generator"}


class MatrixError(TierError):
    """A file that the matrix cannot be written to."""


def require_matrix_suffix(path: Path) -> None:
    """Refuse a file whose format is not known.

    Raises:
        MatrixError: The name does not end in one of `OWN_NAMES`.
    """
    require_suffix(path, tuple(OWN_NAMES), MatrixError)


def save_matrix(path: Path, features: FeatureSet, fused: np.ndarray) -> None:
    """Write fused vectors (N, d) with what is known of each row.

    Args:
        path: `.npz`: arrays `X` (N, d), `name`, `group`, `generator` and one per target, none of them pickled;
            `.parquet`: the same as columns, X as `x0` to `x<d-1>`.
        features: The rows.
        fused: Their fused vectors, (N, V, d) with views only in `.npz`.

    Raises:
        MatrixError: Another suffix, or a score column with a name that the file uses itself.
        StoreError: The file cannot be written.
    """
    require_matrix_suffix(path)
    taken = [name for name in features.target_names if re.fullmatch(OWN_NAMES[path.suffix], name)]
    if taken:
        raise MatrixError(
            f"{path.suffix} files use the names {', '.join(taken)} themselves: rename these score columns"
        )
    if path.suffix == ".parquet" and fused.ndim > 2:
        raise MatrixError(
            f"{path}: a table has no room for the {fused.shape[1]} views of each picture: give a .npz file"
        )
    columns = {name: getattr(features, name).astype(str) for name in ("name", "group", "generator")}
    columns |= dict(zip(features.target_names, features.targets.T, strict=True))
    with writing(path):
        publish(path, lambda temporary: _write(temporary, columns, fused))


def _write(path: Path, columns: dict[str, np.ndarray], fused: np.ndarray) -> None:
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, X=fused, **columns)
    else:
        matrix = pd.DataFrame(fused, columns=[f"x{number}" for number in range(fused.shape[1])])
        pd.concat([pd.DataFrame(columns), matrix], axis=1).to_parquet(path, index=False)
