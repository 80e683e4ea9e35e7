"""Tables written as .csv, .parquet, .xlsx or .tex."""

from pathlib import Path

import pandas as pd

from tier4k.cache.atomic import publish, publish_text, require_suffix
from tier4k.cache.store import writing
from tier4k.heads.reporting.latex import latex
from tier4k.heads.reporting.tidy import TableError

SUFFIXES = (".csv", ".parquet", ".xlsx", ".tex")


def require_table_suffix(path: Path) -> None:
    """Refuse a file whose format is not known, before any work.

    Raises:
        TableError: The name does not end in one of `SUFFIXES`.
    """
    require_suffix(path, SUFFIXES, TableError)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy table: as it is (.csv, .parquet, .xlsx), or as the LaTeX table of a paper (.tex).

    Raises:
        TableError: Another suffix.
        StoreError: The file cannot be written.
    """
    require_table_suffix(path)
    writers = {".csv": frame.to_csv, ".parquet": frame.to_parquet, ".xlsx": frame.to_excel}
    with writing(path):
        if path.suffix == ".tex":
            publish_text(path, latex(frame))
        else:
            publish(path, lambda temporary: writers[path.suffix](temporary, index=False))
