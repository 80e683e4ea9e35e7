"""One result format, whatever produced it: a folder runs/<id>/ that is there whole or not at all."""

import hashlib
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from cache.atomic import publish
from cache.signature import Signature
from cache.store import writing
from heads.choices import HeadName, KeptModels, Method
from heads.conformal import Interval
from heads.experiment import Summary, Trial, headline
from heads.features import FeatureSet
from heads.finetuned import encoders_folder
from heads.metrics import srcc
from heads.model import Model
from heads.run_format import PROTOCOL_VERSION, RUN_FORMAT, ResultError, require_current_format
from heads.splits import Split, siblings, split_names
from heads.statistics import TestRows

ZERO_SHOT_METHOD = "zero-shot"  # of a run whose predictions are a published scorer's
ALWAYS_HASHED = ("protocol", "format")
NEVER_HASHED = ("head_defaults", "finetune_defaults")  # which say what is left out of other fields
RUN_FILES = ("config.json", "results.json", "predictions.csv")
CURVES = "curves.csv"
CURVE_TYPES = {"target": str, "repeat": int, "epoch": int, "training_loss": float, "validation_loss": float, "test_srcc": float}
SEEN = ("seen_prompts", "seen_pictures", "seen_siblings")


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's values depend on; its hash is the run's identity.

    A field or an option that is added later has a default, and what is at its default is not hashed: runs that were fitted
    before it existed keep their identity.

    Attributes:
        data: Name of the data set.
        data_digest: `Manifest.digest` of the rows.
        method, benchmark, targets: What was fitted.
        signatures: Of every store that it reads, field by field: "image" and "text" of a head, beside them scorers by their names
            where it sees their scores; "score" of a zero-shot run.
        split, repeats, seed: The protocol: what the split is called (see `heads.fit.split_name`), how many there are, and the first seed.
        seeds: Heads fitted on each split.
        recipe: Name of the recipe.
        estimator: Name of the head, or of the scorer.
        head: Every option of the head, resolved.
        finetune: Every option of end-to-end training, resolved; empty where the head was fitted on stored features.
        models: Which fitted heads were kept.
        stages: Names of the levels that were kept of multilevel features; none for all.
        start: Name of the run whose heads these were started from; "" where they were not.
        head_defaults: Names of the options in `head` that are at the recipe's value, and so are not part of the identity.
        finetune_defaults: The same of the options in `finetune`.
        protocol: `PROTOCOL_VERSION` of the program that computed the values.
        format: Of the files.
    """

    data: str
    data_digest: str
    method: str
    benchmark: str
    targets: tuple[str, ...]
    signatures: dict[str, dict[str, Any]]
    split: str
    repeats: int
    seed: int
    recipe: str
    estimator: str
    head: dict[str, Any]
    models: KeptModels
    stages: tuple[str, ...] = ()
    seeds: int = 1
    finetune: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    head_defaults: tuple[str, ...] = ()
    finetune_defaults: tuple[str, ...] = ()
    protocol: int = PROTOCOL_VERSION
    format: int = RUN_FORMAT

    @property
    def id(self) -> str:
        """Readable beginning, then 10 hexadecimal digits of the SHA-256 of all that is not at its default."""
        digest = hashlib.sha256(json.dumps(self.hashed, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.method}-{self.benchmark}-{self.split}-{digest}"

    @property
    def hashed(self) -> dict[str, Any]:
        """What the identity is made of: every field and option that is not at its default, and both versions."""
        values = asdict(self)
        values["head"] = _without(values["head"], values.pop("head_defaults"))
        values["finetune"] = _without(values["finetune"], values.pop("finetune_defaults"))
        for name, default in _field_defaults().items():
            if json.dumps(values[name]) == json.dumps(default):  # as JSON has no tuples
                del values[name]
        return values


def used_stores(out: Path) -> frozenset[str]:
    """Signature digests of the stores that the runs in a folder were fitted on.

    Raises:
        ResultError, SignatureError: A run cannot be read, so that it is not known what it uses.
    """
    used = set()
    for path in out.glob("*/config.json"):
        config = read_config(path.parent)
        used |= {Signature.from_dict(signature).digest for signature in config["signatures"].values()}
    return frozenset(used)


def _field_defaults() -> dict[str, Any]:
    """The fields of a configuration that are not hashed at their defaults."""
    defaults: dict[str, Any] = {}
    for one in fields(RunConfig):
        if one.name in (*ALWAYS_HASHED, *NEVER_HASHED):
            continue
        if one.default is not MISSING:
            defaults[one.name] = one.default
        elif one.default_factory is not MISSING:
            defaults[one.name] = one.default_factory()
    return defaults


def _without(options: dict[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in left_out}


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
        seen_prompts, seen_pictures, seen_siblings: For each repeat: of these prompts, those that stand in training or validation too, and
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
    seen_pictures: tuple[int, ...]
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
            seen_prompts=tuple(len(np.unique(features.group[split.test][rows])) for split, rows in zip(splits, seen, strict=True)),
            seen_pictures=tuple(int(split.seen(features.picture).sum()) for split in splits),
            seen_siblings=tuple(int(split.seen(families).sum()) for split in splits),
            summaries=summaries,
            reasons=reasons,
            intervals=_intervals(features, trials, splits),
            held_out_srcc={
                target: tuple(srcc(rows.truth, rows.prediction) for rows in held_out) for target, (_, held_out) in _held_out(trials).items()
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
                target: {name: {metric: _read_summary(summary) for metric, summary in metrics.items()} for name, metrics in names.items()}
                for target, names in values.pop("summaries").items()
            }
            for name in ("test_rows", "test_prompts", *SEEN):
                values[name] = tuple(values[name])
            intervals = {target: Interval.from_dict(interval) for target, interval in values.pop("intervals").items()}
            held_out = {target: tuple(map(_number, known)) for target, known in values.pop("held_out_srcc").items()}
            return cls(**values, summaries=summaries, intervals=intervals, held_out_srcc=held_out)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, error) from error


def _file_of(folder: Path, name: str) -> Path:
    """A file of a run."""
    if (folder / name).is_file():
        return folder / name
    if _is_run(folder):
        raise ResultError(f"{folder} has no {name}: delete {folder} and run the command again that made it")
    remedy = ", such as runs/ID"
    if any(folder.glob("*/results.json")):
        remedy = f"; it holds runs, give these: {folder}/*"
    elif folder.is_file() and (folder.parent / "results.json").exists():
        remedy = f", {folder.parent}, not a file in it"
    raise ResultError(f"there is no run {folder}: give the folder of a run{remedy}")


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run, if a damaged one; nobody is told to delete another, as an exported model has a config.json too."""
    return sum((folder / name).is_file() for name in RUN_FILES) > 1


