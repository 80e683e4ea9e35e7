"""From a signature back to the encoder that made it: for heads that are to see new pictures as they saw those of their training."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from tier4k.cache.signature import Signature, SignatureError
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.weights import Weights
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.crops import Crops

RUN_MARK = "@"  # in the name of an encoder that a run finetuned


def image_choice(signature: Signature) -> ImageChoice:
    """What a user would ask for to get these features, everything said."""
    preprocessing, _, size = signature.preparation_name.partition(" at ")
    whole: ImageSize | None = (int(size) if size.isdecimal() else "full") if size else None
    crops = re.fullmatch(r"centre \+ (\d+) random crops and flips, seed (\d+)", signature.views)
    return ImageChoice(
        signature.encoder.partition(RUN_MARK)[0],
        cast(PreprocessingName, preprocessing),
        whole,
        "multilevel" if signature.feature_name == "multilevel" else "pooled",
        cast(Precision, signature.precision),
        Crops(int(crops[1]), int(crops[2])) if crops else None,
    )


def image_encoder_of(
    signature: Signature, weights: Path | None = None, folders: Sequence[Path] = (), anew: bool = False
) -> ImageEncoder:
    """The image encoder of a signature.

    Args:
        signature: Of the features.
        weights: A file given by the user, which is then the only place looked at.
        folders: Folders that may hold `pretrained/`.
        anew: The same weights were written anew, into another file: its hash is not compared.

    Raises:
        EncoderError: This program has no such encoder.
        WeightsError: There are no weights.
        SignatureError: What was found gives other features, such as other weights of the same network.
    """
    found = find_image_encoder(image_choice(signature), weights, folders)
    encoder = replace(found, preset=replace(found.preset, name=signature.encoder))
    _require(signature, encoder.signature, encoder.weights, "--image-weights FILE", anew)
    return encoder


def text_encoder_of(
    signature: Signature, weights: Path | None = None, folders: Sequence[Path] = (), anew: bool = False
) -> TextEncoder:
    """The text encoder of a signature; arguments and errors are those of `image_encoder_of`, `weights` being a folder."""
    found = find_text_encoder(
        signature.encoder.partition(RUN_MARK)[0], weights, folders, cast(Precision, signature.precision)
    )
    encoder = replace(found, preset=replace(found.preset, name=signature.encoder))
    _require(signature, encoder.signature, encoder.weights, "--text-weights DIR", anew)
    return encoder


def _require(wanted: Signature, found: Signature, weights: Weights, option: str, anew: bool) -> None:
    if anew:
        wanted = replace(wanted, weights=weights.sha256)
    differing = found.differences(vars(wanted))
    if differing:
        lines = [
            f"the {wanted.stream} encoder {wanted.encoder} that is here ({weights.path}) is not the one that the heads were fitted on:",
            *(f"  {name}: fitted on {ask!r}, here {has!r}" for name, (ask, has) in differing.items()),
            f"Give theirs with {option}, or extract and fit again with this one.",
        ]
        raise SignatureError("\n".join(lines))
