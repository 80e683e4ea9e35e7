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
        signature: Signature of the scores.
        weights: A file or folder that the user passes; if set, no other place is searched.
        folders: Folders that may contain `pretrained/` and folders in Hugging Face's layout.

    Raises:
        EncoderError: This program does not have the scorer.
        WeightsError: No weights or no tokenizer are found.
        SignatureError: The scorer gives other scores, for example because its weights differ.
    """
    scorer = find_scorer(signature.encoder, weights, folders, cast(Precision, signature.precision))
    differences = scorer.signature.differences(vars(signature))
    if not differences:
        return scorer
    lines = [f"the scorer {signature.encoder} in {scorer.weights.path} differs from the scorer of the run:"]
    for name, (run_value, scorer_value) in differences.items():
        lines.append(f"  {name}: the run has {run_value!r}, this scorer has {scorer_value!r}")
    lines.append(
        "Pass the weights of the former with --weights PATH, or score with the latter: tier score DATA."
    )
    raise SignatureError("\n".join(lines))
