"""The runs of a report: read, told apart, and set out as lines of an ablation table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pandas as pd

from cache.errors import TierError
from heads.experiment import Summary
from heads.results import Results, read_config, read_curves, read_predictions
from heads.table import LABELS, SHOWN_METRICS, shown_floors

LOWER_IS_BETTER = frozenset(("rmse", "rmse_logistic"))
# What two runs may differ in, and how a reader calls it. The order is that of the table's columns.
FACTORS = {"method": "method", "encoder": "image encoder", "text": "text encoder", "feature": "feature", "head": "head"}

PARTS = ("benchmark", "method", "encoder", "text", "feature", "head", "split")


class ReportError(TierError):
    """Runs or pictures that no report can be written of."""


@dataclass(frozen=True)
class RunName:
    """What a reader knows a run by.

    Attributes:
        data: Name of the data set, with the beginning of its digest where two data sets share a name.
        benchmark: Rows that took part.
        split: The split rule with the number of repeats, and the first seed where it is not 0.
        method, encoder, text, feature, head: What was fitted, in words; see `FACTORS`.
    """

    data: str
    benchmark: str
    split: str
    method: str
    encoder: str
    text: str
    feature: str
    head: str

    @property
    def context(self) -> tuple[str, str, str]:
        """Runs are comparable where this is equal: the same rows, split in the same way."""
        return self.data, self.benchmark, self.split


@dataclass(frozen=True)
class ReportRun:
    """One run, read from its folder.

    Attributes:
        letter: A, B, … as in `tier compare`.
        folder: Where it was read.
        config: Its config.json.
        results: Its results.json.
        predictions: Its predictions.csv.
        curves: Its curves.csv; no line where its heads have no epochs.
        name: What a reader knows it by.
        label: The letter and what sets it apart from the other runs of the report.
        short: The same without the data set.
    """

    letter: str
    folder: Path
    config: Mapping[str, Any]
    results: Results
    predictions: pd.DataFrame
    curves: pd.DataFrame
    name: RunName
    label: str
    short: str

    @property
    def leaks(self) -> bool:
        """Whether anything of the test rows was seen in training."""
        return self.results.leaks


@dataclass(frozen=True)
class Line:
    """One line of the ablation table: a run's result, or a floor, on one target.

    Attributes:
        run: Letter of the run, "" for a floor.
        target: Name of the target.
        name: What is on the line; of a floor only the context says something.
        floor: Name of the floor, "" for a run.
        leaks: Whether the split leaks.
        figures: {metric: Summary} for `SHOWN_METRICS`.
        best: Metrics in which no run of the same target and context is better; empty where there is no other run.
    """

    run: str
    target: str
    name: RunName
    floor: str
    leaks: bool
    figures: Mapping[str, Summary]
    best: frozenset[str]


def read_runs(folders: Sequence[Path]) -> list[ReportRun]:
    """Read runs, each folder once, and name them.

    Raises:
        ReportError: No folder is given, one is no run, or its configuration or predictions cannot be used.
        ResultError: Its results or predictions are damaged.
    """
    distinct = list({folder.resolve(): folder for folder in folders}.values())
    if not distinct:
        raise ReportError("a report needs one run or more: tier report runs/*")
    for folder in distinct:
        _require_run(folder)
    configs = [read_config(folder) for folder in distinct]
    names = _names(configs)
    labels, shorts = _labels(names, ("data", *PARTS)), _labels(names, PARTS)
    letters = [_letter(number) for number in range(len(distinct))]
    runs = [
        ReportRun(
            letter,
            folder,
            config,
            Results.read(folder),
            read_predictions(folder),
            read_curves(folder),
            name,
            label=f"{letter}  {label}",
            short=f"{letter}  {short}",
        )
        for letter, folder, config, name, label, short in zip(letters, distinct, configs, names, labels, shorts, strict=True)
    ]
    for run in runs:
        _require_predictions(run)
    return runs


def ablation(runs: Sequence[ReportRun]) -> list[Line]:
    """Every run's headline on every target, and the floors of every target and context once, data set by data set."""
    lines = [
        Line(run.letter, target, run.name, "", run.leaks, summaries[run.results.headline], _best_in(run, target, runs))
        for run in runs
        for target, summaries in run.results.summaries.items()
    ]
    floors = {
        (target, floor, run.name.context): Line("", target, run.name, floor, run.leaks, summaries[floor], frozenset())
        for run in reversed(runs)
        for target, summaries in run.results.summaries.items()
        for floor in shown_floors(run.results)
    }
    order = list(dict.fromkeys((line.name.data, line.target, line.name.context) for line in lines))
    return sorted([*lines, *reversed(floors.values())], key=lambda line: order.index((line.name.data, line.target, line.name.context)))


def comparable(runs: Sequence[ReportRun]) -> list[tuple[str, list[ReportRun]]]:
    """Groups of runs that differ in one factor alone, as [(factor, runs)]."""
    found = []
    for factor in FACTORS:
        groups: dict[tuple[str, ...], dict[str, ReportRun]] = {}
        for run in runs:
            others = tuple(getattr(run.name, other) for other in FACTORS if other != factor)
            groups.setdefault((*run.name.context, *others), {}).setdefault(getattr(run.name, factor), run)
        found += [(factor, list(group.values())) for group in groups.values() if len(group) > 1]
    return found


