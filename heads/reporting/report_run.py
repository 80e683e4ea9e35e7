"""A run as a report and a figure show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tier4k.heads.reporting.run_name import RunName
from tier4k.heads.reporting.run_settings import RunSettings
from tier4k.heads.results.results import Results


@dataclass(frozen=True)
class RunFolder:
    """A folder of runs/ with its settings and results."""

    path: Path
    settings: RunSettings
    results: Results


@dataclass(frozen=True)
class ReportRun:
    """A run for a reader: one folder, or several that differ in their targets alone, such as a sweep's.

    Attributes:
        letter: A, B, … as in `tier compare`.
        folders: The folders of the run; no two have a target in common.
        settings: Settings of the first folder.
        results: Results of all folders together.
        predictions: Lines of predictions.csv of all folders.
        curves: Lines of curves.csv of all folders; empty where the heads have no epochs.
        name: The settings that a reader sees.
        label: The letter and the settings that tell the run apart from the others.
        short_label: The label without the letter and the data set.
    """

    letter: str
    folders: tuple[RunFolder, ...]
    settings: RunSettings
    results: Results
    predictions: pd.DataFrame
    curves: pd.DataFrame
    name: RunName
    label: str
    short_label: str

    @property
    def leaks(self) -> bool:
        """Whether prompts or images of the test rows were seen in training."""
        return self.results.leaks

    def folder(self, target: str) -> Path:
        """Folder with the results of a target.

        Raises:
            KeyError: The run has no such target.
        """
        for folder in self.folders:
            if target in folder.results.summaries:
                return folder.path
        raise KeyError(target)


def order_of_targets(runs: Sequence[RunFolder | ReportRun]) -> list[str]:
    """Order targets as in the runs with most targets; targets of separate runs by name."""
    lists = [list(run.results.summaries) for run in runs]
    order: dict[str, None] = {}
    for targets in sorted(lists, key=lambda names: (-len(names), names[0])):
        order.update(dict.fromkeys(targets))
    return list(order)
