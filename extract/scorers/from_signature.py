"""From a signature back to its scorer."""

from collections.abc import Collection, Sequence
from pathlib import Path

from tier4k.cache.signature import Signature, SignatureError
from tier4k.extract.encoders.from_signature import precision_of
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.scorers.called import is_called, path_of, require_trusted
from tier4k.extract.scorers.find import AnyScorer, find_scorer
from tier4k.extract.scorers.given_scores import is_given, is_negated


def scorer_of(
    signature: Signature,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    trusted: Collection[str] = (),
) -> AnyScorer:
    """Return the scorer of a signature.

    Args:
        signature: Signature of the scores.
        weights: A file or folder that the user passes; if set, no other place is searched.
        folders: Folders that may contain `pretrained/` and folders in Hugging Face's layout.
        trusted: Import paths of scorers of other packages that may be imported, besides entry points.

    Raises:
        EncoderError: This program does not have the scorer, or the scores were made elsewhere.
        PluginError: The scorer of another package is not trusted, or cannot be imported.
        WeightsError: No weights or no tokenizer are found.
        SignatureError: The scorer gives other scores, for example because its weights differ.
    """
    if is_given(signature):
        raise EncoderError(
            f"the scores of {signature.encoder} were made elsewhere and cannot be computed for new images: "
            "compute them there, and pass their file with --scores FILE to `tier predict` or `tier evaluate`"
        )
    if is_called(signature):
        require_trusted(signature, trusted)
        scorer = find_scorer(path_of(signature), weights, lower_is_better=is_negated(signature))
        remedy = "Install the former, or fit and score again with the latter."
    else:
        scorer = find_scorer(signature.encoder, weights, folders, precision_of(signature))
        remedy = (
            "Pass the weights of the former with --weights PATH, or score with the latter: tier score DATA."
        )
    differences = scorer.signature.differences(vars(signature))
    if not differences:
        return scorer
    lines = [f"the scorer {signature.encoder} in {scorer.weights.path} differs from the scorer of the run:"]
    for name, (run_value, scorer_value) in differences.items():
        lines.append(f"  {name}: the run has {run_value!r}, this scorer has {scorer_value!r}")
    raise SignatureError("\n".join([*lines, remedy]))