def by_data(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Lines of each data set."""
    out: dict[str, list[Line]] = {}
    for line in lines:
        out.setdefault(line.name.data, []).append(line)
    return out


def _require_run(folder: Path) -> None:
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder: give the folders of runs, such as runs/ID")
    if not (folder / "results.json").exists():
        inside = sorted(path.parent.name for path in folder.glob("*/results.json"))
        remedy = f"it holds runs, give these: {folder}/*" if inside else "give folders that `tier fit-head` wrote, such as runs/ID"
        raise ReportError(f"{folder} is no run (there is no results.json in it): {remedy}")
    if not (folder / "predictions.csv").exists():
        raise ReportError(f"{folder} has no predictions.csv, which a report needs: delete {folder} and run the command again that made it")


def _require_predictions(run: ReportRun) -> None:
    missing = [target for target in run.results.summaries if not (run.predictions["target"] == target).any()]
    if missing:
        raise ReportError(
            f"{run.folder / 'predictions.csv'} has no line of {', '.join(missing)}, which results.json tells of: delete {run.folder} and "
            "run the command again that made it"
        )


def _names(configs: Sequence[dict[str, Any]]) -> list[RunName]:
    digests: dict[tuple[str, str], set[str]] = {}
    for config in configs:
        digests.setdefault((config["data"], config["benchmark"]), set()).add(config["data_digest"])
    varying = _varying_options(configs)
    return [
        RunName(
            data=config["data"] + (f" ({config['data_digest'][:6]})" if len(digests[config["data"], config["benchmark"]]) > 1 else ""),
            benchmark=config["benchmark"],
            split=f"{config['split']} × {config['repeats']}" + (f", seed {config['seed']}" if config["seed"] else ""),
            method=config["method"].upper(),
            **_inputs(config, varying.get(config["estimator"], ())),
        )
        for config in configs
    ]


def _inputs(config: dict[str, Any], varying: Sequence[str]) -> dict[str, str]:
    """What a run reads and what makes a score of it; a zero-shot scorer reads pictures and texts with one network, and has no head."""
    signatures = config["signatures"]
    if "score" in signatures:
        return {"encoder": signatures["score"]["encoder"], "text": "", "feature": "", "head": "none"}
    image, text = signatures["image"], signatures["text"]
    return {
        "encoder": image["encoder"],
        "text": text["encoder"],
        "feature": " + ".join([_feature(image, config["stages"]), *(name for name in signatures if name not in ("image", "text"))]),
        "head": _head(config, varying),
    }


def _feature(signature: dict[str, Any], stages: Sequence[str]) -> str:
    """The feature point and how pictures were prepared for it, by their names, and the views where there are several."""
    point, preparation = (str(signature.get(part, "")).split(":", 1)[0] for part in ("feature", "preparation"))
    views = signature.get("views", "centre")
    parts = (point, " ".join(stages), preparation, "" if views == "centre" else f"views {views}")
    return ", ".join(part for part in parts if part)


def _varying_options(configs: Sequence[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Options in which heads of one kind differ, by kind."""
    out = {}
    for kind in {config["estimator"] for config in configs}:
        heads = [config["head"] for config in configs if config["estimator"] == kind]
        names = dict.fromkeys(name for head in heads for name in head)
        out[kind] = tuple(name for name in names if any(head.get(name) != heads[0].get(name) for head in heads))
    return out


def _head(config: dict[str, Any], varying: Sequence[str]) -> str:
    options = [f"{name} {_short(config['head'].get(name))}" for name in varying]
    return f"{config['estimator']} ({', '.join(options)})" if options else config["estimator"]


def _short(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, list) and len(value) > 3 else str(value)


def _labels(names: Sequence[RunName], parts: Sequence[str]) -> list[str]:
    """What sets each run apart: the method, the head, and every other part in which any two differ."""
    shown = [part for part in parts if part in ("method", "head") or len({getattr(name, part) for name in names}) > 1]
    return [" · ".join(getattr(name, part) for part in shown) for name in names]


def _letter(number: int) -> str:
    more, last = divmod(number, len(ascii_uppercase))
    return (_letter(more - 1) if more else "") + ascii_uppercase[last]


def _best_in(run: ReportRun, target: str, runs: Sequence[ReportRun]) -> frozenset[str]:
    rivals = [other.results for other in runs if other.name.context == run.name.context and target in other.results.summaries]
    if len(rivals) < 2:
        return frozenset()
    own = run.results.summaries[target][run.results.headline]
    best = set()
    for metric in SHOWN_METRICS:
        means = [rival.summaries[target][rival.headline][metric].mean for rival in rivals]
        means = [mean for mean in means if mean == mean]
        if means and own[metric].mean == (min if metric in LOWER_IS_BETTER else max)(means):
            best.add(metric)
    return frozenset(best)


def line_title(line: Line, results: Mapping[str, ReportRun]) -> str:
    """What a plot calls a line."""
    return results[line.run].short if line.run else f"{LABELS[line.floor]} · {line.name.benchmark} · {line.name.split}"