def _damaged(path: Path, error: Exception) -> ResultError:
    run = path.parent
    remedy = f"delete {run} and run the command again that made it" if _is_run(run) else "give the folder of a run, such as runs/ID"
    return ResultError(f"{path} cannot be read ({error!r}): {remedy}")


def require_writable(out: Path) -> None:
    """Make the folder of runs and try a file there, so that a fit does not end with nowhere to go.

    Raises:
        StoreError: The folder cannot be made or written to.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


def write_run(
    out: Path,
    config: RunConfig,
    environment: dict[str, Any],
    results: Results,
    features: FeatureSet,
    trials: Sequence[Trial],
    splits: Sequence[Split],
) -> Path:
    """Write runs/<id>/ in one step and return it.

    Args:
        out: Folder of runs.
        config: The configuration.
        environment: Versions, command line and time: recorded, not part of the identity.
        results: The figures.
        features: The rows.
        trials: Every fitted head.
        splits: One for each repeat.
    """
    folder = out / config.id

    def fill(path: Path) -> None:
        path.mkdir()
        _write_json(path / "config.json", {**asdict(config), "environment": environment})
        _write_json(path / "results.json", {"format": RUN_FORMAT, **asdict(results)})
        _write_json(path / "splits.json", split_names(features, splits))
        _predictions(features, trials, splits, results.headline).to_csv(path / "predictions.csv", index=False)
        _write_curves(path / CURVES, trials)
        _write_models(path, config, results, trials)
        for trial in trials:
            if trial.encoders:
                trial.encoders.write(encoders_folder(path, trial.target, trial.repeat))

    with writing(out):
        publish(folder, fill)
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json: the fields of `RunConfig`, and `environment`.

    Raises:
        ResultError: It is missing, damaged, or not a run's.
    """
    path = _file_of(folder, "config.json")
    require_current_format(folder)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        wanted: dict[str, type] = dict.fromkeys(("data", "data_digest", "method", "benchmark", "split", "recipe", "estimator"), str)
        wanted |= {"head": dict, "finetune": dict, "signatures": dict, "stages": list, "start": str}
        wanted |= {"repeats": int, "seed": int, "seeds": int, "protocol": int, "environment": dict}
        wrong = [name for name, kind in wanted.items() if not isinstance(config[name], kind)]
        streams = ("score",) if config["method"] == ZERO_SHOT_METHOD else ("image", "text")
        signatures = [config["signatures"][stream] for stream in (*streams, *config["signatures"])]
        wrong += [f"signature {signature}" for signature in signatures if not isinstance(signature.get("encoder"), str)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is of another type")
        return config
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error


def read_predictions(run: Path) -> pd.DataFrame:
    """A run's predictions: name, generator, group, benchmark (I2I or T2I), repeat, target, truth, prediction.

    Raises:
        ResultError: They are missing or damaged.
    """
    types: dict[str, type] = dict.fromkeys(("name", "generator", "group", "benchmark"), str)
    types |= {"repeat": int, "target": str, "truth": float, "prediction": float}
    path = _file_of(run, "predictions.csv")
    require_current_format(run)
    try:
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values={"prediction": [""], "truth": [""]})
        return frame[list(types)]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def read_curves(run: Path) -> pd.DataFrame:
    """How a run's heads were trained: target, repeat, epoch (from 1), training_loss, validation_loss, test_srcc; no line without epochs.

    Raises:
        ResultError: They are damaged.
    """
    path = run / CURVES
    require_current_format(run)
    if not path.exists():
        return pd.DataFrame(columns=list(CURVE_TYPES))
    try:
        missing = {name: [""] for name, kind in CURVE_TYPES.items() if kind is float}
        return pd.read_csv(path, dtype=CURVE_TYPES, keep_default_na=False, na_values=missing)[list(CURVE_TYPES)]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def _write_curves(path: Path, trials: Sequence[Trial]) -> None:
    frames = [
        pd.DataFrame(asdict(trial.curve)).assign(target=trial.target, repeat=trial.repeat, epoch=range(1, len(trial.curve.test_srcc) + 1))
        for trial in trials
        if trial.curve
    ]
    if frames:
        pd.concat(frames)[list(CURVE_TYPES)].to_csv(path, index=False)


