"""Fusion: make one vector for each row from text, image and image prompt (TIER-NR, TIER-FR, TIER-PR)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar, get_args

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import STREAMS, Benchmark, Stream
from tier4k.extract.datasets.streams import ALL, parse_streams
from tier4k.heads.data.choices import Method
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.interactions import NO_INTERACTION, Interactions, needed_embeddings
from tier4k.heads.data.streams import Part, Streams

if TYPE_CHECKING:
    from torch import Tensor

Features = TypeVar("Features", np.ndarray, "Tensor")

# The streams of each method, in the order of the columns.
STREAMS_OF: dict[Method, tuple[Stream, ...]] = {
    "nr": ("text", "image"),
    "fr": ("text", "image", "image-prompt"),
    "pr": ("text", "image"),
}


class FusionError(TierError):
    """The rows do not allow the fusion method, or the method has no such stream."""


class Fused(NamedTuple):
    """The fused vectors of N rows.

    Attributes:
        X: Fused vectors (N, d), or (N, V, d) where V crops of each image are stored.
        streams: The columns of each stream.
    """

    X: np.ndarray
    streams: Streams


def fuse(
    features: FeatureSet,
    method: Method,
    streams: Sequence[Stream] = (),
) -> Fused:
    """Return the fused vectors of a TIER method, and the columns of each stream.

    nr: [text, image]. fr: [text, image, image prompt], the latter for rows that all have an image prompt.
    pr: [text, mean of image and image prompt]; without an image prompt, the image itself.
    Each stream is the concatenation of the arrays of its encoders. Zero-shot scores follow, if any, and then
    the embeddings that interactions are computed from, which are those of the image itself for any method.

    Args:
        features: Features of the rows.
        method: Name of the fusion method.
        streams: The streams of the method to use; an empty sequence uses all.

    Raises:
        FusionError: The method or the stream does not exist, or the stream is "image-prompt" and rows have no
            image prompt.
    """
    used = used_streams(method, streams)
    if "image-prompt" in used:
        _require_image_prompts(features)
    arrays: dict[Stream, Mapping[str, np.ndarray]] = {
        "text": features.text,
        **_image_streams(features, method),
    }
    parts: list[Part] = []
    columns: list[np.ndarray] = []
    for stream in used:
        for name, array in arrays[stream].items():
            parts.append(Part(stream, name, array.shape[-1]))
            columns.append(array)
    if features.zero_shot is not None:
        parts.append(Part("zero-shot", "", features.zero_shot.shape[-1]))
        columns.append(features.zero_shot)
    if features.embeddings is not None:
        for part, array in features.embeddings.parts():
            parts.append(part)
            columns.append(array)
    return Fused(_concatenate(columns), Streams(tuple(parts)))


def interact(fused: Fused, interaction: str) -> Fused:
    """Replace the embeddings of fused vectors by the columns of an interaction, as every head does.

    Raises:
        InteractionError: There is no such interaction, or the vectors lack an embedding that it needs.
    """
    X = fused.X
    transformer = Interactions(interaction, fused.streams)
    columns = transformer.fit_transform(X.reshape(-1, X.shape[-1]))
    return Fused(columns.reshape(*X.shape[:-1], -1), transformer.output_streams())


def used_streams(method: Method, streams: Sequence[Stream] = ()) -> tuple[Stream, ...]:
    """Return the streams of a fused vector, in the order of the columns.

    Args:
        method: Name of the fusion method.
        streams: The streams to use; an empty sequence uses all.

    Raises:
        FusionError: The method does not exist, or has no such stream.
    """
    if method not in STREAMS_OF:
        raise FusionError(f"there is no method {method!r}: use one of {', '.join(get_args(Method))}")
    available = STREAMS_OF[method]
    unknown = [stream for stream in streams if stream not in available]
    if unknown:
        remedy = "use some of these"
        if "image-prompt" in unknown:
            remedy += ", or the method fr, which has image-prompt"
        raise FusionError(
            f"the method {method} has no stream {', '.join(unknown)}: its streams are "
            f"{', '.join(available)}; {remedy}"
        )
    return tuple(stream for stream in available if not streams or stream in streams)


def existing_streams(
    method: Method,
    streams: tuple[Stream, ...],
    have_prompts: bool,
) -> tuple[Stream, ...]:
    """Return the streams of a method that rows have: without text prompts, "all" means those of images.

    Args:
        method: Name of the fusion method.
        streams: The streams to use; an empty tuple uses all.
        have_prompts: Whether the rows have text prompts.

    Raises:
        FusionError: As for `used_streams`.
    """
    if have_prompts or streams:
        return streams
    return tuple(stream for stream in used_streams(method) if stream != "text")


def encoder_kinds(method: Method, streams: Sequence[Stream] = ()) -> tuple[str, ...]:
    """Return which encoders the streams need: "image", "text" or both.

    The arguments and the errors are those of `used_streams`.
    """
    kinds = ["text" if stream == "text" else "image" for stream in used_streams(method, streams)]
    return tuple(sorted(set(kinds)))


def needed_inputs(
    method: Method,
    streams: Sequence[Stream] = (),
    interaction: str = NO_INTERACTION,
) -> tuple[Stream, ...]:
    """Return the inputs whose features heads use, in a stream or in an interaction.

    Raises:
        FusionError: As for `used_streams`.
        InteractionError: There is no such interaction.
    """
    used = used_streams(method, streams)
    needed = {*used, *needed_embeddings(interaction)}
    if "templates" in needed:
        needed.add("image")  # which the templates are compared with
    if method == "pr" and "image" in used:
        needed.add("image-prompt")  # of which the stream is the mean with the image
    return tuple(stream for stream in STREAMS if stream in needed)


def method_streams(text: str, method: Method) -> tuple[Stream, ...]:
    """Return the streams of a text such as "image+text", in the order of the columns.

    Args:
        text: Names of streams with "+" between them, or "all".
        method: Name of the fusion method.

    Returns:
        The streams; an empty tuple if they are all streams of the method.

    Raises:
        DataError: A name is no stream, or is repeated.
        FusionError: The method has no such stream.
    """
    streams = used_streams(method, () if text == ALL else parse_streams(text))
    return () if streams == STREAMS_OF[method] else streams


def _image_streams(
    features: FeatureSet,
    method: Method,
) -> dict[Stream, dict[str, np.ndarray]]:
    """Return the arrays of the streams "image" and "image-prompt", as the method fuses them."""
    images: dict[str, np.ndarray] = {}
    image_prompts: dict[str, np.ndarray] = {}
    for name, image in features.image.items():
        # The image replaces a missing image prompt: the mean of both is then the image itself.
        has_image_prompt = features.has_image_prompt.reshape(-1, *[1] * (image.ndim - 1))
        image_prompt = np.where(has_image_prompt, features.image_prompt[name], image)
        images[name], *rest = image_parts(method, image, image_prompt)
        image_prompts[name] = rest[0] if rest else image_prompt
    return {"image": images, "image-prompt": image_prompts}


def image_parts(
    method: Method,
    image: Features,
    image_prompt: Features,
) -> list[Features]:
    """Return the image, and for full reference also the image prompt, as a method fuses them.

    Args:
        method: Name of the fusion method.
        image: (..., Di) features of the images, as arrays or tensors.
        image_prompt: (..., Di) features of the image prompts; equal to `image` if a row has no image prompt.
    """
    if method == "nr":
        return [image]
    if method == "fr":
        return [image, image_prompt]
    return [(image + image_prompt) / 2]


def fused_parts(
    method: Method,
    streams: Sequence[Stream],
    text: "Tensor | None",
    image: "Tensor | None",
    image_prompt: "Tensor | None",
) -> "list[Tensor]":
    """Return the parts of fused vectors of end-to-end training, in the order of the columns.

    Args:
        method: Name of the fusion method.
        streams: The streams of the method to use; an empty sequence uses all.
        text, image, image_prompt: Features (B, D) as for `image_parts`; None if no stream uses them.
    """
    parts: dict[Stream, Tensor] = {}
    if text is not None:
        parts["text"] = text
    if image is not None and image_prompt is not None:
        parts["image"], *rest = image_parts(method, image, image_prompt)
        if rest:
            parts["image-prompt"] = rest[0]
    return [parts[stream] for stream in used_streams(method, streams)]


def _concatenate(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays (N, D) and (N, V, D); those without crops are repeated for every crop."""
    crops = max((array.shape[1:-1] for array in columns), key=len)
    return np.concatenate([_repeat_for_crops(array, crops) for array in columns], axis=-1)


