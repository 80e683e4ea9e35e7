"""The tables of the report as LaTeX, for the buttons that copy them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tier4k.heads.metrics.levels import LEVEL_METRICS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.reporting.ablation import Ablation, ablation_frame
from tier4k.heads.reporting.factors import FactorComparison
from tier4k.heads.reporting.html.detail import PartMetrics
from tier4k.heads.reporting.html.runs import TableLine, line_title
from tier4k.heads.reporting.labels import LABELS
from tier4k.heads.reporting.latex import latex, plain_table
from tier4k.heads.reporting.parts import TITLES
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.tidy import tidy

Cells = list[str | float]


def latex_tables(
    runs: Sequence[ReportRun],
    lines: Sequence[TableLine],
    comparisons: Sequence[FactorComparison],
    ablations: Sequence[Ablation],
    details: Iterable[Mapping[str, Any]],
) -> dict[str, str]:
    """Return every table of the page as LaTeX, by the key that its button has.

    Args:
        runs: The runs of the report.
        lines: Lines of the ablation table.
        comparisons: Comparisons of runs that differ in one factor alone.
        ablations: The ablations that have panels.
        details: The parts of the page about one run and target.
    """
    folders = [folder.path for run in runs for folder in run.folders]
    tables = {"ablation": latex(tidy(folders)), "levels": _levels(runs, lines)}
    for comparison in comparisons:
        tables[f"factor {comparison.factor}"] = _differences(comparison)
    for ablation in ablations:
        tables[f"panels {ablation.setting}"] = _panels(ablation)
    for detail in details:
        for by, parts in detail["parts"].items():
            tables[f"part {detail['run'].letter} {detail['target']} {by}"] = _breakdown(by, parts)
    return tables


def _levels(runs: Sequence[ReportRun], lines: Sequence[TableLine]) -> str:
    by_letter = {run.letter: run for run in runs}
    cells: list[Cells] = []
    for line in lines:
        if line.baseline == RATERS:
            continue
        values = [line.metrics[metric].mean for metric in LEVEL_METRICS]
        cells.append([line.run or "–", line.target, line_title(line, by_letter), *values])
    return plain_table(["run", "target", "setting", *(LABELS[metric] for metric in LEVEL_METRICS)], cells)


def _differences(comparison: FactorComparison) -> str:
    cells: list[Cells] = []
    for pair in comparison.pairs:
        found = pair.difference
        values = [getattr(run.name, comparison.factor) or "none" for run in (pair.first, pair.second)]
        numbers = [*found.means, found.difference, *found.interval, found.p_holm]
        cells.append([comparison.setting(pair), found.target, *values, *numbers])
    titles = ["setting", "target", "first", "second", "SRCC of first", "SRCC of second"]
    return plain_table([*titles, "difference", "low", "high", "p (Holm)"], cells)


def _panels(ablation: Ablation) -> str:
    frame = ablation_frame(ablation)
    texts = ["group", "target", "value", "reference"]
    numbers = ["mean", "low", "high", "difference", "difference_low", "difference_high", "p_holm"]
    cells: list[Cells] = [list(line) for line in frame[[*texts, *numbers]].itertuples(index=False)]
    titles = ["setting", "target", ablation.title, "reference", "SRCC", "low", "high"]
    return plain_table([*titles, "difference", "low", "high", "p (Holm)"], cells)


def _breakdown(by: str, parts: Sequence[PartMetrics]) -> str:
    cells: list[Cells] = []
    for part in parts:
        means = [mean for mean, _ in part.metrics.values()]
        cells.append([part.part, str(part.images), str(part.rows), *means, part.error, part.absolute_error])
    return plain_table([by, "images", "rows", *TITLES, "mean error", "mean absolute error"], cells)
