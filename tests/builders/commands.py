"""Commands as tests call them, and the files that they write."""

from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from tier4k import cli

ENCODERS = ["--image-encoder", "resnet18", "--text-encoder", "bert-base-uncased"]

DATA = Path("Dataset/PKU-AIGIQA-4K")

PACKAGE_FOLDER = Path(cli.__file__).absolute().parent.parent
"""Folder on the module search path that holds the package, for processes of their own."""


def tier(*arguments: str) -> tuple[int, str]:
    """Run a command in this process, and return its exit code and its output."""
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def succeed(*arguments: str) -> str:
    """Run a command that must succeed, and return its output."""
    code, output = tier(*arguments)
    assert code == 0, output
    return output


def on_one_line(output: str) -> str:
    """Return an output on one line, without the frame of an error."""
    return " ".join(output.replace("│", " ").split())


def arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .npz file by name."""
    with np.load(path) as file:
        return dict(file)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Return the table that `tier predict -o FILE.csv` wrote."""
    return pd.read_csv(path, keep_default_na=True)


def assert_scores_are(scores: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare scores of `read_scores` with rows of predictions.csv; each of these rows must have a score."""
    both = expected.merge(scores, on=["name", "target"])
    assert len(both) == len(expected) > 0
    np.testing.assert_allclose(both["score"], both["prediction"], atol=1e-5)
