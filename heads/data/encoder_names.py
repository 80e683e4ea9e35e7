"""Names of the arrays of features that a head reads, one for each encoder."""

from collections.abc import Iterable, Mapping, Sequence

from tier4k.cache.errors import StoreError
from tier4k.cache.signature import Signature

MULTILEVEL = "multilevel"


def array_name(signature: Signature) -> str:
    """Return the name of an encoder's array, such as "clip", "clip@448" or "clip@448 multilevel".

    The name has the encoder, the size of whole images, and whether the features are of several levels.
    """
    name = sized_encoder(signature)
    if signature.feature_name == MULTILEVEL:
        name += f" {MULTILEVEL}"
    return name


def sized_encoder(signature: Signature) -> str:
    """Return an encoder with the size of whole images, as --image-encoder takes it, such as "clip@448"."""
    size = signature.preparation_name.partition(" at ")[2]
    return f"{signature.encoder}@{size}" if size else signature.encoder


def share_weights(first: Signature, second: Signature) -> bool:
    """Return whether two encoders are of one checkpoint: their names and the hashes of weights are equal."""
    return (first.encoder, first.weights) == (second.encoder, second.weights)


def named_signatures(stream: str, signatures: Sequence[Signature]) -> dict[str, Signature]:
    """Return the signatures of one stream as `config.json` names them.

    The name of a single encoder is that of the stream ("image"). Of several, it is that of the stream and
    the name of the array ("image clip@448").
    """
    if len(signatures) == 1:
        return {stream: signatures[0]}
    return {f"{stream} {array_name(signature)}": signature for signature in signatures}


def stream_signatures(signatures: Mapping[str, Signature], stream: str) -> dict[str, Signature]:
    """Return the signatures of one stream by the name of the array, sorted by this name.

    Args:
        signatures: Signatures of all streams, as in `config.json`.
        stream: "image", "text" or "score".
    """
    return by_array_name(signature for signature in signatures.values() if signature.stream == stream)


def score_signatures(signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Return the signatures of scores that are features, by the scorer's name in the order of columns."""
    return {one.encoder: one for one in signatures.values() if one.stream == "score"}


def by_array_name(signatures: Iterable[Signature]) -> dict[str, Signature]:
    """Return signatures by the name of the array, sorted by this name.

    Raises:
        StoreError: Two signatures have the same name.
    """
    by_name: dict[str, Signature] = {}
    for signature in signatures:
        other = by_name.setdefault(array_name(signature), signature)
        if other != signature:
            raise StoreError(
                f"{other.folder_name} and {signature.folder_name} are both features of "
                f"{array_name(signature)}: pass only one of them"
            )
    return dict(sorted(by_name.items()))
