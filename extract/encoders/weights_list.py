"""A table of the known weights."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.encoders.presets import encoders_by_weights
from tier4k.extract.screen.table import Table, text_column
from tier4k.extract.weights.download import download_sources
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.hub import blob_digest
from tier4k.extract.weights.known import FoundWeights, KnownWeights

COLUMNS = (
    text_column("weights"),
    text_column("encoders", importance=80, wraps=True),
    text_column("found", importance=90, wraps=True),
    text_column("licence", importance=70, wraps=True),
    text_column("sources", importance=60, wraps=True),
)

DIGEST_LENGTH = 12  # hexadecimal digits


def weights_table(folders: Sequence[Path]) -> Table:
    """Return a table of the weights of all known encoders; the network is not used.

    Args:
        folders: Folders that may contain `pretrained/` or a text encoder's folder.
    """
    rows = []
    for weights, encoders in encoders_by_weights().items():
        row = {
            "weights": weights.name,
            "encoders": ", ".join(encoders),
            "found": _found(weights, folders),
            "licence": weights.licence,
            "sources": ", else ".join(_source_names(weights)),
        }
        rows.append(row)
    return Table(COLUMNS, tuple(rows))


def _found(weights: KnownWeights, folders: Sequence[Path]) -> str:
    """Return the place of the weights, the beginning of their hash, and a note if they were changed."""
    try:
        found = weights.local(folders) or weights.on_hub(cached_only=True)
        if found is None:
            return "not found"
        sha256 = _sha256(found)
    except WeightsError as error:
        return f"damaged: {error}"
    parts = [found.source, f"SHA-256 {sha256[:DIGEST_LENGTH]}…"]
    if note := weights.note(sha256):
        parts.append(note)
    return ", ".join(parts)


def _source_names(weights: KnownWeights) -> list[str]:
    """Return the installed package, then the sources of downloads, in the order in which they are tried."""
    names = []
    if weights.package:
        names.append(f"package {weights.package.module} (installed)")
    for source in download_sources(weights):
        names.append(f"{source.name} ({source.note})" if source.note else source.name)
    return names


def _sha256(found: FoundWeights) -> str:
    """Return the hash of the weights. A file in the hub's cache is named by its hash and is not read."""
    return blob_digest(found.path) or found.weights().sha256
