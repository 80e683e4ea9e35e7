"""Cross-dataset evaluation: evaluate a fitted model on another data set, and write the result as a run."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from tier4k.cache.keys import file_key
from tier4k.cache.text import nearest, shortened
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.manifest import Manifest, prompt_groups
from tier4k.extract.datasets.spellings import canonical_spellings
from tier4k.heads.data.features import FeatureSet, rows_without_features
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import Split
from tier4k.heads.data.stored_splits import StoredSplit
from tier4k.heads.encoders.seen_images import seen_by_weights
from tier4k.heads.evaluation.alignment import scored_rows
from tier4k.heads.evaluation.trial import CALIBRATED, ELSEWHERE, Trial
from tier4k.heads.protocol.options import ProtocolError
from tier4k.heads.protocol.plan import recorded_datasets
from tier4k.heads.protocol.publish import publish_run
from tier4k.heads.regressors.estimator_head import EstimatorHead
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.find_run import finished_run, reference_to
from tier4k.heads.results.layout import ROWS_FILE, SPLITS_FILE, WEIGHTS_FILE, damaged, estimator_file, is_run
from tier4k.heads.results.model import HeadKey, Model
from tier4k.heads.results.read import ROW_TYPES, read_rows, read_splits
from tier4k.heads.results.run import Run, read_run
from tier4k.heads.results.seen import Seen
from tier4k.heads.results.write import require_writable

CALIBRATION_FOLDS = 5
NO_SCALE = "RMSE needs predictions on the scale of the column (pass --calibrate)"
EXPORTED = "an exported model does not keep the rows that it was fitted on: evaluate the run"


def match_targets(
    model: Model,
    manifest: Manifest,
    pair_texts: Sequence[str],
) -> dict[str, str]:
    """Match each target of the model with the score column that it is compared with.

    Args:
        model: Model whose targets are matched.
        manifest: Data set with the score columns.
        pair_texts: Texts `TARGET=COLUMN`; if there are none, equal names are matched.

    Returns:
        {target of the model: score column}.

    Raises:
        ProtocolError: There is no such target or column, or no names are equal.
    """
    if not pair_texts:
        return _equal_names(model, manifest)
    pairs: dict[str, str] = {}
    for text in pair_texts:
        target, _, named_column = text.partition("=")
        column = named_column or target
        _require_name(target, model.targets, model, manifest)
        _require_name(column, manifest.targets, model, manifest)
        if target in pairs or column in pairs.values():
            raise ProtocolError(
                f"--target {text}: this target or column occurs twice; run a second command for this pair"
            )
        pairs[target] = column
    return pairs


def _equal_names(model: Model, manifest: Manifest) -> dict[str, str]:
    same = {name: name for name in model.targets if name in manifest.targets}
    if not same:
        column = manifest.targets[0] if manifest.targets else "COLUMN"
        raise ProtocolError(
            f"no target has the name of a score column ({_known_names(model, manifest)}): "
            f"pass the pairs to compare, for example --target {model.targets[0]}={column}"
        )
    return same


def _require_name(
    name: str,
    known_names: Sequence[str],
    model: Model,
    manifest: Manifest,
) -> None:
    if name not in known_names:
        raise ProtocolError(
            f"there is no target or column {name!r}{nearest(name, known_names)}: "
            f"{_known_names(model, manifest)}"
        )


def _known_names(model: Model, manifest: Manifest) -> str:
    columns = ", ".join(manifest.targets) or "no scores"
    return f"the model has {', '.join(model.targets)}; {manifest.name} has {columns}"


def evaluate_model(
    model: Model,
    manifest: Manifest,
    predicted: Mapping[HeadKey, np.ndarray],
    pairs: Mapping[str, str],
    benchmark: Benchmark,
    calibrated: bool,
    root: Path,
    out: Path,
    command: Sequence[str] = (),
) -> Run:
    """Evaluate predictions for all rows of a data set and write the run; if the run exists, read it instead.

    Args:
        model: Model with the heads that predicted.
        manifest: The rows of the benchmark.
        predicted: Scores (N,) by target and repeat.
        pairs: {target of the model: score column}.
        benchmark: Name of the benchmark.
        calibrated: Whether the RMSE is computed, from predictions that are mapped linearly to the scores by a
            fit on other prompts. The other metrics are always those of the predictions as they are.
        root: Folder of stores, which records the images that finetuned encoders have seen.
        out: Folder of runs.
        command: Command line, recorded.

    Raises:
        SplitError: Fewer than two rows have a score in a column.
        ProtocolError: `calibrated` is set, and the rows have only one prompt or are of several data sets.
        ResultError: The rows or the splits of the model's run cannot be read.
        FinetunedError: The record of the images that finetuned encoders have seen is missing or damaged.
        StoreError: The run cannot be written.
    """
    if calibrated and len(manifest.datasets) > 1:
        raise ProtocolError(
            f"--calibrate maps predictions to one scale, and the scores of {', '.join(manifest.datasets)} "
            "have several: evaluate each data set alone, or leave out --calibrate"
        )
    repeats = sorted({repeat for _, repeat in predicted})
    config = _config(model, manifest, pairs, benchmark, repeats, calibrated)
    if stored := finished_run(out, config):
        return read_run(stored)
    require_writable(out)
    features = rows_without_features(manifest)
    no_rows = np.empty(0, int)
    split = Split(no_rows, no_rows, np.arange(len(features)), seed=0)
    trials = []
    for target, column in pairs.items():
        for number, repeat in enumerate(repeats):
            scores = predicted[target, repeat]
            trials.append(_trial(features, scores, column, number, split, calibrated))
    seen = seen_by_model(model, manifest, repeats, root)
    return publish_run(out, config, manifest, command, features, trials, [split] * len(repeats), seen)


def seen_by_model(
    model: Model,
    manifest: Manifest,
    repeats: Sequence[int],
    root: Path,
) -> Seen:
    """Count the rows that each head of a model has seen in training, and those that its encoders have seen.

    A head has seen the training and validation rows of its own repeat. Images are compared by content, and
    prompts by groups, which are formed from the rows of both data sets together.

    Args:
        model: The model that was evaluated.
        manifest: The rows of the evaluation.
        repeats: Numbers of the repeats whose heads were evaluated.
        root: Folder of stores, which records the images that finetuned encoders have seen.

    Raises:
        ResultError: The rows or the splits of the run cannot be read.
        FinetunedError: The record of the images that finetuned encoders have seen is missing or damaged.
    """
    if not is_run(model.folder):
        return Seen(unknown=EXPORTED)
    fitted = read_rows(model.folder)
    both = pd.concat([fitted, manifest.table[list(ROW_TYPES)]], ignore_index=True)
    group = prompt_groups(both["prompt"], both["image_key"], both["image_prompt_key"])
    rows = Rows(
        name=both["name"].to_numpy(),
        group=group.to_numpy(),
        generator=canonical_spellings(both["generator"]).to_numpy(),
        position=both.index.to_numpy(),
        image_key=both["image_key"].to_numpy(),
        dataset=np.full(len(both), ""),
    )
    test = np.arange(len(fitted), len(both))
    index_of = {name: index for index, name in enumerate(fitted["name"])}
    stored_splits = _stored_splits(model.folder, index_of, max(repeats))
    splits = []
    for stored in (stored_splits[repeat] for repeat in repeats):
        seen_rows = [index_of[name] for name in (*stored.train, *stored.validation)]
        splits.append(Split(np.array(seen_rows), test[:0], test, stored.seed))
    images = [key for signature in model.signatures.values() for key in seen_by_weights(root, signature)]
    return Seen.in_training(rows, splits, images)


def _stored_splits(
    run: Path,
    known: Collection[str],
    last: int,
) -> list[StoredSplit]:
    """Return the splits of a run, whose training and validation rows are among known names.

    Args:
        run: Folder of the run.
        known: Names of its rows.
        last: The highest number of a repeat that has a head.

    Raises:
        ResultError: A row or a split is missing, so that files of the run contradict each other.
    """
    splits = read_splits(run)
    if last >= len(splits):
        problem = f"it has {len(splits)} splits, and there is a head of repeat {last}"
        raise damaged(run / SPLITS_FILE, ValueError(problem))
    for split in splits:
        for name in (*split.train, *split.validation):
            if name not in known:
                problem = f"it lacks the row {shortened(name, 60)!r} of {SPLITS_FILE}"
                raise damaged(run / ROWS_FILE, ValueError(problem))
    return splits


def _estimator_keys(model: Model) -> list[str]:
    """Return the SHA-256 of the file of each estimator, if the heads have estimators."""
    paths = [
        estimator_file(model.folder, *key)
        for key, head in model.heads.items()
        if isinstance(head, EstimatorHead)
    ]
    return [file_key(path).hex() for path in paths]


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
    if estimators := _estimator_keys(model):
        options["estimators"] = estimators
    return RunConfig(
        data=manifest.name,
        data_digest=manifest.digest,
        ratings_digest=manifest.ratings_digest,
        method=model.method,
        benchmark=benchmark,
        targets=tuple(pairs.values()),
        signatures=model.signatures,
        split=ELSEWHERE,  # every row is a test row, and the model was fitted on other data
        repeats=len(repeats),
        seed=0,
        recipe="fitted elsewhere",
        estimator=f"{model.estimator} of {reference_to(model.folder)}",
        head=options,
        models="none",
        streams=model.streams,
        stages=model.stages,
        templates=model.templates,
        datasets=recorded_datasets(manifest),
    )


def _trial(
    features: FeatureSet,
    scores: np.ndarray,
    target: str,
    repeat: int,
    split: Split,
    calibrated: bool,
) -> Trial:
    rows = scored_rows(features, target, split)
    test = rows.split.test
    predictions = {ELSEWHERE: scores[test]}
    if calibrated:
        predictions[CALIBRATED] = calibrate(features.group[test], rows.scores[test], scores[test])
    trial = Trial.evaluated(features, target, repeat, split, predictions)
    trial.reasons.pop(CALIBRATED, None)  # of the calibrated predictions only the RMSE is reported
    return trial if calibrated or rows.reason else trial.without_rmse(ELSEWHERE, NO_SCALE)


def calibrate(
    group: np.ndarray,
    truth: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Map scores linearly to true scores by least squares. The map of each fold is fitted on other prompts.

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
            f"--calibrate needs at least 2 prompts, and the rows have {prompts}: leave out --calibrate"
        )
    mapped = np.empty(len(scores))
    folds = GroupKFold(min(CALIBRATION_FOLDS, prompts))
    for fit, apply in folds.split(scores, groups=group):
        design = np.stack([scores[fit], np.ones(len(fit))], axis=1)
        slope, intercept = np.linalg.lstsq(design, truth[fit], rcond=None)[0]
        mapped[apply] = slope * scores[apply] + intercept
    return mapped
