"""`evaluate`: a fitted model on another data set, as a run that stands beside others."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold

from tier4k.cache.errors import TierError
from tier4k.cache.keys import file_key
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.records import records
from tier4k.heads.data.features import FeatureSet, rows_alone
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.trial import ELSEWHERE, Trial
from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.protocol.publish import Run, publish_run
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.files import read_config, require_writable
from tier4k.heads.results.model import WEIGHTS_FILE, HeadKey, Model
from tier4k.heads.results.results import Results

FOLDS = 5

NO_SCALE = "RMSE needs a common scale: give --calibrate"


class EvaluationError(TierError):
    """A model that cannot be evaluated on these data."""


@dataclass(frozen=True)
class Overlap:
    """How much of a data set was there, with the same content, in the data set that a model was fitted on.

    Attributes:
        pictures, prompts: Distinct ones of the data set that were there too.
    """

    pictures: int
    prompts: int


def match_targets(model: Model, manifest: Manifest, given: Sequence[str]) -> dict[str, str]:
    """Which score of the data set each target of the model is compared with.

    Args:
        model: The model.
        manifest: The data set.
        given: `MINE=THEIRS` each; none: the targets of equal name.

    Returns:
        {target of the model: score column}.

    Raises:
        EvaluationError: There is no such target or column, or none has the same name.
    """
    mine, theirs = model.targets, manifest.targets
    there = f"the model has {', '.join(mine)}; {manifest.name} has {', '.join(theirs) or 'no scores'}"
    if not given:
        if same := {name: name for name in mine if name in theirs}:
            return same
        raise EvaluationError(
            f"no target has the same name ({there}): say what is compared, such as --target {mine[0]}={(*theirs, 'COLUMN')[0]}"
        )
    pairs: dict[str, str] = {}
    for text in given:
        left, _, right = text.partition("=")
        for name, known in ((left, mine), (right or left, theirs)):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
                raise EvaluationError(
                    f"there is no {name!r}{f' (nearest: {close[0]})' if close else ''}: {there}"
                )
        if left in pairs or (right or left) in pairs.values():
            raise EvaluationError(
                f"--target {text}: a score or column is given twice; compare these in a command of their own"
            )
        pairs[left] = right or left
    return pairs


def overlap(model: Model, manifest: Manifest, root: Path) -> Overlap | None:
    """What the data set shares with that of the model's run, by content; None where neither digest nor stores tell the latter."""
    if not (model.folder / "results.json").is_file():
        return None
    config = read_config(model.folder)
    if config["data_digest"] == manifest.digest:
        return Overlap(len(manifest.pictures()), len(manifest.prompts()))
    place = str(Path(str(config["environment"].get("data", ""))).parent)
    known = next(
        (record for record in records(root) if (record.name, record.data) == (config["data"], place)), None
    )
    if known is None:
        return None
    counts = []
    for stream, index in (("image", manifest.pictures().index), ("text", manifest.prompts().index)):
        there = {bytes(key).hex() for key in known.keys[stream]}
        counts.append(sum(key in there for key in index))
    return Overlap(*counts)


def evaluate_model(
    model: Model,
    manifest: Manifest,
    predicted: Mapping[HeadKey, np.ndarray],
    pairs: Mapping[str, str],
    benchmark: Benchmark,
    calibrated: bool,
    out: Path,
    command: Sequence[str] = (),
) -> Run:
    """Judge predictions for all rows of a data set and write the run; one of the same configuration that is on disk is read instead.

    Args:
        model: Whose heads predicted.
        manifest: The rows of the benchmark.
        predicted: Scores (N,) by target and repeat.
        pairs: {target of the model: score column}.
        benchmark: Which rows of the data set these are.
        calibrated: Map the predictions linearly to the scores, fitted on other prompts, so that an RMSE exists.
        out: Folder of runs.
        command: Command line, recorded.

    Raises:
        StoreError: The run cannot be written.
    """
    repeats = sorted({repeat for _, repeat in predicted})
    config = RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        method=model.method,
        benchmark=benchmark,
        targets=tuple(pairs.values()),
        signatures={stream: asdict(signature) for stream, signature in model.signatures.items()},
        split=ELSEWHERE,  # all rows, of data that are not those of the fit
        repeats=len(repeats),
        seed=0,
        recipe="fitted elsewhere",
        estimator=f"{model.estimator} of {model.folder.resolve().name}",
        head={
            "calibrated": calibrated,
            "pairs": dict(pairs),
            "repeats": repeats,
            "weights": file_key(model.folder / WEIGHTS_FILE).hex(),
        },
        models="none",
        stages=model.stages,
    )
    folder = out / config.id
    if folder.exists():
        return Run(folder, Results.read(folder), found=True)
    require_writable(out)
    features, nothing = rows_alone(manifest), np.empty(0, int)
    splits = [Split(nothing, nothing, np.arange(len(features)), 0) for _ in repeats]
    trials = [
        _trial(features, predicted[mine, repeat], theirs, number, splits[number], calibrated)
        for mine, theirs in pairs.items()
        for number, repeat in enumerate(repeats)
    ]
    return publish_run(out, config, manifest, command, features, trials, splits)


def _trial(
    features: FeatureSet, scores: np.ndarray, target: str, repeat: int, split: Split, calibrated: bool
) -> Trial:
    trial = Trial.judged(features, target, repeat, split, {ELSEWHERE: scores})
    error = rmse(trial.truth, calibrate(features.group, trial.truth, scores)) if calibrated else float("nan")
    reasons = (
        {} if calibrated else {ELSEWHERE: "; ".join(filter(None, (trial.reasons.get(ELSEWHERE), NO_SCALE)))}
    )
    figures = trial.figures | {ELSEWHERE: trial.figures[ELSEWHERE] | {"rmse": error}}
    return replace(trial, figures=figures, reasons=trial.reasons | reasons)


def calibrate(group: np.ndarray, truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Scores (N,) mapped linearly to true ones (N,) by least squares, those of each fold of prompts by a fit on the other folds.

    Raises:
        EvaluationError: There are too few prompts to part.
    """
    prompts = len(np.unique(group))
    if prompts < 2:
        raise EvaluationError(
            f"{prompts} prompt is too few for --calibrate, which fits on other prompts: leave it out"
        )
    out = np.empty(len(scores))
    for fit, apply in GroupKFold(min(FOLDS, prompts)).split(scores, groups=group):
        design = np.stack([scores[fit], np.ones(len(fit))], axis=1)
        slope, shift = np.linalg.lstsq(design, truth[fit], rcond=None)[0]
        out[apply] = slope * scores[apply] + shift
    return out
