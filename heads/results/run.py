"""A stored run as one object."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.all_metrics import METRICS
from tier4k.heads.results.find_run import find_run, find_runs
from tier4k.heads.results.read import read_config, read_predictions
from tier4k.heads.results.results import Results
from tier4k.heads.results.run_format import ResultError


@dataclass(frozen=True, repr=False)
class Run:
    """A stored run.

    Attributes:
        folder: Folder of the run.
        results: Results of the run, the typed content of results.json.
        seconds: Duration of the fits.
        found: Whether the run was stored before this command.
    """

    folder: Path
    results: Results
    seconds: float
    found: bool

    def __repr__(self) -> str:
        values = []
        for target, selections in self.results.summaries.items():
            srcc = selections[self.results.headline]["srcc"].mean
            values.append(f"{target} {srcc:.3f}")
        return f"<Run {self.results.id} in {self.folder.parent}: SRCC of {', '.join(values)}>"

    @property
    def predictions(self) -> pd.DataFrame:
        """The predictions of all test rows, as in predictions.csv: one line for each repeat, target and row.

        The columns are name, generator, group, benchmark and target (texts), repeat (int, from 0), truth and
        prediction (float, in the units of the scores; NaN where there is none). Runs on several data sets
        also have the column dataset.

        Raises:
            ResultError: The file is missing or damaged.
        """
        return read_predictions(self.folder)

    def summary(self, target: str, metric: str = "srcc") -> Summary:
        """Return one metric of the run's result over all repeats: its `values`, `mean`, `sd`, `interval`, ….

        Args:
            target: Name of a target.
            metric: "srcc", "krcc", "plcc" (raw), "plcc_logistic", "rmse", or another of `METRICS`.

        Raises:
            ResultError: The run has no such target or metric.
        """
        metrics = self.results.summaries.get(target, {}).get(self.results.headline, {})
        if metric not in metrics:
            targets = ", ".join(self.results.summaries)
            known = f"its targets are {targets}, its metrics {', '.join(METRICS)}"
            raise ResultError(f"{self.folder} has no {metric} of {target!r}: {known}")
        return metrics[metric]


def run_folder(run: str | Path | Run) -> Path:
    """Return the folder of a run, given the run, the folder or the run's digits (see `find_run`)."""
    return run.folder if isinstance(run, Run) else find_run(run)


Runs = str | Path | Run | Sequence[str | Path | Run]
"""A run or several: each is a run, or what `find_run` takes; a folder that contains runs stands for them."""


def run_folders(runs: Runs) -> list[Path]:
    """Return the folders of runs."""
    folders: list[Path] = []
    for run in [runs] if isinstance(runs, str | Path | Run) else runs:
        folders += [run.folder] if isinstance(run, Run) else find_runs([run])
    return folders


def read_run(run: str | Path, found: bool = True) -> Run:
    """Read a stored run.

    Args:
        run: Folder of the run, or its ten digits, such as "8d16a3bb9d": they are looked up in the folder
            "runs", those of "old/8d16a3bb9d" in the folder "old". The first four or more suffice if no other
            run there has them.
        found: Whether the run was stored before this command.

    Raises:
        ResultError: There is no such run, or it cannot be read.
    """
    path = find_run(run)
    return Run(path, Results.read(path), read_config(path).environment.seconds, found)
