"""Scores of a data set's rows, through an extraction without output."""

from pathlib import Path

import numpy as np

from tier4k.cache.keys import key_array
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.pipeline.listener import StreamSummary, Timing
from tier4k.extract.pipeline.options import ExtractionOptions
from tier4k.extract.pipeline.run import extract
from tier4k.extract.scorers.scorer import Scorer


class _NoOutput:
    def noted(self, text: str) -> None:
        pass

    def warned(self, text: str) -> None:
        pass

    def started(self, stream: str, total: int) -> None:
        pass

    def advanced(self, count: int, timing: Timing) -> None:
        pass


def score(
    manifest: Manifest,
    scorer: Scorer,
    root: Path,
    batch_size: int | None = 3,
) -> tuple[np.ndarray, StreamSummary]:
    """Score the rows of a data set; returns the scores (N,) as they are stored, and the summary."""
    options = ExtractionOptions(workers=0, batch_size=batch_size, device="cpu", text_batch_size=2)
    (summary,) = extract(DatasetInputs.of(manifest), [scorer], root, options, _NoOutput())
    keys = key_array(map(bytes.fromhex, manifest.pair_keys()))
    stored = FeatureStore.open(summary.store).read(keys)
    assert stored.shape == (len(manifest), 1)
    assert stored.dtype == np.float32
    return stored[:, 0], summary
