"""`report`: one page with the results of runs, which opens anywhere without a network."""

import base64
import gzip
import math
import re
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tier4k.cache.atomic import publish_text
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.progress import Progress, no_progress
from tier4k.extract.pipeline.versions import library_version
from tier4k.heads.metrics.levels import LEVEL_METRICS
from tier4k.heads.metrics.raters import RATERS
from tier4k.heads.reporting.comparable import comparable_groups
from tier4k.heads.reporting.comparison import SIGNIFICANT
from tier4k.heads.reporting.errors import ReportError
from tier4k.heads.reporting.factors import factor_comparisons
from tier4k.heads.reporting.html.detail import (
    LargeError,
    by_part,
    in_units,
    largest_errors,
    parts_of,
    target_rows,
)
from tier4k.heads.reporting.html.evidence import conclusions
from tier4k.heads.reporting.html.latex_tables import latex_tables
from tier4k.heads.reporting.html.page_data import page_data, script_json
from tier4k.heads.reporting.html.panels import ablation_panels
from tier4k.heads.reporting.html.reproduce import reproduction
from tier4k.heads.reporting.html.runs import (
    LOWER_IS_BETTER,
    ablation_lines,
    letter_ranges,
    line_title,
    lines_by_data,
)
from tier4k.heads.reporting.html.thumbnails import (
    DEFAULT_IMAGES,
    SIDE,
    Thumbnails,
    find_images,
    make_thumbnails,
    test_images,
)
from tier4k.heads.reporting.html.title import report_title
from tier4k.heads.reporting.labels import LABELS, SHOWN_METRICS, label
from tier4k.heads.reporting.parts import TITLES
from tier4k.heads.reporting.read_runs import read_runs
from tier4k.heads.reporting.report_run import ReportRun
from tier4k.heads.reporting.run_name import FACTORS, USUAL
from tier4k.heads.reporting.terminal.notes import ESTIMAND, interval_lines, leakage, notes
from tier4k.heads.results.run import Runs, run_folders

TEMPLATES = Path(__file__).parent / "templates"

RESULT_OF = {
    "best_validation": "that of the best validation epoch",
    "last": "that of the last epoch",
    "fit": "that of the one fit, as the head has no epochs",
    "zero_shot": "that of zero-shot scores, without a fitted head",
    "elsewhere": "that of heads that were fitted in another run",
}

MANY = 24  # a table with more comparisons is folded

# The images with the largest errors, by letter of the run and target.
Errors = Mapping[str, Mapping[str, list[LargeError]]]


@dataclass(frozen=True)
class Written:
    """A report on disk: size in bytes, number of thumbnails, and number of all test images of its runs."""

    path: Path
    size: int
    images: int
    test_images: int


def write_report(
    runs: Runs,
    output: str | Path,
    data: Sequence[str | Path] = (),
    images: int = DEFAULT_IMAGES,
    finished: Progress = no_progress,
) -> Written:
    """Write the report of runs as one HTML file, whole or not at all.

    Args:
        runs: Runs, their folders or digits, as for `read_run`; a folder that contains runs stands for all of
            them.
        output: File to write; its name ends in .html.
        data: Data sets that contain the images; empty to use the data sets that the runs recorded.
        images: Largest number of thumbnails in the page.
        finished: Called with (number of computed parts of the page, number of all parts).

    Raises:
        TierError: A run or a data set cannot be used, or the file cannot be written; then nothing is written.
    """
    path = Path(output)
    require_html(path)
    read = read_runs(run_folders(runs))
    page, thumbnails = render(read, list(map(Path, data)), images, finished)
    with explain_write_errors(path):
        publish_text(path, page)
    return Written(path, len(page.encode()), len(thumbnails.jpeg), thumbnails.wanted)


def require_html(output: Path) -> None:
    """Refuse an output file that a browser would not open, before the report is computed.

    Raises:
        ReportError: The name does not end in .html, or is the name of a folder.
    """
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ReportError(
            f"{output} is not an HTML file: pass a name that ends in .html, such as -o report.html"
        )


def render(
    runs: Sequence[ReportRun],
    data: Sequence[Path],
    images: int,
    finished: Callable[[int, int], None],
) -> tuple[str, Thumbnails]:
    """Render the page.

    Args:
        runs: The runs to show, in the order of the page.
        data: Data sets that contain the images; empty to use the data sets that the runs recorded.
        images: Largest number of thumbnails in the page.
        finished: Called with (number of computed parts of the page, number of all parts).

    Returns:
        The text of the page, and the thumbnails in the page.
    """
    tick = _ticker(runs, finished)
    errors = _largest_errors(runs)
    found = find_images(runs, data)
    thumbnails = make_thumbnails(found, runs, list(_images_with_errors(runs, errors)), images)
    lines = ablation_lines(runs)
    details = list(_details(runs, errors, tick))
    comparisons = factor_comparisons(runs, tick)
    panels = ablation_panels(runs)
    index = {key: number for number, key in enumerate(test_images(runs))}
    page = _environment(runs).get_template("report.html").render(
        runs=runs,
        heading=report_title(runs),
        conclusions=conclusions(runs),
        unscored=_grouped(runs, _unscored),
        groups=lines_by_data(lines),
        order={run.letter: number for number, run in enumerate(runs)} | {"": ""},
        targets=list(dict.fromkeys(line.target for line in lines)),
        has_ceiling=any(line.baseline == RATERS for line in lines),
        result_of=_result_of(runs),
        notes=_grouped(runs, _notes),
        leakage=_grouped(runs, lambda run: [leakage(run.results).plain]),
        details=details,
        comparisons=comparisons,
        panels=panels,
        rows=found.rows,
        index=index,
        thumbnails=thumbnails,
        reproductions=list(map(reproduction, runs)),
        version=library_version("tier4k"),
        written=datetime.now(UTC),
        style=_template_text("report.css"),
        script=_template_text("report.js"),
        data=script_json(
            page_data(runs, lines, index, thumbnails)
            | {"latex": latex_tables(runs, lines, comparisons, [one.ablation for one in panels], details)}
        ),
        plotly=_plotly(),
    )  # fmt: skip
    return page, thumbnails


