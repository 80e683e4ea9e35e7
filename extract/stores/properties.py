"""The properties in which stores of one encoder may differ, and their defaults.

A property has the name of its field in `ImageChoice`, its values are texts, as a signature holds them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tier4k.cache.signature import USUAL_DTYPE, Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.function import is_function
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.presets import IMAGE_PRESETS
from tier4k.extract.images.crops import CENTRE_CROP

CROPPED = "the encoder's"  # image size of a store whose images were cropped to the size of the encoder

USUAL = {
    "image_size": CROPPED,
    "feature": "pooled",
    "precision": "fp32",
    "crops": str(CENTRE_CROP),
    "store_dtype": USUAL_DTYPE,
}


@dataclass(frozen=True)
class Difference:
    """A property in which a store differs from the request.

    Attributes:
        name: Name of the property, such as "image_size".
        stored: Value in the store.
        requested: Value that the user requested.
    """

    name: str
    stored: str
    requested: str

    def __str__(self) -> str:
        """Return the difference as part of a message."""
        return f"{self.name.replace('_', ' ')} is {self.stored!r} instead of {self.requested!r}"


def properties_of(signature: Signature) -> dict[str, str]:
    """Return the properties of a store."""
    shared = {"precision": signature.precision, "store_dtype": signature.dtype}
    if signature.stream != "image":
        return shared
    preprocessing, _, size = signature.preparation_name.partition(" at ")
    return {
        "preprocessing": preprocessing,
        "image_size": size or CROPPED,
        "feature": "multilevel" if signature.feature_name == "multilevel" else "pooled",
        **shared,
        "crops": signature.views,
    }


def passed_properties(image: ImageChoice) -> dict[str, str]:
    """Return the properties that the user chose for an image encoder, but for its crops."""
    names = ("preprocessing", "image_size", "feature", "precision", "store_dtype")
    values = {name: getattr(image, name) for name in names}
    return {name: str(value) for name, value in values.items() if value is not None}


def unusual_properties(store: FeatureStore, usual: Mapping[str, str]) -> dict[str, str]:
    """Return the properties of a store that do not have their default.

    Args:
        store: The store.
        usual: Values that replace those of `USUAL`.
    """
    signature = store.signature
    defaults = {"preprocessing": _default_preprocessing(signature), **USUAL, **usual}
    return {name: value for name, value in properties_of(signature).items() if value != defaults[name]}


def nearest_to_defaults(
    stores: Iterable[FeatureStore],
    left_open: Iterable[str],
    usual: Mapping[str, str],
) -> list[FeatureStore]:
    """Return the stores that have the default of every property for which another store has it.

    A store with all defaults is the nearest. Of a store of other features and a store of another image size,
    none is nearer: then no store is returned.

    Args:
        stores: Stores of one encoder.
        left_open: Properties that the user did not choose.
        usual: Values that replace those of `USUAL`.
    """
    names = set(left_open)
    unusual = {store.path: names & unusual_properties(store, usual).keys() for store in stores}
    return [store for store in stores if all(unusual[store.path] <= other for other in unusual.values())]


def _default_preprocessing(signature: Signature) -> str:
    if is_function(signature.architecture):  # it states its preprocessing itself
        return signature.preparation_name
    preset = IMAGE_PRESETS.get(signature.encoder.partition("@")[0])  # a finetuned encoder is NAME@RUN
    return preset.default_preprocessing if preset else "native"
