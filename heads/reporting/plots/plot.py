"""`plot`: a figure of runs for a paper."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from tier4k.cache.atomic import require_suffix
from tier4k.heads.regressors.options import OPTION_OF, cli_name
from tier4k.heads.reporting.ablation import Ablation, ablation_of
from tier4k.heads.reporting.choices import ComparedMetric, PlotKind, PlotWidth
from tier4k.heads.reporting.comparable import SETTINGS, values_of
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.reporting.report_run import ReportRun, order_of_targets
from tier4k.heads.reporting.run_name import differing_parts
from tier4k.heads.reporting.run_settings import option_value
from tier4k.heads.results.run import Runs, run_folders

if TYPE_CHECKING:
    from tier4k.heads.reporting.plots.style import Drawing

SUFFIXES = (".pdf", ".svg", ".png")

# Kinds of figures that an option has an effect on.
KINDS_OF = {
    "setting": ("ablation",),
    "reference": ("ablation",),
    "metric": ("ablation", "generators"),
    "repeat": ("scatter",),
}


@dataclass(frozen=True)
class WrittenPlot:
    """A figure on disk.

    Attributes:
        path: The file.
        kind: What the figure shows.
        inches: Width and height.
        caption: Sentences about points, intervals and tests that the caption of a paper needs.
    """

    path: Path
    kind: PlotKind
    inches: tuple[float, float]
    caption: tuple[str, ...]


def plot(
    runs: Runs,
    output: str | Path,
    kind: PlotKind | None = None,
    targets: Sequence[str] = (),
    width: PlotWidth = "single",
    setting: str | None = None,
    reference: str | None = None,
    metric: ComparedMetric | None = None,
    repeat: int | None = None,
) -> WrittenPlot:
    """Draw a figure of runs for a paper and write it to a file.

    Equal runs give equal bytes (with one version of matplotlib).

    Args:
        runs: Runs, their folders or digits, or a folder that contains runs. Folders that differ in their
            targets alone count as one run.
        output: File to write: .pdf, .svg or .png.
        kind: "scatter": predictions against scores, with the fitted logistic; "generators": the metric within
            the images of each generator; "ablation": bars of runs that differ in one setting. None: scatter
            for one run, ablation for several.
        targets: Names of the targets to draw; empty for all.
        width: "single" (3.3 inches, one column of a paper) or "double" (6.9 inches).
        setting: The setting of an ablation, such as "head", "feature", "streams" or "image_encoder"; None if
            the runs differ in one alone.
        reference: Value of the setting that the others are compared with, such as "pooled"; None for the
            usual value, or else the first of the runs.
        metric: "srcc" (None), "krcc", "plcc" or, for an ablation, "rmse".
        repeat: The repeat of a scatter, from 0; None for the one whose SRCC is nearest to the mean.

    Returns:
        The file, with the sentences that its caption needs.

    Raises:
        ReportError: matplotlib is not installed; the suffix, kind, width or another argument is unknown; the
            runs do not suit the kind, or their test rows differ.
        ResultError: A run cannot be read.
        StoreError: The file cannot be written.
    """
    path = Path(output)
    require_suffix(path, SUFFIXES, ReportError)
    require_matplotlib()
    _require_known("kind", kind, PlotKind)
    _require_known("width", width, PlotWidth)
    _require_known("metric", metric, ComparedMetric)
    read = read_runs(run_folders(runs))
    kind = kind or ("scatter" if len(read) == 1 else "ablation")
    _require_suitable(kind, setting=setting, reference=reference, metric=metric, repeat=repeat)
    shown = _targets(read, targets)
    from tier4k.heads.reporting.plots.figure_file import write_figure
    from tier4k.heads.reporting.plots.style import paper_style

    with paper_style():
        drawing = _draw(kind, read, shown, width, setting, reference, metric or "srcc", repeat)
        write_figure(drawing.figure, path)
    inches = tuple(map(float, drawing.figure.get_size_inches()))
    return WrittenPlot(path, kind, (inches[0], inches[1]), drawing.caption)


def require_matplotlib() -> None:
    """Refuse to draw without matplotlib.

    Raises:
        ReportError: The package is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ReportError("figures need the package matplotlib: run pip install 'tier4k[plot]'")


