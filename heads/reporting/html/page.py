"""`report`: one page that shows what runs found, and opens anywhere without a network."""

import base64
import gzip
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tier4k.cache.atomic import publish_text
from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.cache.store import writing
from tier4k.extract.pipeline.versions import library_version
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import ELSEWHERE, UNFITTED
from tier4k.heads.reporting.breakdown import TITLES
from tier4k.heads.reporting.html.detail import (
    CURVE_LABELS,
    by_part,
    curve,
    factor_comparisons,
    in_units,
    largest_errors,
    parts_of,
    target_rows,
    training_curves,
)
from tier4k.heads.reporting.html.runs import (
    LOWER_IS_BETTER,
    Line,
    ReportError,
    ReportRun,
    Source,
    ablation,
    by_data,
    comparable,
    line_title,
    read_runs,
    spans,
)
from tier4k.heads.reporting.html.thumbnails import (
    DEFAULT_PICTURES,
    SIDE,
    Key,
    Thumbnails,
    find_pictures,
    make_thumbnails,
)
from tier4k.heads.reporting.run_names import FACTORS
from tier4k.heads.reporting.terminal import (
    LABELS,
    OF_WILLIAMS,
    SHOWN_METRICS,
    SIGNIFICANT,
    interval_lines,
    label,
    leakage,
    notes,
    too_many,
)

TEMPLATES = Path(__file__).parent / "templates"

JUDGED = {
    "best_validation": "that of the best validation epoch",
    "last": "that of the last epoch",
    "fit": "that of the one fit, as the head has no epochs",
    "zero_shot": "that of published scores, with nothing fitted",
    "elsewhere": "that of heads which another run fitted",
}

MANY = 24  # comparisons of a table that is folded

DIGITS = 5  # of a point in a plot; the tables are rounded from the full numbers


@dataclass(frozen=True)
class Written:
    """A report that is on disk: its size in bytes, the pictures in it, and the test pictures there are."""

    path: Path
    size: int
    pictures: int
    test_pictures: int


def write_report(
    folders: Sequence[Path],
    output: Path,
    data: Sequence[Path] = (),
    pictures: int = DEFAULT_PICTURES,
    finished: Callable[[int, int], None] = lambda *_: None,
) -> Written:
    """Write the report of runs as one HTML file that is there whole or not at all.

    Args:
        folders: Folders of runs.
        output: File to write; its name ends in .html.
        data: Data sets that hold the pictures; empty for what the runs recorded.
        pictures: How many thumbnails the page may hold.
        finished: Called with (parts of the page that are computed, parts in all).

    Raises:
        TierError: A run or a data set cannot be used, or the file cannot be written; nothing has been written then.
    """
    require_html(output)
    runs = read_runs(folders)
    page, thumbnails = render(runs, data, pictures, finished)
    with writing(output):
        publish_text(output, page)
    return Written(output, len(page.encode()), len(thumbnails.jpeg), thumbnails.wanted)


def require_html(output: Path) -> None:
    """Refuse an output that a browser would not open, before any work.

    Raises:
        ReportError: The name does not end in .html, or is that of a folder.
    """
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ReportError(
            f"{output} is no name of a page: give a file that ends in .html, such as -o report.html"
        )


def render(
    runs: Sequence[ReportRun], data: Sequence[Path], pictures: int, finished: Callable[[int, int], None]
) -> tuple[str, Thumbnails]:
    """The page's text, and the pictures in it."""
    parts, done = sum(len(run.results.summaries) for run in runs) + len(comparable(runs)), count(1)

    def tick() -> None:
        finished(next(done), parts)

    errors = {
        run.letter: {target: largest_errors(in_units(run, rows)) for target, rows in target_rows(run).items()}
        for run in runs
    }
    first = [
        (run.name.data, one.name) for run in runs for target in errors[run.letter].values() for one in target
    ]
    thumbnails = make_thumbnails(find_pictures(runs, data), runs, first, pictures)
    lines = ablation(runs)
    index = _picture_index(runs)
    page = (
        _environment()
        .get_template("report.html")
        .render(
            runs=runs,
            groups=by_data(lines),
            title=partial(line_title, runs={run.letter: run for run in runs}),
            order={run.letter: number for number, run in enumerate(runs)} | {"": ""},
            targets=list(dict.fromkeys(line.target for line in lines)),
            metrics=SHOWN_METRICS,
            labels=LABELS,
            parts=TITLES,
            judged=_judged(runs),
            spans=partial(spans, runs=runs),
            unfitted=UNFITTED,
            elsewhere=ELSEWHERE,
            notes=_said(runs, lambda run: [note.plain for note in [*notes(run.results)][:-1]]),
            leakage=_said(runs, lambda run: [leakage(run.results).plain]),
            factors=FACTORS,
            significant=SIGNIFICANT,
            of_williams=OF_WILLIAMS,
            too_many=too_many,
            many=MANY,
            details=list(_details(runs, errors, tick)),
            comparisons=factor_comparisons(runs, tick),
            index=index,
            thumbnails=thumbnails,
            side=SIDE,
            reproduce=[_reproduce(run) for run in runs],
            version=library_version("tier4k"),
            written=datetime.now(UTC),
            style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            script=Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
            data=_script_json(_page_data(runs, lines, index, thumbnails)),
            plotly=_plotly(),
        )
    )
    return page, thumbnails


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": _figure,
        "sortable": _sortable,
        "signed": _signed,
        "with_code": _with_code,
        "breakable": _breakable,
    }
    environment.globals |= {"lower_is_better": LOWER_IS_BETTER, "place": _place}
    return environment


