"""Signatures of stores that no encoder fills."""

from tier4k.cache.signature import Signature


def signature(
    encoder: str,
    preprocessing: str = "reference: 224",
    weights: str = "ab",
    stream: str = "image",
) -> Signature:
    """Return the signature of a store; `weights` are the two digits that its hash repeats."""
    return Signature(stream, encoder, encoder, weights * 32, preprocessing, "pooled")
