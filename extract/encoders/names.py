"""Names of encoders, and the error about unknown ones."""

from pathlib import PurePath

from tier4k.cache.errors import TierError

HF = "hf:"  # prefix of the name of an encoder in a folder of Hugging Face

TIMM = "timm:"  # prefix of the name of a model of timm


class EncoderError(TierError):
    """An encoder does not exist or does not support the requested options."""


def one_spelling(encoder: str) -> str:
    """Return the name of an encoder with the path of a folder in one spelling: `hf:./DIR/` becomes `hf:DIR`.

    The name is part of the signature, so that two spellings would have two stores.
    """
    path = encoder.removeprefix(HF)
    return HF + str(PurePath(path)) if path and path != encoder else encoder