def _figure(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if math.isfinite(value) else "NaN"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if math.isfinite(value) else "NaN"


def _with_code(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _breakable(name: str) -> Markup:
    """A long name that may go on in a new line after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _sortable(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def _place(value: float, limits: tuple[float, float]) -> str:
    """Where a value lies between two limits, in per cent of the width of a small plot with room for its marks."""
    low, high = limits
    return f"{6 + 88 * (value - low) / ((high - low) or 1):.2f}%"


def _said(
    runs: Sequence[ReportRun], lines: Callable[[ReportRun], Iterable[str]]
) -> list[tuple[str, list[ReportRun]]]:
    """Every line that is to be said of a run, once, with the runs of the same rows and split that it is said of."""
    found: dict[tuple[str, tuple[str, str, str]], list[ReportRun]] = {}
    for run in runs:
        for line in lines(run):
            found.setdefault((line, run.name.context), []).append(run)
    return [(line, some) for (line, _), some in found.items()]


def _judged(runs: Sequence[ReportRun]) -> dict[str, list[ReportRun]]:
    """What the results of runs are, with these runs."""
    found: dict[str, list[ReportRun]] = {}
    for run in runs:
        name = run.results.headline
        how = JUDGED[name if name in UNFITTED or label(run.results, name) != "fit" else "fit"]
        found.setdefault(how, []).append(run)
    return found


def _details(
    runs: Sequence[ReportRun], errors: Mapping[str, Mapping[str, Any]], tick: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """What the page shows of a run and target when it is chosen."""
    for run in runs:
        for target, rows in target_rows(run).items():
            yield {
                "run": run,
                "target": target,
                "parts": {by: by_part(rows, in_units(run, rows), by) for by in parts_of(rows)},
                "interval": _interval(run, target),
                "errors": errors[run.letter][target],
            }
            tick()


def _interval(run: ReportRun, target: str) -> str:
    """What is promised of single predictions of a target; nothing of what was not fitted to these scores."""
    if run.results.headline in UNFITTED:
        return ""
    intervals = {name: value for name, value in run.results.intervals.items() if name == target}
    alone = replace(run.results, summaries={target: run.results.summaries[target]}, intervals=intervals)
    return "; ".join(line.plain for line in interval_lines(alone))


def _picture_index(runs: Sequence[ReportRun]) -> dict[Key, int]:
    """A number for every test picture of every data set."""
    keys = dict.fromkeys((run.name.data, name) for run in runs for name in run.predictions["name"].unique())
    return {key: number for number, key in enumerate(keys)}


def _page_data(
    runs: Sequence[ReportRun], lines: Sequence[Line], index: Mapping[Key, int], thumbnails: Thumbnails
) -> dict[str, Any]:
    """Everything that the page's script shows, computed here: the script only draws."""
    shared: dict[str, int] = {}  # runs of one split share their test rows and scores, which are stored once
    generators = {
        (run.name.data, row.name): row.generator
        for run in runs
        for row in _distinct_pictures(run).itertuples(index=False)
    }
    trials = {
        run.letter: {
            target: [
                _trial(run, target, int(str(repeat)), part, index, shared)
                for repeat, part in rows.groupby("repeat")
            ]
            for target, rows in target_rows(run).items()
        }
        for run in runs
    }
    return {
        "names": [name for _, name in index],
        "generators": [generators[key] for key in index],
        "thumbnails": {index[key]: jpeg for key, jpeg in thumbnails.jpeg.items()},
        "trials": trials,
        "shared": [json.loads(text) for text in shared],
        "forests": _forests(runs, lines),
        "curves": {
            run.letter: {target: _curves(run, target) for target in run.results.summaries} for run in runs
        },
        "labels": {metric: LABELS[metric] for metric in SHOWN_METRICS},
    }


def _distinct_pictures(run: ReportRun) -> pd.DataFrame:
    return run.predictions[["name", "generator"]].drop_duplicates("name")


def _trial(
    run: ReportRun,
    target: str,
    repeat: int,
    rows: pd.DataFrame,
    index: Mapping[Key, int],
    shared: dict[str, int],
) -> dict[str, Any]:
    """The points of one repeat by rising prediction, its curve and its figures; rows without a prediction have no place in a plot."""
    rows = rows.sort_values(["repeat", "name"], kind="stable")
    usable = rows[np.isfinite(rows["prediction"]) & np.isfinite(rows["truth"])]
    fitted = curve(rows["truth"].to_numpy(float), rows["prediction"].to_numpy(float))
    summaries = run.results.summaries[target][run.results.headline]
    return {
        "repeat": repeat,
        "pictures": _once([index[run.name.data, name] for name in usable["name"]], shared),
        "truth": _once(_rounded(usable["truth"]), shared),
        "prediction": _rounded(usable["prediction"]),
        "without": len(rows) - len(usable),
        "curve": [_rounded(fitted.prediction), _rounded(fitted.score)],
        "figures": {metric: _number(_of_repeat(summaries[metric], repeat)) for metric in SHOWN_METRICS},
    }


def _curves(run: ReportRun, target: str) -> list[dict[str, Any]]:
    """Lines of the plot of a target's trainings; none where these have no epochs."""
    return [
        {"name": name, "label": CURVE_LABELS[name], "epochs": frame.index.tolist()}
        | {part: _rounded(frame[part]) for part in frame}
        for name, frame in training_curves(run, target).items()
    ]


def _once(values: Sequence[float], shared: dict[str, int]) -> int:
    """Number of this list among the shared ones."""
    return shared.setdefault(json.dumps(values), len(shared))


def _of_repeat(summary: Summary, repeat: int) -> float:
    values = summary.values  # noqa: PD011  (a tuple; ruff takes it for a frame's)
    return values[repeat] if repeat < len(values) else float("nan")


def _forests(runs: Sequence[ReportRun], lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The intervals of every data set and target."""
    by_letter = {run.letter: run for run in runs}
    places: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        places.setdefault((line.name.data, line.target), []).append(line)
    return [
        {
            "data": data,
            "target": target,
            "lines": [
                {
                    "key": line.key,
                    "title": f"{line.run}  {line_title(line, by_letter)}".strip(),
                    "floor": bool(line.floor),
                    "figures": {
                        m: [_number(v) for v in (line.figures[m].mean, *line.figures[m].interval)]
                        for m in SHOWN_METRICS
                    },
                }
                for line in part
            ],
        }
        for (data, target), part in places.items()
    ]


def _reproduce(run: ReportRun) -> dict[str, Any]:
    """Everything needed to make a run again."""
    config = run.config
    return {
        "run": run,
        "made": _made(run.sources),
        "signatures": config["signatures"],
        "stores": {stream: _store_name(signature) for stream, signature in config["signatures"].items()},
        "head": {name: json.dumps(value) for name, value in config["head"].items()},
        "finetune": {name: json.dumps(value) for name, value in config["finetune"].items()},
        "judged": label(run.results, run.results.headline),
    }


def _made(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Each command that made folders of a run, with the versions it had, and these folders."""
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        environment = source.config["environment"]
        command, versions = environment.get("command"), environment.get("versions")
        made = {
            "command": shlex.join(["tier", *map(str, command[1:])])
            if isinstance(command, list) and command
            else "",
            "python": environment.get("python", ""),
            "versions": versions if isinstance(versions, dict) else {},
        }
        of_command = found.setdefault(json.dumps(made, sort_keys=True), made | {"sources": []})
        of_command["sources"].append(source)
        of_command["finished"] = max(environment.get("finished", ""), of_command.get("finished", ""))
    return list(found.values())


def _store_name(signature: object) -> str:
    try:
        return Signature.from_dict(signature).folder_name
    except TierError:
        return ""  # of another format of stores; its fields are shown all the same


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _script_json(values: object) -> Markup:
    """JSON for a <script>: whatever users' files are called, no `</script>` nor `<!--` stands in it."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _plotly() -> Markup:
    """Plotly's script, packed: a third of its size, and no byte of it is read as HTML."""
    from plotly.offline import get_plotlyjs

    return Markup(base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii"))
