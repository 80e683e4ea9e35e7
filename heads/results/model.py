"""Fitted heads as files: tensors in safetensors, everything else in JSON. Loading them executes nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import fuse
from tier4k.heads.evaluation.trial import mean_over_crops
from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.registry import restore_head
from tier4k.heads.results.run_format import require_current_format

MODEL_FORMAT = 1

MODEL_FILE, EXPORTED_FILE, WEIGHTS_FILE = "model.json", "config.json", "model.safetensors"

HeadKey = tuple[str, int]  # target and repeat


class ModelError(TierError):
    """Fitted heads that are not there, cannot be read, or are not what was asked for."""


@dataclass(frozen=True)
class Model:
    """The fitted heads of a run.

    Attributes:
        folder: The run's folder, or an exported one.
        method: How the features are fused.
        estimator: Name of the head.
        options: Its options.
        signatures: Of the features that the heads act on, "image" and "text", and scorers by their names where they see their scores.
        stages: Names of the levels of multilevel features that the heads act on; none for all.
        heads: By target and repeat.
        seeds: Of the heads.
        half_widths: Of the heads' conformal intervals, in units of the score; none for heads without rows held out of training.
    """

    folder: Path
    method: Method
    estimator: HeadName
    options: dict[str, Any]
    signatures: dict[str, Signature]
    stages: tuple[str, ...]
    heads: dict[HeadKey, Head]
    seeds: dict[HeadKey, int]
    half_widths: dict[HeadKey, float]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(dict.fromkeys(target for target, _ in self.heads))

    def only(self, target: str | None = None, repeat: int | None = None) -> "Model":
        """The same with the heads of one target, or one repeat, alone.

        Raises:
            ModelError: There are none.
        """
        repeats = sorted({number for _, number in self.heads})
        if target is not None and target not in self.targets:
            raise ModelError(
                f"{self.folder} has no heads for the target {target!r}: choose among {', '.join(self.targets)}"
            )
        if repeat is not None and repeat not in repeats:
            raise ModelError(
                f"{self.folder} has no heads of repeat {repeat}: it kept {', '.join(map(str, repeats))}"
            )
        chosen = {
            place: head
            for place, head in self.heads.items()
            if target in (None, place[0]) and repeat in (None, place[1])
        }
        return replace(self, heads=chosen)

    def predict(self, features: FeatureSet) -> dict[HeadKey, np.ndarray]:
        """What each head predicts for rows of features: scores (N,) by target and repeat.

        Raises:
            FusionError: Full reference, and a row has no image prompt.
        """
        fused = fuse(features, self.method)
        mean = fused.mean(axis=1) if fused.ndim == 3 else fused
        return {
            place: mean_over_crops(head.predict, mean if head.averages_views else fused)
            for place, head in self.heads.items()
        }

    def record(self) -> dict[str, Any]:
        """Everything but the tensors, for JSON."""
        heads = [
            {
                "target": target,
                "repeat": repeat,
                "seed": self.seeds[target, repeat],
                "half_width": _finite(self, (target, repeat)),
            }
            for target, repeat in self.heads
        ]
        return {
            "format": MODEL_FORMAT,
            "method": self.method,
            "estimator": self.estimator,
            "options": self.options,
            "signatures": {stream: asdict(signature) for stream, signature in self.signatures.items()},
            "stages": list(self.stages),
            "heads": heads,
        }

    def write(self, record_file: str = MODEL_FILE) -> None:
        """Write the record and the tensors into the folder."""
        weights = {f"{target}/{repeat}/": head.weights_ for (target, repeat), head in self.heads.items()}
        tensors = {
            prefix + name: np.ascontiguousarray(values)
            for prefix, its in weights.items()
            for name, values in its.items()
        }
        save_file(tensors, self.folder / WEIGHTS_FILE)
        (self.folder / record_file).write_text(json.dumps(self.record(), indent=1) + "\n", encoding="utf-8")


def read_model(folder: Path) -> Model:
    """Read the heads of a run, or of an exported model; nothing but tensors and JSON is read.

    Raises:
        ModelError: The run kept no models, they are damaged, or of another version of the format.
        ResultError: The run is of another format.
    """
    require_current_format(folder)
    is_run = any((folder / name).is_file() for name in (MODEL_FILE, "results.json"))
    path = folder / (MODEL_FILE if is_run else EXPORTED_FILE)
    if not path.is_file():
        what = (
            "kept no fitted heads (one of `tier score` has none: its scorer is judged by `tier score DATA`)"
            if is_run
            else "is not the folder of a run"
        )
        raise ModelError(
            f"{folder} {what}: give the folder of a run fitted with --models all or first, such as runs/ID"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != MODEL_FORMAT:
            raise ModelError(
                f"{path} is of format {record['format']!r}, this program reads {MODEL_FORMAT}: fit the run again, or use "
                "the version of tier4k that wrote it"
            )
        return _restored(folder, record, load_file(folder / WEIGHTS_FILE))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise ModelError(
            f"{folder} has no readable models ({error}): fit it again with --models all"
        ) from error


def _restored(folder: Path, record: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Model:
    heads, seeds, half_widths = {}, {}, {}
    for entry in record["heads"]:
        place = (str(entry["target"]), int(entry["repeat"]))
        prefix = f"{place[0]}/{place[1]}/"
        weights = {
            name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)
        }
        heads[place] = restore_head(record["estimator"], weights, record["options"], entry["seed"])
        seeds[place] = entry["seed"]
        if entry["half_width"] is not None:
            half_widths[place] = float(entry["half_width"])
    signatures = {
        name: Signature.from_dict(record["signatures"][name])
        for name in ("image", "text", *record["signatures"])
    }
    return Model(
        folder,
        record["method"],
        record["estimator"],
        record["options"],
        signatures,
        tuple(record["stages"]),
        heads,
        seeds,
        half_widths,
    )


def _finite(model: Model, place: HeadKey) -> float | None:
    width = model.half_widths.get(place, np.inf)
    return float(width) if np.isfinite(width) else None


def score_table(
    names: Sequence[str], predicted: Mapping[HeadKey, np.ndarray], half_widths: Mapping[HeadKey, float]
) -> pd.DataFrame:
    """One line for each picture and target: name, target, score, low, high, spread.

    `score` is the mean over the heads of all repeats and `spread` their standard deviation (NaN for one head). The interval low … high has
    the mean of their half-widths, as an absolute error of the mean is at most the mean of the absolute errors; it is NaN where a head has
    none.

    Args:
        names: Of the N pictures.
        predicted: Scores (N,) by target and repeat.
        half_widths: Of the conformal intervals.
    """
    frames = []
    for target in dict.fromkeys(target for target, _ in predicted):
        places = [place for place in predicted if place[0] == target]
        scores = np.stack([predicted[place] for place in places])
        score, width = (
            scores.mean(axis=0),
            float(np.mean([half_widths.get(place, np.nan) for place in places])),
        )
        spread = scores.std(axis=0, ddof=1) if len(places) > 1 else np.full(len(score), np.nan)
        columns = {
            "name": names,
            "target": target,
            "score": score,
            "low": score - width,
            "high": score + width,
            "spread": spread,
        }
        frames.append(pd.DataFrame(columns).assign(row=range(len(score))))
    return pd.concat(frames).sort_values("row", kind="stable").drop(columns="row").reset_index(drop=True)
