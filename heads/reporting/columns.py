"""Columns and rows of the tidy table that a reader is shown: on a terminal, in LaTeX, in labels of runs."""

import pandas as pd

from tier4k.heads.evaluation.baselines import BASELINES
from tier4k.heads.reporting.leakage import leak_mark

PAPER_METRICS = {"srcc": "SRCC", "plcc": "PLCC"}

# Columns that describe a run.
ABOUT = (
    "data",
    "method",
    "streams",
    "benchmark",
    "split",
    "image_encoder",
    "preprocessing",
    "feature",
    "stages",
    "precision",
    "crops",
    "text_encoder",
    "head",
    "recipe",
    "start",
    "seed",
    "models",
)

# Columns that are empty where no stream has images, or text.
ENCODED = ("image_encoder", "preprocessing", "feature", "stages", "crops", "text_encoder")

NONE = "none"  # what a reader is shown in an empty one of them

# Runs that are equal in these have the same test rows and the same baselines. `_with_shown_names` first gives
# different data sets of one name different names; the name of a split file contains the digest of the file.
CONTEXT = ("data", "benchmark", "split", "seed", "repeats", "seeds")

# Shown even where all runs are alike in them.
ALWAYS = ("method", "benchmark", "head")

LEAKED = ("leaked_images", "test_images", "leaked_prompts", "test_prompts")


def result_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC of every run's result.

    Returns:
        The rows of the tidy table with `is_best`, true where another run has the same test rows and none is
        better. The columns `ENCODED` and the names of benchmarks are those that a reader is shown.
    """
    rows = _with_shown_names(frame[frame["is_result"] & frame["metric"].isin(PAPER_METRICS)])
    rivals = rows.groupby([*CONTEXT, "target", "metric"])["mean"]
    is_best = (rows["mean"] == rivals.transform("max")) & (rivals.transform("size") > 1)
    has_images = rows["image_encoder"] != ""
    rows = rows.assign(
        is_best=is_best, stages=rows["stages"].mask(has_images & (rows["stages"] == ""), "all")
    )
    return rows.assign(**{column: rows[column].replace("", NONE) for column in ENCODED})


def baseline_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC of the baselines, once for all runs with the same rows and splits."""
    rows = _with_shown_names(frame[frame["metrics_of"].isin(BASELINES) & frame["metric"].isin(PAPER_METRICS)])
    rows = rows.drop_duplicates([*CONTEXT, "target", "metrics_of", "metric"])
    return rows.assign(is_best=False)


def varying_columns(rows: pd.DataFrame) -> list[str]:
    """Columns of `result_rows` that tell the runs apart, beside `ALWAYS`; `models`, and then `run`, only
    where the others do not suffice.

    A column of `ENCODED` is not one of them if runs have it or lack it, and all that have it are alike: then
    the streams tell them apart.
    """
    columns = []
    for column in (*ABOUT, "changed_options", "repeats", "seeds"):
        if column == "models":
            continue
        values = set(rows[column]) - ({NONE} if column in ENCODED else set())
        if len(values) > 1 or column in ALWAYS:
            columns.append(column)
    for column in ("models", "run"):
        is_different = len(rows[column].unique()) > 1
        if is_different and rows.duplicated([*columns, "target", "metric"]).any():
            columns.append(column)
    return columns


def column_title(column: str) -> str:
    """Title of a column for a reader."""
    if column == "changed_options":
        return "options"
    return column.replace("_", " ")


def _with_shown_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a mark in the names of benchmarks, and with different names for different data.

    The mark is the size of the leak, or says that the test rows are the selection parts of a search.
    """
    versions = rows.groupby(["data", "benchmark"])["data_digest"].transform("nunique")
    named = rows["data"] + " " + rows["data_digest"].str[:8]
    benchmarks = []
    for benchmark, split, *numbers in rows[["benchmark", "split", *LEAKED]].itertuples(index=False):
        selection = "selection parts" if split.endswith("-selection") else ""
        mark = ", ".join(filter(None, (selection, leak_mark(*numbers))))
        benchmarks.append(f"{benchmark} ({mark})" if mark else benchmark)
    return rows.assign(data=rows["data"].where(versions == 1, named), benchmark=benchmarks)
