"""The feature stores that a head reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import IMAGE_STREAMS, Stream
from tier4k.heads.data.embeddings import Towers, find_towers, require_equal_widths
from tier4k.heads.data.encoder_names import by_array_name, named_signatures
from tier4k.heads.data.interactions import (
    NO_INTERACTION,
    InteractionError,
    needed_embeddings,
    needs_one_checkpoint,
)


@dataclass(frozen=True, repr=False)
class FeatureStores:
    """The stores that a head reads. Make them with `FeatureStores.of`.

    Attributes:
        images: Stores with features of images by the name of the array, sorted by this name; empty if no
            stream uses them.
        texts: Stores with features of text prompts, likewise.
        zero_shot: Stores with zero-shot scores.
    """

    images: Mapping[str, FeatureStore]
    texts: Mapping[str, FeatureStore]
    zero_shot: tuple[FeatureStore, ...] = ()

    def __repr__(self) -> str:
        scores = [store.signature.encoder for store in self.zero_shot]
        names = {"images": self.images, "texts": self.texts, "scores": scores}
        parts = [f"{kind} {', '.join(found)}" for kind, found in names.items() if found]
        return f"<FeatureStores: {'; '.join(parts) or 'none'}>"

    @classmethod
    def of(
        cls,
        images: Sequence[FeatureStore] = (),
        texts: Sequence[FeatureStore] = (),
        zero_shot: Sequence[FeatureStore] = (),
    ) -> "FeatureStores":
        """Name and sort stores.

        Raises:
            StoreError: Two different stores have the same name.
        """
        return cls(_by_name(images), _by_name(texts), tuple(zero_shot))

    @property
    def all(self) -> list[FeatureStore]:
        """All stores of images and texts."""
        return [*self.images.values(), *self.texts.values()]

    @property
    def image_signatures(self) -> dict[str, Signature]:
        """Signatures of the image stores by the name of the array."""
        return {name: store.signature for name, store in self.images.items()}

    @property
    def text_signatures(self) -> dict[str, Signature]:
        """Signatures of the text stores by the name of the array."""
        return {name: store.signature for name, store in self.texts.items()}

    @property
    def signatures(self) -> dict[str, Signature]:
        """Signatures of all stores, as `config.json` names them."""
        signatures = {
            **named_signatures("image", [store.signature for store in self.images.values()]),
            **named_signatures("text", [store.signature for store in self.texts.values()]),
        }
        for store in self.zero_shot:
            signatures[store.signature.encoder] = store.signature
        return signatures

    @property
    def architecture(self) -> str:
        """Architecture of the image encoder; "" if there is not exactly one."""
        if len(self.images) != 1:
            return ""
        (store,) = self.images.values()
        return store.signature.architecture

    def towers(self, interaction: str, stages: Sequence[str] = ()) -> Towers | None:
        """Return the encoders whose embeddings an interaction compares; None for the interaction "none".

        Args:
            interaction: Names of interactions with "+" between them, or "none".
            stages: Names of the levels that are kept of multilevel features.

        Raises:
            InteractionError: As for `find_towers`, or the embeddings differ in width.
        """
        towers = find_towers(self.image_signatures, self.text_signatures, interaction, stages)
        if towers is not None and towers.text is not None and needs_one_checkpoint(interaction):
            require_equal_widths("text", self.texts[towers.text].width, self.images[towers.image].width)
        return towers

    def templates(self, interaction: str, texts: Sequence[str]) -> np.ndarray | None:
        """Return the features (T, E) of the templates that an interaction needs; None if it needs none.

        Args:
            interaction: Names of interactions with "+" between them, or "none".
            texts: The templates.

        Raises:
            InteractionError: As for `require_templates`.
        """
        store = self._template_store(interaction)
        if store is None:
            return None
        self.require_templates(interaction, texts)
        return read_float32(store, key_array(map(text_key, texts)))

    def require_templates(self, interaction: str, texts: Sequence[str]) -> None:
        """Refuse templates whose features are not stored, if an interaction needs templates.

        Raises:
            InteractionError: As for `towers`, or a template is not stored.
        """
        store = self._template_store(interaction)
        if store is None:
            return
        keys = key_array(map(text_key, texts))
        missing = [text for text, is_stored in zip(texts, store.holds(keys), strict=True) if not is_stored]
        if missing or not texts:
            first = f", first {missing[0]!r}" if missing else ""
            raise InteractionError(
                f"{store.path} has no features of {len(missing)} of {len(texts)} templates{first}: run "
                f"`tier extract DATA --encoder {store.signature.encoder} --templates FILE` with the file of "
                "these templates, or without --templates for the built-in ones"
            )

    def _template_store(self, interaction: str) -> FeatureStore | None:
        """Return the store with the features of templates; None if an interaction needs none."""
        if "templates" not in needed_embeddings(interaction):
            return None
        towers = self.towers(interaction)
        assert towers is not None
        assert towers.text is not None
        return self.texts[towers.text]

    def for_streams(self, streams: Sequence[Stream], interaction: str = NO_INTERACTION) -> "FeatureStores":
        """Return only the stores that some streams and an interaction use.

        Raises:
            InteractionError: As for `towers`.
        """
        towers = self.towers(interaction)
        images, texts = self.images, self.texts
        if not set(IMAGE_STREAMS) & set(streams):
            images = {name: store for name, store in images.items() if towers and name == towers.image}
        if "text" not in streams:
            texts = {name: store for name, store in texts.items() if towers and name == towers.text}
        return replace(self, images=images, texts=texts)


def read_float32(store: FeatureStore, keys: np.ndarray) -> np.ndarray:
    """Return the features (M, ...) of keys (M, 32) as float32, in which heads compute, whatever is stored.

    Raises:
        StoreError: Some keys are not stored.
        ShardError: The stored features of a key are damaged.
    """
    return store.read(keys).astype(np.float32, copy=False)


def _by_name(stores: Sequence[FeatureStore]) -> dict[str, FeatureStore]:
    store_of = {store.signature: store for store in stores}
    return {name: store_of[signature] for name, signature in by_array_name(store_of).items()}
