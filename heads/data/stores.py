"""The feature stores that a head reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.heads.data.encoder_names import by_array_name, named_signatures


@dataclass(frozen=True)
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


def _by_name(stores: Sequence[FeatureStore]) -> dict[str, FeatureStore]:
    store_of = {store.signature: store for store in stores}
    return {name: store_of[signature] for name, signature in by_array_name(store_of).items()}
