"""What results.json holds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.splits import Split, siblings
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.evaluation.trial import Trial, headline
from tier4k.heads.metrics.bootstrap import TestRows
from tier4k.heads.metrics.conformal import Interval
from tier4k.heads.metrics.correlation import srcc
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.layout import _damaged, _file_of
from tier4k.heads.results.run_format import RUN_FORMAT, require_current_format

SEEN = ("seen_prompts", "seen_images", "seen_siblings")


@dataclass(frozen=True)
class Results:
    """What results.json holds.

    Attributes:
        id: Identity of the run.
        data: Name of the data set.
        method, benchmark, split, estimator: As in the configuration.
        rows: Rows of the benchmark.
        headline: The selection that the run is judged by and whose predictions are kept.
        test_rows, test_prompts: For each repeat: rows and distinct prompts of its test part.
        seen_prompts, seen_images, seen_siblings: For each repeat: of these prompts, those that stand in training or validation too, and
            of these rows, those whose very picture (by content) does, and those with a row of the same prompt and generator there.
        summaries: {target: {selection or floor: {metric: Summary}}}.
        reasons: {target: {selection or floor: why its correlations are NaN}}.
        intervals: {target: the conformal interval of a prediction}, without targets whose heads had no rows held out of training.
        held_out_srcc: {target: for each repeat, the SRCC on those rows}, of the same targets; selection among runs may look at it.
        seconds: Time that fitting took.
    """

    id: str
    data: str
    method: str
    benchmark: str
    split: str
    estimator: str
    rows: int
    headline: str
    test_rows: tuple[int, ...]
    test_prompts: tuple[int, ...]
    seen_prompts: tuple[int, ...]
    seen_images: tuple[int, ...]
    seen_siblings: tuple[int, ...]
    summaries: dict[str, dict[str, dict[str, Summary]]]
    reasons: dict[str, dict[str, str]]
    intervals: dict[str, Interval]
    held_out_srcc: dict[str, tuple[float, ...]]
    seconds: float

    @classmethod
    def of(
        cls,
        config: RunConfig,
        features: FeatureSet,
        trials: Sequence[Trial],
        splits: Sequence[Split],
        summaries: dict[str, dict[str, dict[str, Summary]]],
    ) -> "Results":
        """Gather the results of a run."""
        seen = [split.seen(features.group) for split in splits]
        families = siblings(features)
        reasons: dict[str, dict[str, str]] = {}
        for trial in trials:
            told = reasons.setdefault(trial.target, {})
            told |= {name: _with_reason(told.get(name, ""), reason) for name, reason in trial.reasons.items()}
        return cls(
            id=config.id,
            data=config.data,
            method=config.method,
            benchmark=config.benchmark,
            split=config.split,
            estimator=config.estimator,
            rows=len(features),
            headline=headline(trials[0].predictions),
            test_rows=tuple(len(split.test) for split in splits),
            test_prompts=tuple(len(np.unique(features.group[split.test])) for split in splits),
            seen_prompts=tuple(
                len(np.unique(features.group[split.test][rows]))
                for split, rows in zip(splits, seen, strict=True)
            ),
            seen_images=tuple(int(split.seen(features.picture).sum()) for split in splits),
            seen_siblings=tuple(int(split.seen(families).sum()) for split in splits),
            summaries=summaries,
            reasons=reasons,
            intervals=_intervals(features, trials, splits),
            held_out_srcc={
                target: tuple(srcc(rows.truth, rows.prediction) for rows in held_out)
                for target, (_, held_out) in _held_out(trials).items()
            },
            seconds=sum(trial.seconds for trial in trials),
        )

    @property
    def leaks(self) -> bool:
        """Whether anything of the test rows was seen in training."""
        return any(any(getattr(self, name)) for name in SEEN)

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Read a run's results back.

        Raises:
            ResultError: There is no run, or its results are damaged or of another format.
        """
        path = _file_of(folder, "results.json")
        require_current_format(folder)
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != RUN_FORMAT:
                raise ValueError("the format is not a whole number")
            summaries = {
                target: {
                    name: {metric: _read_summary(summary) for metric, summary in metrics.items()}
                    for name, metrics in names.items()
                }
                for target, names in values.pop("summaries").items()
            }
            for name in ("test_rows", "test_prompts", *SEEN):
                values[name] = tuple(values[name])
            intervals = {
                target: Interval.from_dict(interval) for target, interval in values.pop("intervals").items()
            }
            held_out = {
                target: tuple(map(_number, known)) for target, known in values.pop("held_out_srcc").items()
            }
            return cls(**values, summaries=summaries, intervals=intervals, held_out_srcc=held_out)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, error) from error


def _held_out(trials: Sequence[Trial]) -> dict[str, tuple[list[Trial], list[TestRows]]]:
    """The trials of each target, and of each trial the rows that were held out of training; without targets that had none."""
    found = {}
    for target in dict.fromkeys(trial.target for trial in trials):
        its = [trial for trial in trials if trial.target == target]
        held_out = [trial.held_out for trial in its if trial.held_out]
        if len(held_out) == len(its):
            found[target] = (its, held_out)
    return found


def _intervals(features: FeatureSet, trials: Sequence[Trial], splits: Sequence[Split]) -> dict[str, Interval]:
    found = {}
    for target, (its, held_out) in _held_out(trials).items():
        chosen = headline(its[0].predictions)
        test = [
            TestRows(features.group[splits[trial.repeat].test], trial.truth, trial.predictions[chosen])
            for trial in its
        ]
        found[target] = Interval.of(held_out, test)
    return found


def _with_reason(told: str, reason: str) -> str:
    """Reasons of several repeats, each once."""
    return "; ".join(dict.fromkeys(part for part in (*told.split("; "), *reason.split("; ")) if part))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _read_summary(values: dict[str, Any]) -> Summary:
    low, high = values["interval"]
    single = {name: _number(values[name]) for name in ("mean", "sd", "median", "sd_splits", "sd_seeds")}
    return Summary(
        values=tuple(_number(value) for value in values["values"]),
        interval=(_number(low), _number(high)),
        **single,
    )
