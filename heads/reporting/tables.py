"""Files of tidy tables: .csv, .parquet, .xlsx, and .tex for a paper."""

from pathlib import Path

import pandas as pd

from tier4k.cache.atomic import publish, publish_text, require_suffix
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.latex import latex

FRAME_SUFFIXES = (".csv", ".parquet", ".xlsx")

SUFFIXES = (*FRAME_SUFFIXES, ".tex")


def require_table_suffix(path: Path) -> None:
    """Refuse a file of an unknown format, before its table is computed.

    Raises:
        ReportError: The name does not end in one of `SUFFIXES`.
    """
    require_suffix(path, SUFFIXES, ReportError)


def require_frame_suffix(path: Path) -> None:
    """Refuse a file of a format that holds no whole table, such as .tex.

    Raises:
        ReportError: The name does not end in one of `FRAME_SUFFIXES`.
    """
    require_suffix(path, FRAME_SUFFIXES, ReportError)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write the whole tidy table (.csv, .parquet, .xlsx), or a paper's LaTeX table made from it (.tex).

    Raises:
        ReportError: The name does not end in one of `SUFFIXES`.
        StoreError: The file cannot be written.
    """
    require_table_suffix(path)
    with explain_write_errors(path):
        if path.suffix == ".tex":
            publish_text(path, latex(frame))
        else:
            publish(path, lambda temporary: _write(frame, temporary, path.suffix))


def _write(
    frame: pd.DataFrame,
    path: Path,
    suffix: str,
) -> None:
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_excel(path, index=False)
