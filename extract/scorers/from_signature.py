"""From a signature back to its scorer."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tier4k.cache.signature import Signature, SignatureError
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.scorers.find import find_scorer
from tier4k.extract.scorers.scorer import Scorer


def scorer_of(
    signature: Signature,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
) -> Scorer:
    """Return the zero-shot scorer of a signature.

    Args:
        signature: Of the scores.
        weights: A file or folder given by the user, which is then the only place looked at.
        folders: Folders that may hold `pretrained/` and folders in Hugging Face's layout.

    Raises:
        EncoderError: This program has no such scorer.
        WeightsError: No weights or no tokenizer are found.
        SignatureError: The scorer that is found gives other scores, such as one with other weights.
    """
    found = find_scorer(signature.encoder, weights, folders, cast(Precision, signature.precision))
    differing = found.signature.differences(vars(signature))
    if not differing:
        return found
    lines = [f"the scorer {signature.encoder} in {found.weights.path} differs from the scorer of the run:"]
    for name, (asked, here) in differing.items():
        lines.append(f"  {name}: the run has {asked!r}, this scorer has {here!r}")
    lines.append(
        "Pass the weights of the former with --weights PATH, or score with the latter: tier score DATA."
    )
    raise SignatureError("\n".join(lines))
