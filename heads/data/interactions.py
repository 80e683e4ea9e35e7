"""Interactions of image and text: columns of fused vectors that compare the two.

With the embeddings i of the image, t of the text prompt and p of the image prompt, each divided by its
length, an interaction is one or more of
- "cosine": i't, one column;
- "product": the elementwise product of i and t, a column for each dimension, whose sum is the cosine;
- "templates": i'u for the embedding u of each template, a text about quality or agreement (the idea of
  CLIP-IQA; Wang, Chan & Loy, AAAI 2023), a column for each template;
- "image-prompt": i'p, one column; 1 where a row has no image prompt, as the image replaces it;
- "map": the cosine of i with the image that is predicted for t by a map, which is fitted to training rows, so
  that i and t may be of any two encoders (see `tier4k.heads.data.prompt_map`); one column.

`tier4k.heads.data.fusion.fuse` appends the embeddings to the fused vectors, with the cosines to templates in
the place of the templates' embeddings. In a head, `Interactions` replaces them by the columns above, so that
no regressor reads them.
"""

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from tier4k.cache.errors import TierError
from tier4k.heads.data.prompt_map import PromptMap, fit_prompt_map
from tier4k.heads.data.streams import Part, Streams

NO_INTERACTION: Final = "none"

# The embeddings that each interaction is computed from, in the order of the columns.
EMBEDDINGS_OF: dict[str, tuple[str, ...]] = {
    "cosine": ("image", "text"),
    "product": ("image", "text"),
    "templates": ("templates",),
    "image-prompt": ("image", "image-prompt"),
    "map": ("image", "text"),
}

INTERACTIONS = tuple(EMBEDDINGS_OF)

EMBEDDED = ("image", "text", "image-prompt")  # what a row has an embedding of

WIDTHS = "interaction.widths"  # name of the tensor (5,): columns of features, `EMBEDDED`, templates

LEAST_PROMPTS = 3  # of a map: one is left out, and the mean of the others must differ from each

MAP = "interaction.map."  # prefix of the names of the tensors of the map


class InteractionError(TierError, ValueError):
    """An interaction does not exist, or its embeddings are missing."""


def parse_interaction(text: str) -> tuple[str, ...]:
    """Return the interactions of a text such as "cosine+product", in the order of the columns.

    Args:
        text: Names of interactions with "+" between them, or "none".

    Raises:
        InteractionError: There is no such interaction, or one is named twice.
    """
    names = [] if text == NO_INTERACTION else text.split("+")
    if len(set(names)) < len(names) or not set(names) <= set(INTERACTIONS):
        raise InteractionError(
            f"interaction is {text!r}, which is not valid: use none, or some of {', '.join(INTERACTIONS)} "
            "with + between them"
        )
    return tuple(name for name in INTERACTIONS if name in names)


def needed_embeddings(interaction: str) -> tuple[str, ...]:
    """Return what an interaction needs embeddings of: some of `EMBEDDED` and "templates", in this order.

    Raises:
        InteractionError: There is no such interaction.
    """
    needed = {name for kind in parse_interaction(interaction) for name in EMBEDDINGS_OF[kind]}
    return tuple(name for name in (*EMBEDDED, "templates") if name in needed)


def needs_one_checkpoint(interaction: str) -> bool:
    """Whether an interaction compares embeddings with each other, which must be of one space.

    Raises:
        InteractionError: There is no such interaction.
    """
    return bool(set(parse_interaction(interaction)) - {"map"})


