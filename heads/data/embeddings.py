"""Embeddings of rows, from which interactions are computed: by the two towers of one checkpoint.

The map compares any two encoders. Of multilevel features it reads the class token of the last level, or its
mean, if there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.levels import Levels
from tier4k.heads.data.encoder_names import MULTILEVEL, share_weights
from tier4k.heads.data.interactions import (
    InteractionError,
    needed_embeddings,
    needs_one_checkpoint,
    unit_vectors,
)
from tier4k.heads.data.stages import levels_of
from tier4k.heads.data.streams import Part

# Features at which a checkpoint compares images with texts: those of CLIP, and those of SigLIP.
COMPARED_FEATURES = ("projection", "pooled")

REMEDY = (
    "run `tier extract DATA --encoder hf:FOLDER` on a checkpoint with two towers, and pass this --encoder"
)


@dataclass(frozen=True)
class Towers:
    """Names of the arrays of the encoders whose embeddings are compared.

    Attributes:
        image: Name of the image encoder's array.
        text: Name of the text encoder's array; None if no text is compared.
        columns: First and last column, plus 1, of the image encoder's array that are the embedding; None: of
            the array itself.
    """

    image: str
    text: str | None
    columns: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class Embeddings:
    """What interactions need of N rows; None where none needs it. Make it with `Embeddings.of`.

    Attributes:
        image: Embeddings (N, E) of the images; (N, V, E) where V crops of each are stored.
        text: Embeddings (N, E) of the text prompts.
        image_prompt: Embeddings of the image prompts, of the shape of `image`; those of the image itself
            where a row has no image prompt.
        templates: Cosines (N, T) or (N, V, T) of the images to T templates.
    """

    image: np.ndarray | None = None
    text: np.ndarray | None = None
    image_prompt: np.ndarray | None = None
    templates: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        interaction: str,
        image: np.ndarray,
        image_prompt: np.ndarray,
        has_image_prompt: np.ndarray,
        text: np.ndarray | None = None,
        templates: np.ndarray | None = None,
    ) -> "Embeddings":
        """Return what an interaction needs of rows, wherever their features come from.

        Args:
            interaction: Names of interactions with "+" between them.
            image: Features (N, E) or (N, V, E) of the images by the image tower.
            image_prompt: Features of the image prompts, of the same shape.
            has_image_prompt: (N,) bool, whether the row has an image prompt.
            text: Features (N, E) of the text prompts by the text tower.
            templates: Features (T, E) of the templates by the text tower.

        Raises:
            InteractionError: There is no such interaction, or features are missing or differ in width.
        """
        needed = needed_embeddings(interaction)
        given = {"text": text, "templates": templates}
        for name, features in given.items():
            if name not in needed:
                continue
            if features is None:
                raise InteractionError(f"the {name} embeddings are missing: {REMEDY}")
            if needs_one_checkpoint(interaction):
                require_equal_widths(name, features.shape[-1], image.shape[-1])
        own = has_image_prompt.reshape(-1, *[1] * (image.ndim - 1))
        return cls(
            image=image if "image" in needed else None,
            text=text if "text" in needed else None,
            image_prompt=np.where(own, image_prompt, image) if "image-prompt" in needed else None,
            templates=_cosines(image, given["templates"]) if "templates" in needed else None,
        )

    def parts(self) -> Iterator[tuple[Part, np.ndarray]]:
        """Yield the last parts of fused vectors with their columns, in their order."""
        embeddings = {"image": self.image, "text": self.text, "image-prompt": self.image_prompt}
        for name, vectors in embeddings.items():
            if vectors is not None:
                yield Part("embedding", name, vectors.shape[-1]), vectors
        if self.templates is not None:
            yield Part("templates", "", self.templates.shape[-1]), self.templates


def find_towers(
    images: Mapping[str, Signature],
    texts: Mapping[str, Signature],
    interaction: str,
    stages: Sequence[str] = (),
) -> Towers | None:
    """Return the encoders whose embeddings an interaction compares; None for the interaction "none".

    An image encoder and a text encoder are of one checkpoint if name and weights are equal. The map alone
    compares the first image encoder with the first text encoder.

    Args:
        images: Signatures of image features by the name of the array.
        texts: Signatures of text features, likewise.
        interaction: Names of interactions with "+" between them, or "none".
        stages: Names of the levels that are kept of multilevel features.

    Raises:
        InteractionError: There is no such interaction, or there are none or several such encoders.
    """
    needed = needed_embeddings(interaction)
    if not needed:
        return None
    if not needs_one_checkpoint(interaction):
        return _mapped_towers(images, texts, stages)
    towers = [name for name, signature in images.items() if signature.feature_name in COMPARED_FEATURES]
    pairs = [
        Towers(image, text)
        for image in towers
        for text, signature in texts.items()
        if _of_one_checkpoint(images[image], signature)
    ]
    if len(towers) == 1 and not {"text", "templates"} & set(needed):
        return Towers(towers[0], None)
    if len(pairs) == 1:
        return pairs[0]
    if pairs:
        names = ", ".join(f"{pair.image} with {pair.text}" for pair in pairs)
        raise InteractionError(
            f"interaction={interaction} compares the embeddings of one checkpoint, and there are several "
            f"pairs of encoders: {names}; pass only one of them"
        )
    raise InteractionError(
        f"interaction={interaction} needs an image encoder and a text encoder of one checkpoint, and there "
        f"are {', '.join(images) or 'no image encoder'} and {', '.join(texts) or 'no text encoder'}: {REMEDY}"
    )


def _mapped_towers(
    images: Mapping[str, Signature],
    texts: Mapping[str, Signature],
    stages: Sequence[str],
) -> Towers:
    """Return the first encoder of images and of texts.

    Raises:
        InteractionError: There is none of one kind.
    """
    if not (images and texts):
        raise InteractionError(
            "interaction=map needs an image encoder and a text encoder: use rows with prompts, or leave the "
            "map out"
        )
    name, signature = next(iter(images.items()))
    if signature.feature_name != MULTILEVEL:
        return Towers(name, next(iter(texts)))
    levels = Levels.parse(signature.feature)
    kept = levels_of(stages, name, len(images)) or levels.names
    widths = dict(zip(levels.names, levels.widths, strict=True))
    start = len(levels.statistics) * sum(widths[level] for level in kept[:-1])
    return Towers(name, next(iter(texts)), (start, start + widths[kept[-1]]))


def _of_one_checkpoint(image: Signature, text: Signature) -> bool:
    is_compared = text.feature_name in COMPARED_FEATURES
    return is_compared and share_weights(image, text)


def require_equal_widths(
    name: str,
    width: int,
    image_width: int,
) -> None:
    """Refuse embeddings whose width differs from that of the images' embeddings.

    Raises:
        InteractionError: The message names both widths.
    """
    if width != image_width:
        raise InteractionError(
            f"the {name} embeddings have {width} numbers and those of the images {image_width}, so they "
            f"cannot be compared: {REMEDY}"
        )


def _cosines(image: np.ndarray, templates: np.ndarray | None) -> np.ndarray:
    """Return the cosines (..., T) of images (..., E) to templates (T, E), in the type of the images."""
    assert templates is not None
    return (unit_vectors(image) @ unit_vectors(templates).T).astype(image.dtype)
