"""A list of the known weights, for a terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tier4k.extract.encoders.presets import encoders_by_weights
from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.hub import blob_digest
from tier4k.extract.weights.known import KnownWeights, Place

DIGEST_LENGTH = 12  # hexadecimal digits


def weights_list(folders: Sequence[Path]) -> Iterator[str]:
    """Yield the lines that describe the weights of all known encoders; the network is not used.

    Args:
        folders: Folders that may contain `pretrained/` or a text encoder's folder.
    """
    for weights, encoders in encoders_by_weights().items():
        yield f"{weights.name} (encoder {', '.join(encoders)})"
        yield f"    found:   {_found(weights, folders)}"
        yield f"    licence: {weights.licence}"
        yield f"    source:  {', else '.join(weights.sources)}"


def _found(weights: KnownWeights, folders: Sequence[Path]) -> str:
    """Return the place of the weights, the beginning of their hash, and a note if they were changed."""
    try:
        place = weights.local(folders) or weights.on_hub(cached_only=True)
        if place is None:
            return "not found"
        sha256 = _sha256(place)
    except WeightsError as error:
        return f"damaged: {error}"
    note = weights.note(sha256)
    return ", ".join([place.source, f"SHA-256 {sha256[:DIGEST_LENGTH]}…", *([note] if note else [])])


def _sha256(place: Place) -> str:
    """Return the hash; that of a file in the hub's cache is its name there, so the file is not read."""
    return blob_digest(place.path) or place.weights().sha256