def _repeat_for_crops(rows: np.ndarray, crops: tuple[int, ...]) -> np.ndarray:
    """Repeat vectors (N, D) for every crop: return (N, *crops, D)."""
    missing_axes = [1] * (len(crops) + 2 - rows.ndim)
    with_axes = rows.reshape(len(rows), *missing_axes, *rows.shape[1:])
    return np.broadcast_to(with_axes, (len(rows), *crops, rows.shape[-1]))


def require_valid_benchmark(method: Method, benchmark: Benchmark) -> None:
    """Refuse full reference where rows without an image prompt take part.

    Raises:
        FusionError: The method is "fr" and the benchmark has rows without an image prompt.
    """
    if method == "fr" and benchmark != "I2I":
        raise FusionError(
            f"the method fr needs an image prompt in every row, and {benchmark} has rows without one: "
            "use the benchmark I2I, or the method pr, which uses image prompts if they exist"
        )


def default_benchmark(method: Method) -> Benchmark:
    """Return the widest benchmark that a method allows."""
    return "I2I" if method == "fr" else "all"


def _require_image_prompts(features: FeatureSet) -> None:
    rows_without = np.flatnonzero(~features.has_image_prompt)
    if len(rows_without):
        raise FusionError(
            f"full reference (fr) needs an image prompt in every row; {len(rows_without)} of {len(features)} "
            f"rows have none, first {features.name[rows_without[0]]}: use the I2I benchmark, or partial "
            "reference (pr)"
        )