# ---- the template's filters and functions


def _environment(runs: Sequence[ReportRun]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": _value,
        "signed": _signed,
        "p_value": _p_value,
        "sortable": _sortable,
        "with_code": _with_code,
        "breakable": _breakable,
    }
    environment.globals |= {
        "title": partial(line_title, runs={run.letter: run for run in runs}),
        "letters": partial(letter_ranges, runs=runs),
        "position": _position,
        "metrics": SHOWN_METRICS,
        "level_metrics": LEVEL_METRICS,
        "ceiling": RATERS,
        "labels": LABELS,
        "part_titles": TITLES,
        "factors": FACTORS,
        "usual": USUAL,
        "lower_is_better": LOWER_IS_BETTER,
        "significant": SIGNIFICANT,
        "estimand": ESTIMAND,
        "many": MANY,
        "side": SIDE,
    }
    return environment


def _value(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if math.isfinite(value) else "NaN"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if math.isfinite(value) else "NaN"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else _value(p)


def _sortable(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _with_code(text: str) -> Markup:
    """Mark text between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _breakable(name: str) -> Markup:
    """Allow line breaks after the underscores of a long name."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _position(value: float, limits: tuple[float, float]) -> str:
    """Position of a value between two limits, in per cent of a small plot's width with room for its marks."""
    low, high = limits
    width = (high - low) or 1
    return f"{6 + 88 * (value - low) / width:.2f}%"


def _template_text(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def _plotly() -> Markup:
    """Return Plotly's script, compressed to a third and in base64, so that nothing in it is read as HTML."""
    from plotly.offline import get_plotlyjs

    return Markup(base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii"))


# ---- parts of the page


def _ticker(runs: Sequence[ReportRun], finished: Callable[[int, int], None]) -> Callable[[], None]:
    """Return a function that reports one more part of the page as computed."""
    total = len(comparable_groups(runs))
    for run in runs:
        total += len(run.results.summaries)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        finished(done, total)

    return tick


def _largest_errors(runs: Sequence[ReportRun]) -> Errors:
    errors: dict[str, dict[str, list[LargeError]]] = {}
    for run in runs:
        errors[run.letter] = {}
        for target, rows in target_rows(run).items():
            measured = in_units(run, rows, target)
            errors[run.letter][target] = largest_errors(measured)
    return errors


def _images_with_errors(runs: Sequence[ReportRun], errors: Errors) -> Iterator[tuple[str, str]]:
    for run in runs:
        for target_errors in errors[run.letter].values():
            for error in target_errors:
                yield run.name.data, error.name


def _notes(run: ReportRun) -> list[str]:
    """Return the notes on a run's results without the last note, which is part of the page's text."""
    return [note.plain for note in notes(run.results)][:-1]


def _unscored(run: ReportRun) -> list[str]:
    """State how many images the scorer of scores that were made elsewhere has not scored."""
    results = run.results
    if not results.unscored:
        return []
    return [
        f"{results.unscored:,} of {results.rows:,} images have no score of {results.estimator}, "
        "so they are no test rows"
    ]


def _grouped(
    runs: Sequence[ReportRun], lines_of: Callable[[ReportRun], Iterable[str]]
) -> list[tuple[str, list[ReportRun]]]:
    """Return every distinct line with the runs, of one set of rows and one split, that it describes."""
    runs_of_line: dict[tuple[str, tuple[str, str, str]], list[ReportRun]] = {}
    for run in runs:
        for line in lines_of(run):
            key = line, run.name.context
            runs_of_line.setdefault(key, []).append(run)
    return [(line, described_runs) for (line, _), described_runs in runs_of_line.items()]


def _result_of(runs: Sequence[ReportRun]) -> dict[str, list[ReportRun]]:
    """Group runs by the description of the selection that is their result."""
    grouped: dict[str, list[ReportRun]] = {}
    for run in runs:
        selection = run.results.headline
        if label(run.results, selection) == "fit":
            selection = "fit"
        grouped.setdefault(RESULT_OF[selection], []).append(run)
    return grouped


def _details(
    runs: Sequence[ReportRun],
    errors: Errors,
    tick: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    """Yield the parts of the page that belong to one run and target, for all runs and targets."""
    for run in runs:
        for target, rows in target_rows(run).items():
            measured = in_units(run, rows, target)
            yield {
                "run": run,
                "target": target,
                "parts": {by: by_part(rows, measured, by) for by in parts_of(rows)},
                "interval": _interval(run, target),
                "errors": errors[run.letter][target],
            }
            tick()


def _interval(run: ReportRun, target: str) -> str:
    """Describe the prediction interval of a target; "" for a run that was not fitted to these scores."""
    intervals = run.results.prediction_intervals
    of_target = replace(
        run.results,
        summaries={target: run.results.summaries[target]},
        prediction_intervals={target: intervals[target]} if target in intervals else {},
    )
    return "; ".join(line.plain for line in interval_lines(of_target))
