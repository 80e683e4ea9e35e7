"""Finding the encoder of a signature, so that new images get features like those of the fitted heads."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from tier4k.cache.signature import Signature, SignatureError
from tier4k.cache.text import shortened
from tier4k.extract.encoders.choices import Precision, StoreDtype
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder, function_encoder
from tier4k.extract.encoders.function import (
    ImageEncoderFunction,
    is_function,
    recorded_path,
    trusted_function,
)
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import HF, EncoderError
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.images.crops import Crops
from tier4k.extract.weights.files import Weights

RUN_MARK = "@"  # in the name of an encoder that a run finetuned: NAME@RUN


def split_run_mark(encoder: str) -> tuple[str, str]:
    """Return the name of an encoder without the mark of a run, and the mark; "" of one that no run finetuned.

    Folders of Hugging Face may have an @ in their path, such as `hf:/home/me@site/clip`.
    """
    if not encoder.startswith(HF):
        name, _, mark = encoder.partition(RUN_MARK)
        return name, mark
    match = re.fullmatch(rf"(.+?){RUN_MARK}([^/]+-\d+)", encoder)
    return (match[1], match[2]) if match else (encoder, "")


def precision_of(signature: Signature) -> Precision:
    """Return the precision that a signature names.

    Raises:
        EncoderError: This program has no such precision.
    """
    return cast(Precision, _known(signature, "precision", get_args(Precision)))


def dtype_of(signature: Signature) -> StoreDtype:
    """Return the type of the stored numbers that a signature names.

    Raises:
        EncoderError: This program has no such type.
    """
    return cast(StoreDtype, _known(signature, "dtype", get_args(StoreDtype)))


def _known(
    signature: Signature,
    field: str,
    values: Sequence[str],
) -> str:
    value = getattr(signature, field)
    if value not in values:
        raise EncoderError(
            f"the features of {shortened(signature.encoder)} have the {field} {shortened(repr(value))}, "
            f"which tier4k does not know ({', '.join(values)}): the record is damaged, or of a later version"
        )
    return value


def image_choice(signature: Signature) -> ImageChoice:
    """Return the encoder and all options that make features of a signature."""
    preprocessing, _, size = signature.preparation_name.partition(" at ")
    return ImageChoice(
        encoder=split_run_mark(signature.encoder)[0],
        preprocessing=cast(PreprocessingName, preprocessing),
        image_size=_image_size(size),
        feature="multilevel" if signature.feature_name == "multilevel" else "pooled",
        precision=precision_of(signature),
        crops=_crops(signature.views),
        store_dtype=dtype_of(signature),
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
    weights: Path | ImageEncoderFunction | None = None,
    folders: Sequence[Path] = (),
    rewritten: bool = False,
) -> ImageEncoder:
    """Find the image encoder of a signature.

    Args:
        signature: Signature of the features.
        weights: A file that the user passes, or an encoder in code or its import path; if set, no other place
            is searched.
        folders: Folders that may contain `pretrained/`.
        rewritten: Whether the file was written again with the same tensors, so that its hash is not compared.

    Raises:
        EncoderError: This program does not have the encoder.
        WeightsError: No weights are found.
        SignatureError: The encoder gives other features, for example because its weights differ.
    """
    if is_function(signature.architecture):
        return _function_encoder_of(signature, weights)
    if isinstance(weights, ImageEncoderFunction):
        raise EncoderError(f"the image encoder {signature.encoder} is no function: pass a file of weights")
    encoder = find_image_encoder(image_choice(signature), weights, folders)
    option = "--image-weights DIR" if encoder.preset.library == "transformers" else "--image-weights FILE"
    encoder = replace(encoder, preset=replace(encoder.preset, name=signature.encoder))
    require_signature(signature, encoder.signature, encoder.weights, option, rewritten)
    return encoder


def _function_encoder_of(signature: Signature, given: Path | ImageEncoderFunction | None) -> ImageEncoder:
    function = trusted_function(signature.encoder, recorded_path(signature.architecture), given)
    choice = replace(image_choice(signature), preprocessing=None, image_size=None)
    encoder = function_encoder(function, choice)
    # Where it is imported from says nothing about its values.
    preset = replace(encoder.preset, architecture=signature.architecture)
    encoder = replace(encoder, preset=preset)
    require_signature(signature, encoder.signature, encoder.weights, "--image-weights package.module:NAME")
    return encoder


def text_encoder_of(
    signature: Signature,
    weights: Path | None = None,
    folders: Sequence[Path] = (),
    rewritten: bool = False,
) -> TextEncoder:
    """Find the text encoder of a signature.

    Args:
        signature: Signature of the features.
        weights: A folder that the user passes; if set, no other place is searched.
        folders: Folders that may contain the encoder's folder.
        rewritten: Whether the weights were written again with the same tensors, so that their hash is not
            compared.

    Raises:
        EncoderError: This program does not have the encoder.
        WeightsError: No weights are found.
        SignatureError: The encoder gives other features, for example because its weights differ.
    """
    name = split_run_mark(signature.encoder)[0]
    encoder = find_text_encoder(name, weights, folders, precision_of(signature), dtype_of(signature))
    encoder = replace(encoder, preset=replace(encoder.preset, name=signature.encoder))
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
        found: Signature of the encoder that was found.
        weights: Weights of the encoder that was found.
        option: Command-line option that selects other weights, for the message.
        rewritten: Whether the weights were written again with the same tensors, so that their hash is not
            compared.

    Raises:
        SignatureError: A field differs.
    """
    if rewritten:
        wanted = replace(wanted, weights=weights.sha256)
    differences = found.differences(vars(wanted))
    if not differences:
        return
    lines = [
        f"the {wanted.stream} encoder {wanted.encoder} in {weights.path} differs from the encoder that the "
        "heads were fitted on:"
    ]
    for name, (wanted_value, found_value) in differences.items():
        lines.append(f"  {name}: the heads were fitted on {wanted_value!r}, this encoder has {found_value!r}")
    lines.append(f"Pass the weights of the former with {option}, or extract and fit again with the latter.")
    raise SignatureError("\n".join(lines))
