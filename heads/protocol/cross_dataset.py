"""Cross-dataset evaluation: a fitted model on another data set, as a run beside others."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from tier4k.cache.keys import file_key
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.pipeline.records import DatasetRecord, records
from tier4k.heads.data.features import FeatureSet, rows_without_features
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.trial import ELSEWHERE, Trial
from tier4k.heads.metrics.correlation import rmse
from tier4k.heads.protocol.options import ProtocolError
from tier4k.heads.protocol.publish import Run, publish_run, read_run
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.layout import WEIGHTS_FILE, is_run
from tier4k.heads.results.model import HeadKey, Model
from tier4k.heads.results.read import read_config
from tier4k.heads.results.write import require_writable

CALIBRATION_FOLDS = 5
NO_SCALE = "RMSE needs a common scale: give --calibrate"


@dataclass(frozen=True)
class Overlap:
    """Inputs of a data set that the data set of a model's fit contains too, by content.

    Attributes:
        images, prompts: Numbers of distinct ones.
    """

    images: int
    prompts: int


def match_targets(
    model: Model,
    manifest: Manifest,
    given: Sequence[str],
) -> dict[str, str]:
    """Match each target of the model with the score column that it is compared with.

    Args:
        model: The model.
        manifest: The data set.
        given: `MINE=THEIRS` each; none matches equal names.

    Returns:
        {target of the model: score column}.

    Raises:
        ProtocolError: There is no such target or column, or no names are equal.
    """
    if not given:
        return _equal_names(model, manifest)
    pairs: dict[str, str] = {}
    for text in given:
        mine, _, named = text.partition("=")
        theirs = named or mine
        _require_name(mine, model.targets, model, manifest)
        _require_name(theirs, manifest.targets, model, manifest)
        if mine in pairs or theirs in pairs.values():
            raise ProtocolError(
                f"--target {text}: a score or column is given twice; compare these in a command of their own"
            )
        pairs[mine] = theirs
    return pairs


def _equal_names(model: Model, manifest: Manifest) -> dict[str, str]:
    same = {name: name for name in model.targets if name in manifest.targets}
    if not same:
        column = manifest.targets[0] if manifest.targets else "COLUMN"
        raise ProtocolError(
            f"no target has the same name ({_known_names(model, manifest)}): "
            f"name what is compared, such as --target {model.targets[0]}={column}"
        )
    return same


def _require_name(
    name: str,
    known: Sequence[str],
    model: Model,
    manifest: Manifest,
) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        nearest = f" (nearest: {close[0]})" if close else ""
        raise ProtocolError(f"there is no {name!r}{nearest}: {_known_names(model, manifest)}")


def _known_names(model: Model, manifest: Manifest) -> str:
    theirs = ", ".join(manifest.targets) or "no scores"
    return f"the model has {', '.join(model.targets)}; {manifest.name} has {theirs}"


def overlap(
    model: Model,
    manifest: Manifest,
    root: Path,
) -> Overlap | None:
    """Count what a data set shares with the data set of the model's fit.

    Args:
        model: The model.
        manifest: The data set.
        root: Folder of stores, which records the keys of extracted data sets.

    Returns:
        The numbers; None where neither the run nor the records identify the data set of the fit.
    """
    if not is_run(model.folder):
        return None
    config = read_config(model.folder)
    if config.data_digest == manifest.digest:
        return Overlap(len(manifest.images()), len(manifest.prompts()))
    folder = Path(config.environment.data).parent
    fitted_on = _record(root, config.data, str(folder))
    if fitted_on is None:
        return None
    return Overlap(
        images=_shared(manifest.images(), fitted_on.keys["image"]),
        prompts=_shared(manifest.prompts(), fitted_on.keys["text"]),
    )


def _record(
    root: Path,
    name: str,
    folder: str,
) -> DatasetRecord | None:
    for record in records(root):
        if record.name == name and record.data == folder:
            return record
    return None


def _shared(inputs: pd.Series, keys: np.ndarray) -> int:
    """Count inputs, indexed by hexadecimal key, whose key is among (N, 32)."""
    known = {bytes(key).hex() for key in keys}
    return sum(key in known for key in inputs.index)


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
    """Evaluate predictions for all rows of a data set and write the run; a stored run of the same is read
    instead.

    Args:
        model: The heads that predicted.
        manifest: The rows of the benchmark.
        predicted: Scores (N,) by target and repeat.
        pairs: {target of the model: score column}.
        benchmark: Which rows of the data set these are.
        calibrated: Map the predictions linearly to the scores, fitted on other prompts, so that an RMSE
            exists.
        out: Folder of runs.
        command: Command line, recorded.

    Raises:
        StoreError: The run cannot be written.
    """
    repeats = sorted({repeat for _, repeat in predicted})
    config = _config(model, manifest, pairs, benchmark, repeats, calibrated)
    folder = out / config.id
    if folder.exists():
        return read_run(folder)
    require_writable(out)
    features = rows_without_features(manifest)
    nothing = np.empty(0, int)
    split = Split(nothing, nothing, np.arange(len(features)), seed=0)
    trials = []
    for mine, theirs in pairs.items():
        for number, repeat in enumerate(repeats):
            scores = predicted[mine, repeat]
            trials.append(_trial(features, scores, theirs, number, split, calibrated))
    return publish_run(out, config, manifest, command, features, trials, [split] * len(repeats))


def _config(
    model: Model,
    manifest: Manifest,
    pairs: Mapping[str, str],
    benchmark: Benchmark,
    repeats: list[int],
    calibrated: bool,
) -> RunConfig:
    options = {
        "calibrated": calibrated,
        "pairs": dict(pairs),
        "repeats": repeats,
        "weights": file_key(model.folder / WEIGHTS_FILE).hex(),
    }
    return RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        method=model.method,
        benchmark=benchmark,
        targets=tuple(pairs.values()),
        signatures=model.signatures,
        split=ELSEWHERE,  # every row is a test row, and the model was fitted on other data
        repeats=len(repeats),
        seed=0,
        recipe="fitted elsewhere",
        estimator=f"{model.estimator} of {model.folder.resolve().name}",
        head=options,
        models="none",
        stages=model.stages,
    )


def _trial(
    features: FeatureSet,
    scores: np.ndarray,
    target: str,
    repeat: int,
    split: Split,
    calibrated: bool,
) -> Trial:
    trial = Trial.evaluated(features, target, repeat, split, {ELSEWHERE: scores})
    if not calibrated:
        return trial.without_rmse(ELSEWHERE, NO_SCALE)
    error = rmse(trial.truth, calibrate(features.group, trial.truth, scores))
    return trial.with_rmse(ELSEWHERE, error)


def calibrate(
    group: np.ndarray,
    truth: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Map scores linearly to true scores by least squares; each fold of prompts by a fit on the other folds.

    Args:
        group: (N,) prompts.
        truth: (N,) true scores.
        scores: (N,) predicted scores.

    Returns:
        (N,) mapped scores.

    Raises:
        ProtocolError: There is only one prompt.
    """
    prompts = len(np.unique(group))
    if prompts < 2:
        raise ProtocolError(
            f"{prompts} prompt is too few for --calibrate, which fits on other prompts: leave it out"
        )
    mapped = np.empty(len(scores))
    folds = GroupKFold(min(CALIBRATION_FOLDS, prompts))
    for fit, apply in folds.split(scores, groups=group):
        design = np.stack([scores[fit], np.ones(len(fit))], axis=1)
        slope, intercept = np.linalg.lstsq(design, truth[fit], rcond=None)[0]
        mapped[apply] = slope * scores[apply] + intercept
    return mapped