def _draw(
    kind: PlotKind,
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    width: PlotWidth,
    setting: str | None,
    reference: str | None,
    metric: ComparedMetric,
    repeat: int | None,
) -> "Drawing":
    if kind == "scatter":
        from tier4k.heads.reporting.plots.scatter import draw_scatter

        return draw_scatter(runs, targets, width, repeat)
    if kind == "generators":
        from tier4k.heads.reporting.plots.generators import draw_generators

        return draw_generators(runs, targets, width, metric)
    from tier4k.heads.reporting.plots.ablation import draw_ablation

    found = find_ablation(runs, targets, setting, reference, metric)
    return draw_ablation(found, width)


def find_ablation(
    runs: Sequence[ReportRun],
    targets: Sequence[str],
    setting: str | None = None,
    reference: str | None = None,
    metric: ComparedMetric = "srcc",
) -> Ablation:
    """Return the groups of runs that differ in one setting; arguments as for `plot`.

    Raises:
        ReportError: No runs differ in one setting alone, or in several settings and none is named; or no run
            has the reference.
    """
    if len(runs) < 2:
        raise ReportError(
            "an ablation needs two runs or more that differ in one setting alone, and there is one run: pass "
            "more runs, or --kind scatter"
        )
    values = values_of(runs, targets)
    key = _setting(runs, setting, list(values))
    if reference is not None:
        reference = _shown_value(runs, key, reference, values[key])
    return ablation_of(runs, key, targets, metric, reference)


def _shown_value(
    runs: Sequence[ReportRun],
    setting: str,
    reference: str,
    values: Sequence[str],
) -> str:
    """Return a value as figures show it, given as they or as options and files write it: "NR" for "nr"."""
    if reference in values:
        return reference
    shown = set()
    for run in runs:
        value = getattr(run.name, setting)
        if value in values and option_value(run.settings, setting) == reference:
            shown.add(value)
    if len(shown) != 1:
        known = " or ".join(f'"{value}"' for value in values)
        found = "several values begin with" if shown else "no run has"
        raise ReportError(f"{found} {SETTINGS[setting]} {reference!r}: pass --reference {known}")
    return shown.pop()


def _setting(
    runs: Sequence[ReportRun],
    setting: str | None,
    found: Sequence[str],
) -> str:
    """Return the setting of the ablation, given those in which runs differ alone."""
    if not found:
        different = differing_parts([run.name for run in runs], tuple(SETTINGS))
        titles = ", ".join(SETTINGS[part] for part in different)
        raise ReportError(
            f"no two runs differ in one setting alone on a common target: together they differ in {titles}. "
            "Pass runs that differ in one of these, or --kind generators"
        )
    options = " or ".join(f"--setting {_option(one)}" for one in found)
    if setting is None:
        if len(found) > 1:
            raise ReportError(f"bars show one setting, and the runs differ in several: pass {options}")
        return found[0]
    key = setting.replace("-", "_")
    key = OPTION_OF.get(key, key)
    if key not in SETTINGS:
        raise ReportError(f"there is no setting {setting!r}: pass {options}")
    if key not in found:
        raise ReportError(f"no two runs differ in {setting!r} alone: pass {options}")
    return key


def _option(setting: str) -> str:
    return cli_name(setting).replace("_", "-")


def _targets(runs: Sequence[ReportRun], wanted: Sequence[str]) -> list[str]:
    """Return the targets to draw, in the order of the runs."""
    known = order_of_targets(runs)
    for target in wanted:
        if target not in known:
            raise ReportError(f"the runs have no target {target!r}: pass --target {' or '.join(known)}")
    return [target for target in known if not wanted or target in wanted]


def _require_known(
    name: str,
    value: str | None,
    choices: object,
) -> None:
    known = get_args(choices)
    if value is not None and value not in known:
        raise ReportError(f"there is no {name} {value!r}: use {', '.join(known)}")


def _require_suitable(kind: PlotKind, **options: object) -> None:
    """Refuse options that have no effect on a kind."""
    for name, value in options.items():
        if value is not None and kind not in KINDS_OF[name]:
            kinds = " or ".join(f"--kind {one}" for one in KINDS_OF[name])
            raise ReportError(f"--{name} has no effect on --kind {kind}: leave it out, or pass {kinds}")
    if kind == "generators" and options["metric"] == "rmse":
        raise ReportError("--kind generators has no rmse: pass --metric srcc, krcc or plcc")
