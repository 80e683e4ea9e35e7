"""From a signature back to its encoder, so that new images get the features that heads were fitted on."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from tier4k.cache.signature import Signature, SignatureError
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.weights import Weights
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.crops import Crops

RUN_MARK = "@"  # in the name of an encoder that a run finetuned: NAME@RUN


def image_choice(signature: Signature) -> ImageChoice:
    """Return the choice, with every option, that makes features of this signature."""
    preprocessing, _, size = signature.preparation_name.partition(" at ")
    return ImageChoice(
        encoder=signature.encoder.partition(RUN_MARK)[0],
        preprocessing=cast(PreprocessingName, preprocessing),
        image_size=_image_size(size),
        feature="multilevel" if signature.feature_name == "multilevel" else "pooled",
        precision=cast(Precision, signature.precision),
        crops=_crops(signature.views),
    )


def _image_size(text: str) -> ImageSize | None:
    if not text:
        return None
    return int(text) if text.isdecimal() else "full"


def _crops(text: str) -> Crops | None:
    match = re.fullmatch(r"centre \+ (\d+) random crops and flips, seed (\d+)", text)
    if match is None:
        return None
    return Crops(count=int(match[1]), seed=int(match[2]))


def image_encoder_of(
    signature: Signature,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    rewritten: bool = False,
) -> ImageEncoder:
    """Find the image encoder of a signature.

    Args:
        signature: Of the features.
        weights: A file given by the user; no other place is searched then.
        folders: Folders that may hold `pretrained/`.
        rewritten: The file holds the same tensors, written again: its hash is not compared.

    Raises:
        EncoderError: This program has no such encoder.
        WeightsError: There are no weights.
        SignatureError: The encoder found gives other features, for example with other weights.
    """
    found = find_image_encoder(image_choice(signature), weights, folders)
    encoder = replace(found, preset=replace(found.preset, name=signature.encoder))
    require_signature(signature, encoder.signature, encoder.weights, "--image-weights FILE", rewritten)
    return encoder


def text_encoder_of(
    signature: Signature,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    rewritten: bool = False,
) -> TextEncoder:
    """Find the text encoder of a signature.

    Arguments and errors are those of `image_encoder_of`; `weights` is a folder.
    """
    name = signature.encoder.partition(RUN_MARK)[0]
    found = find_text_encoder(name, weights, folders, cast(Precision, signature.precision))
    encoder = replace(found, preset=replace(found.preset, name=signature.encoder))
    require_signature(signature, encoder.signature, encoder.weights, "--text-weights DIR", rewritten)
    return encoder


def require_signature(
    wanted: Signature,
    found: Signature,
    weights: Weights,
    option: str,
    rewritten: bool = False,
) -> None:
    """Refuse an encoder of another signature.

    Args:
        wanted: Signature of the features that heads were fitted on.
        found: Signature of the encoder found.
        weights: Its weights, for the message.
        option: Command-line option that gives other weights, for the message.
        rewritten: The file holds the same tensors, written again: its hash is not compared.

    Raises:
        SignatureError: A field differs.
    """
    if rewritten:
        wanted = replace(wanted, weights=weights.sha256)
    differing = found.differences(vars(wanted))
    if not differing:
        return
    lines = [
        f"the {wanted.stream} encoder {wanted.encoder} found in {weights.path} is not the one that the "
        "heads were "
        "fitted on:"
    ]
    for name, (fitted_on, here) in differing.items():
        lines.append(f"  {name}: fitted on {fitted_on!r}, found {here!r}")
    lines.append(f"Give its weights with {option}, or extract and fit again with this one.")
    raise SignatureError("\n".join(lines))
