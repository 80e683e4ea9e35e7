"""Panels of ablations: runs that differ only in their data set, streams or feature, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.heads.reporting.ablation import Ablation, ablations
from tier4k.heads.reporting.report_run import ReportRun

SHOWN_SETTINGS = ("data", "streams", "feature")


@dataclass(frozen=True)
class Panels:
    """The panels of one setting: one for each target and combination of the other settings.

    Attributes:
        ablation: The runs with their values and differences.
        limits: Lowest and highest SRCC of all panels, with intervals, so that panels have one scale.
    """

    ablation: Ablation
    limits: tuple[float, float]


def ablation_panels(runs: Sequence[ReportRun]) -> list[Panels]:
    """Return the panels of each setting in `SHOWN_SETTINGS` in which runs differ alone."""
    return [Panels(one, _limits(one)) for one in ablations(runs, settings=SHOWN_SETTINGS)]


def _limits(ablation: Ablation) -> tuple[float, float]:
    values = []
    for group in ablation.groups:
        for member in group.members:
            values += [member.summary.mean, *member.summary.bounds]
    finite = [value for value in values if np.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)
