"""From a signature back to the scorer that made it."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tier4k.cache.signature import Signature, SignatureError
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.scorer import Scorer


def scorer_of(signature: Signature, weights: Path | None = None, folders: Sequence[Path] = ()) -> Scorer:
    """The zero-shot scorer of a signature; arguments and errors are those of `image_encoder_of`."""
    found = find_scorer(signature.encoder, weights, folders, cast(Precision, signature.precision))
    if differing := found.signature.differences(vars(signature)):
        lines = [
            f"the scorer {signature.encoder} that is here ({found.weights.path}) is not the one of the run:",
            *(f"  {name}: the run's {ask!r}, here {has!r}" for name, (ask, has) in differing.items()),
            "Give its weights with --weights PATH, or score with this one: tier score DATA.",
        ]
        raise SignatureError("\n".join(lines))
    return found
