"""The precision of mean opinion scores: standard deviation and number of their ratings, reliability."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.problems import ProblemList
from tier4k.extract.datasets.tables.cells import empty_cells, numbers, with_numbers

RATERS = "raters"  # canonical column with the number of ratings of each row's scores

RATERS_COLUMNS = ("raters", "n_ratings")

FEWEST_RATERS = 2  # a single rating has no standard deviation

SPREAD_WORDS = ("std", "sd", "stdev", "stddev")  # in the names of columns with standard deviations

SPREAD_OF = "standard deviation of "  # the canonical column of a target's ratings begins so

ERROR_OF = "standard error of "  # the manifest's column of a target's standard errors begins so


def is_about_ratings(column: str) -> bool:
    """Return whether a column has the number of ratings or a reserved name, so that it is not a score."""
    return column.lower() in RATERS_COLUMNS or column.startswith((SPREAD_OF, ERROR_OF))


def spread_columns(targets: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Find the column with the standard deviation of the ratings of each target, such as std_quality.

    For a target `quality`, `mos_quality` or `MOS_quality` these are `std_quality` and `quality_std`, with or
    without the `mos_`, in upper or lower case; for a target `MOS` also `std`. Each of `SPREAD_WORDS` may
    stand for `std`; earlier words are preferred.

    Returns:
        {target: column}, for the targets that have such a column.
    """
    by_lower = {column.lower(): column for column in columns}
    found = {}
    for target in targets:
        for name in _spread_spellings(target.lower()):
            if name in by_lower and by_lower[name] != target:
                found[target] = by_lower[name]
                break
    return found


def _spread_spellings(target: str) -> Iterator[str]:
    quantity = target.removeprefix("mos").strip("_")
    for word in SPREAD_WORDS:
        for name in (target, quantity):
            if name:
                yield f"{word}_{name}"
                yield f"{name}_{word}"
        if not quantity:
            yield word


def ratings(
    frame: pd.DataFrame,
    targets: Sequence[str],
    raters: int | None,
) -> pd.DataFrame:
    """Return the canonical columns with standard deviations and numbers of ratings that a table has.

    Args:
        frame: The table as read.
        targets: Names of its score columns.
        raters: Number of ratings of every score; None takes it from a column in `RATERS_COLUMNS`.

    Returns:
        A column `SPREAD_OF` for each target with a standard deviation, and `RATERS` where it is known.

    Raises:
        DataError: `raters` is given, but the table has such a column itself, or has no standard deviations.
    """
    spreads = spread_columns(targets, frame.columns)
    canonical = pd.DataFrame(index=frame.index)
    for target, column in spreads.items():
        canonical[SPREAD_OF + target] = with_numbers(frame[column])
    own_column = next((column for column in frame.columns if column.lower() in RATERS_COLUMNS), None)
    if raters is not None:
        _require_use(raters, spreads, own_column, targets)
        canonical[RATERS] = raters
    elif own_column is not None:
        canonical[RATERS] = frame[own_column]
    return canonical


def _require_use(
    raters: int,
    spreads: Collection[str],
    own_column: str | None,
    targets: Sequence[str],
) -> None:
    if own_column is not None:
        raise DataError(
            f"--raters {raters}: the table has the number of ratings in its column {own_column!r}: leave out "
            "--raters, or remove the column"
        )
    if not spreads:
        examples = ", ".join(f"std_{target}" for target in targets)
        raise DataError(
            f"--raters {raters}: the table has no standard deviations of the ratings, which the raters' "
            f"ceiling needs: add a column {examples or 'std_SCORE'}, or leave out --raters"
        )


def standard_errors(
    frame: pd.DataFrame,
    targets: Sequence[str],
    problems: ProblemList,
) -> pd.DataFrame:
    """Return the standard error of each row's scores, where the ratings are known.

    The error of the mean of n independent ratings with standard deviation s is s / sqrt(n), with s^2 the
    unbiased estimate, which divides by n - 1. Cells with other contents than such numbers are problems. Empty
    cells, and cells of a single rating, give an unknown error.

    Args:
        frame: The canonical table with the columns of `ratings`.
        targets: Names of the score columns.
        problems: Problems of the table, which are added to.

    Returns:
        A column `ERROR_OF` for each target with a standard deviation, NaN where the error is unknown; no
        columns where the number of ratings is unknown.
    """
    errors = pd.DataFrame(index=frame.index)
    spread_targets = [target for target in targets if SPREAD_OF + target in frame]
    if RATERS not in frame or not spread_targets:
        return errors
    raters = _numbers(frame, RATERS, 1, problems)
    root = np.sqrt(raters.where(raters >= FEWEST_RATERS))
    for target in spread_targets:
        errors[ERROR_OF + target] = _numbers(frame, SPREAD_OF + target, 0, problems) / root
    return errors


def _numbers(
    frame: pd.DataFrame,
    column: str,
    least: float,
    problems: ProblemList,
) -> pd.Series:
    """Return the numbers in a column, NaN for an empty cell; other cells below `least` are problems."""
    cells = frame[column]
    values = numbers(cells)
    is_valid = np.isfinite(values) & (values >= least)
    is_invalid = ~is_valid & ~empty_cells(cells)
    for row, value in cells[is_invalid].items():
        problems.add(int(str(row)), f"{column} is {value!r}, not a number of {least} or more")
    return values.where(is_valid)


def reliability(scores: np.ndarray, errors: np.ndarray) -> float:
    """Return the reliability of mean opinion scores: the share of their variance that is not rating error.

    It is 1 - mean(e^2) / var(scores), the share of true-score variance of classical test theory (Lord &
    Novick, Statistical Theories of Mental Test Scores, 1968): the squared correlation of the scores with the
    mean opinion of infinitely many such raters.

    Args:
        scores: Scores (N,).
        errors: Standard errors (N,); rows without an error or score are left out.

    Returns:
        At most 1; negative where the scores vary less than their errors would let them; NaN for fewer than 2
        rows and for equal scores.
    """
    is_known = np.isfinite(errors) & np.isfinite(scores)
    known = scores[is_known]
    if len(known) < 2 or np.ptp(known) == 0:
        return float("nan")
    return float(1 - np.mean(errors[is_known] ** 2) / known.var(ddof=1))
