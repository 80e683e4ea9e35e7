"""What a file of scores says about the model that computed them, and its columns."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from tier4k.cache.keys import file_key
from tier4k.cache.signature import Signature
from tier4k.extract.pipeline.versions import library_version
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.inference.scores import CONTENT_BYTES, ScoreSummary, summary_of_models, summary_of_scorer
from tier4k.heads.metrics.conformal import LEVEL
from tier4k.heads.results.layout import WEIGHTS_FILE
from tier4k.heads.results.model import record_file

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "tier4k."  # of the keys of the metadata


@dataclass(frozen=True)
class ScoringModel:
    """What the metadata of a file say about its scores.

    Attributes:
        name: Name of the run, the exported model or the scorer.
        digest: SHA-256 (hexadecimal) of its files.
        summary: Its heads.
    """

    name: str
    digest: str
    summary: ScoreSummary

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the file, without `PREFIX`: texts, and JSON for targets, repeats and the interval."""
        summary = self.summary
        widths = dict(zip(summary.targets, summary.half_width.tolist(), strict=True))
        known = {target: None if np.isnan(width) else width for target, width in widths.items()}
        interval = {"kind": "conformal", "level": LEVEL, "half_width": known}
        return {
            "model": self.name,
            "digest": self.digest,
            "version": library_version("tier4k"),
            "targets": json.dumps(summary.targets),
            "repeats": json.dumps(summary.repeats),
            "interval": json.dumps(interval if any(width is not None for width in known.values()) else None),
        }

    @property
    def schema(self) -> "pa.Schema":
        """The columns of a file: name, those of each target, reason, file, line and key."""
        import pyarrow as pa

        fields = [pa.field("name", pa.string())]
        for target in self.summary.targets:
            for value in ("score", "low", "high", "spread"):
                fields.append(pa.field(f"{target}_{value}", pa.float32()))
        fields.append(pa.field("reason", pa.string()))
        fields.append(pa.field("file", pa.string()))
        fields.append(pa.field("line", pa.int64()))
        fields.append(pa.field("key", pa.binary(CONTENT_BYTES)))
        return pa.schema(fields, {PREFIX + name: text for name, text in self.metadata.items()})

    @property
    def remembered_columns(self) -> list[str]:
        """The columns from which the others of the scores follow."""
        targets = self.summary.targets
        return [*(f"{target}_score" for target in targets), *(f"{target}_spread" for target in targets)]


def scoring_model(sources: Sequence[EncoderSource]) -> ScoringModel:
    """Return what the metadata of a file of scores say about heads.

    The digest is that of the files of the heads and of the signatures of the features.

    Raises:
        ResultError: A file is missing.
    """
    models = [source.model for source in sources]
    folder = models[0].folder
    digest = hashlib.sha256()
    for path in (record_file(folder), folder / WEIGHTS_FILE):
        digest.update(file_key(path))
    for model in models:
        for name, signature in model.signatures.items():
            digest.update(f"{name} {signature.digest}\n".encode())
    return ScoringModel(folder.resolve().name, digest.hexdigest(), summary_of_models(models))


def scoring_scorer(signature: Signature) -> ScoringModel:
    """Return what the metadata of a file of scores say about a published scorer."""
    text = json.dumps(asdict(signature), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ScoringModel(signature.encoder, digest, summary_of_scorer(signature))