def _write_models(path: Path, config: RunConfig, results: Results, trials: Sequence[Trial]) -> None:
    chosen = [trial for trial in trials if config.models == "all" or (config.models == "first" and trial.repeat == 0)]
    kept = {(trial.target, trial.repeat): trial.head for trial in chosen if trial.head is not None}
    if not kept:
        return
    widths = {(target, repeat): results.intervals[target].half_width[repeat] for target, repeat in kept if target in results.intervals}
    model = Model(
        path,
        cast(Method, config.method),
        cast(HeadName, config.estimator),
        config.head,
        {stream: Signature.from_dict(values) for stream, values in config.signatures.items()},
        config.stages,
        kept,
        {(trial.target, trial.repeat): trial.seed for trial in chosen},
        widths,
    )
    model.write()


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
        test = [TestRows(features.group[splits[trial.repeat].test], trial.truth, trial.predictions[chosen]) for trial in its]
        found[target] = Interval.of(held_out, test)
    return found


def _predictions(features: FeatureSet, trials: Sequence[Trial], splits: Sequence[Split], selection: str) -> pd.DataFrame:
    frames = []
    for trial in trials:
        test = splits[trial.repeat].test
        columns = {"name": features.name[test], "generator": features.generator[test], "group": features.group[test]}
        columns["benchmark"] = np.where(features.has_image_prompt[test], "I2I", "T2I")
        columns |= {"repeat": trial.repeat, "target": trial.target, "truth": trial.truth, "prediction": trial.predictions[selection]}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames)


def _with_reason(told: str, reason: str) -> str:
    """Reasons of several repeats, each once."""
    return "; ".join(dict.fromkeys(part for part in (*told.split("; "), *reason.split("; ")) if part))


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(_without_nan(values), indent=1) + "\n", encoding="utf-8")


def _without_nan(values: object) -> object:
    # JSON has no NaN; null stands for it, and `reasons` says why.
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _read_summary(values: dict[str, Any]) -> Summary:
    low, high = values["interval"]
    single = {name: _number(values[name]) for name in ("mean", "sd", "median", "sd_splits", "sd_seeds")}
    return Summary(values=tuple(_number(value) for value in values["values"]), interval=(_number(low), _number(high)), **single)