class Interactions(TransformerMixin, BaseEstimator):
    """Replaces the embeddings at the end of fused vectors by the columns of an interaction.

    `fit` learns the layout of the columns, and the map, if it is one of the interactions. The map has seen
    the training rows, so that `fit_transform` compares each of them with what the other prompts predict;
    otherwise the columns of a row depend on this row alone.

    Args:
        interaction: Names of interactions with "+" between them, or "none", which leaves the embeddings out.
        streams: The streams of the columns; None for vectors without embeddings.

    Attributes:
        n_features_in_: Number of columns with the embeddings.
        map_: The fitted map; None without it.
    """

    map_: PromptMap | None = None

    def __init__(self, interaction: str = NO_INTERACTION, streams: Streams | None = None) -> None:
        self.interaction = interaction
        self.streams = streams

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Self:
        """Fit to fused vectors X (N, d): see `fit_transform`."""
        self.fit_transform(X, y, groups)
        return self

    def fit_transform(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> np.ndarray:
        """Find the embeddings in fused vectors X (N, d), fit the map, and replace embeddings by columns.

        Args:
            X: Fused vectors; of the training rows, if there is a map.
            y: (N,) scores, which only the map reads.
            groups: (N,) prompt of each row, which only the map reads; None: equal texts are of one prompt.

        Raises:
            InteractionError: There is no such interaction, X lacks an embedding or a stream that it needs, or
                there are too few prompts or no scores for a map.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        streams = self.streams or Streams.of(image=X.shape[1])
        if streams.width != X.shape[1]:
            raise InteractionError(
                f"the streams have {streams.width} columns, but X has {X.shape[1]}: pass the streams of X"
            )
        self._set_layout(_layout(streams))
        self.map_ = None
        if not self.reads_scores:
            return self.transform(X)
        images, texts = X[:, self._columns["image"]], X[:, self._columns["text"]]
        self.map_, cosines = fit_prompt_map(images, texts, *_taught(texts, y, groups))
        return self._replaced(X, cosines)

    def _set_layout(self, columns: dict[str, slice]) -> None:
        """Take over the columns of the features and of each embedding, and check what is there."""
        names = parse_interaction(self.interaction)
        if missing := _missing(self.interaction, columns):
            raise InteractionError(
                f"interaction={self.interaction} needs embeddings ({', '.join(missing)}) at the end of the "
                "fused vectors: pass the interaction to load_features, and the streams of the fused vectors "
                "to fit"
            )
        self._names = names
        self._columns = columns
        self.n_features_in_ = columns["templates"].stop

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the features of fused vectors X (N, d), and the columns of the interaction after them."""
        check_is_fitted(self, "_columns")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if not self.changes:
            return X
        images, texts = X[:, self._columns["image"]], X[:, self._columns["text"]]
        return self._replaced(X, None if self.map_ is None else self.map_.cosines(images, texts))

    def _replaced(self, X: np.ndarray, mapped: np.ndarray | None) -> np.ndarray:
        """Return the features of X (N, d), and the columns of the interaction; those of the map are given."""
        columns = [X[:, self._columns["features"]]]
        for name in self._names:
            computed = mapped if name == "map" else self._computed(name, X)
            assert computed is not None
            columns.append(computed.astype(X.dtype, copy=False))
        return np.concatenate(columns, axis=1)

    def _computed(self, name: str, X: np.ndarray) -> np.ndarray:
        """Return the columns (N, k) of one interaction, float64."""
        if name == "templates":
            return X[:, self._columns["templates"]]
        first, second = (unit_vectors(X[:, self._columns[part]]) for part in EMBEDDINGS_OF[name])
        products = first * second
        return products if name == "product" else products.sum(axis=1, keepdims=True)

    @property
    def changes(self) -> bool:
        """Whether it was fitted to vectors with embeddings, which `transform` replaces."""
        return hasattr(self, "_columns") and _width(self._columns["features"]) < self.n_features_in_

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fitted interactions, in the order of their columns."""
        return self._names

    @property
    def columns(self) -> dict[str, slice]:
        """The columns of the features, of each embedding and of the cosines to templates in fused vectors."""
        return self._columns

    @property
    def reads_scores(self) -> bool:
        """Whether the columns depend on the training rows and their scores."""
        return "map" in parse_interaction(self.interaction)

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors that `restore` reads; none if vectors stay as they are."""
        if not self.changes:
            return {}
        tensors = {WIDTHS: np.array([_width(columns) for columns in self._columns.values()])}
        if self.map_ is not None:
            tensors |= {MAP + name: values for name, values in self.map_.tensors.items()}
        return tensors

    @classmethod
    def restore(
        cls,
        interaction: str,
        weights: Mapping[str, np.ndarray],
        width: int,
    ) -> "Interactions":
        """Restore the fitted transformer of a head.

        Args:
            interaction: Names of the interactions.
            weights: Tensors of the head.
            width: Number of columns after the transformer.

        Raises:
            ValueError: A tensor is missing, or does not fit the interaction or the width.
        """
        widths = weights.get(WIDTHS, np.array([width, 0, 0, 0, 0]))
        restored = cls(interaction)
        if widths.shape == (5,) and widths.dtype.kind == "i" and (widths >= 0).all():
            columns = _consecutive(widths.tolist())
            if not _missing(interaction, columns):
                restored._set_layout(columns)
                restored.map_ = _restored_map(weights, restored)
                if restored.output_streams().width == width:
                    return restored
        raise ValueError(
            f"not the weights of a head with interaction={interaction} on {width} columns: {WIDTHS} is "
            f"{widths.tolist()}"
        )

    def output_streams(self) -> Streams:
        """Return the streams of transformed vectors; without `streams`, features count as those of images."""
        streams = self.streams or Streams.of(image=_width(self._columns["features"]))
        parts = [part for part in streams.parts if _layout_key(part) == "features"]
        return Streams((*parts, *(Part("interaction", name, self._width(name)) for name in self._names)))

    def _width(self, name: str) -> int:
        """Return the number of columns of one interaction."""
        if name == "templates":
            return _width(self._columns["templates"])
        return _width(self._columns["image"]) if name == "product" else 1

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the columns of transformed vectors, such as "x0" or "cosine", "product 0".

        Args:
            input_features: Names (d,) of the columns of fused vectors; None for "x0", "x1" and so on.
        """
        check_is_fitted(self, "_columns")
        if input_features is None:
            input_features = [f"x{number}" for number in range(self.n_features_in_)]
        names = [str(name) for name in input_features[self._columns["features"]]]
        for name in self._names:
            width = self._width(name)
            names += (
                [name] if name in ("cosine", "image-prompt", "map") else [f"{name} {i}" for i in range(width)]
            )
        return np.array(names, dtype=object)


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Divide vectors (..., D) by their lengths, float64; a vector of zeros stays one."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def without_interactions(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a head without those of its interactions."""
    return {name: values for name, values in weights.items() if name != WIDTHS and not name.startswith(MAP)}


def _taught(
    texts: np.ndarray,
    y: np.ndarray | None,
    groups: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (N,) and prompts (N,) of training rows, from which a map can be fitted.

    Raises:
        InteractionError: There are no scores, or fewer than `LEAST_PROMPTS` prompts.
    """
    if y is None:
        raise InteractionError("interaction=map is fitted to scores: use it in a head, or pass the scores")
    if groups is None:
        groups = np.unique(texts, axis=0, return_inverse=True)[1].ravel()
    count = len(np.unique(groups))
    if count < LEAST_PROMPTS:
        raise InteractionError(
            f"interaction=map needs {LEAST_PROMPTS} prompts or more in training, and there are {count}: use "
            "more prompts, or leave the map out"
        )
    return y, groups


def _restored_map(weights: Mapping[str, np.ndarray], interactions: Interactions) -> PromptMap | None:
    """Restore the map of a head from its tensors; None if its interactions have none."""
    tensors = {}
    for name, values in weights.items():
        if name.startswith(MAP):
            tensors[name.removeprefix(MAP)] = values
    if not interactions.reads_scores:
        return None
    found = PromptMap.restore(tensors)
    read = {"image": len(found.image_mean), "text": found.texts.shape[1]}
    for name, width in read.items():
        if _width(interactions._columns[name]) != width:
            raise ValueError(f"the map reads {width} columns of the {name}, and the head has others")
    return found


def _layout(streams: Streams) -> dict[str, slice]:
    """Return the columns of the features, of each embedding and of the cosines to templates.

    Raises:
        InteractionError: Embeddings are not the last columns, or are in another order.
    """
    widths = dict.fromkeys(("features", *EMBEDDED, "templates"), 0)
    found = []
    for part in streams.parts:
        key = _layout_key(part)
        widths[key] += part.width
        found.append(list(widths).index(key))
    if found != sorted(found):
        raise InteractionError(f"embeddings are not the last columns of {streams}: make X with fuse")
    return _consecutive(list(widths.values()))


def _missing(interaction: str, columns: dict[str, slice]) -> list[str]:
    """Return the names of embeddings that an interaction needs and that have no columns."""
    return [name for name in needed_embeddings(interaction) if not _width(columns[name])]


def _layout_key(part: Part) -> str:
    if part.stream == "embedding":
        return part.name
    return "templates" if part.stream == "templates" else "features"


def _consecutive(widths: list[int]) -> dict[str, slice]:
    """Return the columns by name, given the number of columns of each."""
    columns = {}
    start = 0
    for name, width in zip(("features", *EMBEDDED, "templates"), widths, strict=True):
        columns[name] = slice(start, start + width)
        start += width
    return columns


def _width(columns: slice) -> int:
    return columns.stop - columns.start
