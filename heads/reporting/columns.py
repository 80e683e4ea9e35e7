"""Columns and rows of the tidy table that a reader is shown: on a terminal, in LaTeX, in labels of runs."""

import pandas as pd

from tier4k.heads.evaluation.baselines import BASELINES

PAPER_METRICS = {"srcc": "SRCC", "plcc": "PLCC"}

# Columns that describe a run.
ABOUT = (
    "data",
    "method",
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
)

# Runs that are alike in these have the same baselines.
CONTEXT = ("data", "benchmark", "split", "seed", "repeats")

# Shown even where all runs are alike in them.
ALWAYS = ("method", "benchmark", "head")

SAME_ROWS = ["data", "benchmark", "split", "target", "metric"]


def result_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC of every run's result.

    Returns:
        The rows of the tidy table with `is_best`, true where no run on the same rows is better; `stages` and
        leaking benchmarks are in words.
    """
    rows = frame[frame["is_result"] & frame["metric"].isin(PAPER_METRICS)]
    best = rows.groupby(SAME_ROWS)["mean"].transform("max")
    stages = rows["stages"].replace("", "all")
    return _with_marks(rows.assign(is_best=rows["mean"] == best, stages=stages))


def baseline_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC of the baselines, once for all runs with the same rows and splits."""
    rows = frame[frame["metrics_of"].isin(BASELINES) & frame["metric"].isin(PAPER_METRICS)]
    rows = rows.drop_duplicates([*CONTEXT, "target", "metrics_of", "metric"])
    return _with_marks(rows.assign(is_best=False))


def varying_columns(rows: pd.DataFrame) -> list[str]:
    """Columns of `result_rows` that tell the runs apart, beside `ALWAYS`; `run` where they do not suffice."""
    columns = []
    for column in (*ABOUT, "changed_options", "repeats"):
        varies = len(rows[column].unique()) > 1
        if varies or column in ALWAYS:
            columns.append(column)
    if rows.duplicated([*columns, "target", "metric"]).any():
        columns.append("run")
    return columns


def column_title(column: str) -> str:
    """Title of a column for a reader."""
    if column == "changed_options":
        return "options"
    return column.replace("_", " ")


def _with_marks(rows: pd.DataFrame) -> pd.DataFrame:
    leaks = rows["leaks"].map({True: " (leaks)", False: ""})
    # Candidates of a search are evaluated on training rows that were cut out for the choice.
    is_candidate = rows["split"].str.endswith("-selection")
    marks = leaks + is_candidate.map({True: " (selection parts)", False: ""})
    return rows.assign(benchmark=rows["benchmark"] + marks)
