"""From the encoders that a user names to the stores of their features, without networks and weights."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import stores
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.presets import image_preset, text_preset
from tier4k.extract.scorers.presets import scorer_preset


@dataclass(frozen=True)
class Difference:
    """A property in which a store differs from the request.

    Attributes:
        name: Of the property.
        stored: Its value in the store.
        requested: The value that was requested.
    """

    name: str
    stored: str
    requested: str

    def __str__(self) -> str:
        """Return it for a message."""
        return f"{self.name} is {self.stored!r}, asked for {self.requested!r}"


def find_stores(
    root: Path,
    image: ImageChoice,
    text_encoder: str,
) -> tuple[FeatureStore, FeatureStore]:
    """Return the image store and the text store of two encoders.

    Args:
        root: Folder of stores.
        image: The image encoder, by name or by the folder name of its store, and properties of its features.
        text_encoder: A name as for extraction, or the folder name of a store.

    Raises:
        EncoderError: There is no such encoder.
        StoreError: No store or several stores fit; the message lists the stores and the remedy.
    """
    available = list(stores(root))
    folders = {store.path.name for store in available}
    if image.encoder not in folders:
        image_preset(image.encoder)
    if text_encoder not in folders:
        text_preset(text_encoder)

    def image_differences(store: FeatureStore) -> list[Difference]:
        """Return the differences from the image encoder."""
        return _image_differences(store, image)

    images = _only_fitting_store(root, available, "image", image_differences, _image_options(image))
    precision: str | None = image.precision
    if precision is None and text_encoder not in folders and _is_ambiguous_text(available, text_encoder):
        # Both encoders of one extraction have one precision.
        precision = cast(Precision, images.signature.precision)

    def text_differences(store: FeatureStore) -> list[Difference]:
        """Return the differences from the text encoder."""
        return _text_differences(store, text_encoder, precision)

    options = f"--text-encoder {text_encoder}"
    if precision:
        options += f" --precision {precision}"
    return images, _only_fitting_store(root, available, "text", text_differences, options)


def parse_scorer_names(text: str) -> tuple[str, ...]:
    """Return the scorers that a user lists as "imagereward,pickscore"; "" is none."""
    names = map(str.strip, text.split(","))
    return tuple(filter(None, names))


def find_score_stores(root: Path, scorers: Sequence[str]) -> tuple[FeatureStore, ...]:
    """Return the stores of zero-shot scores of these scorers, each a name or the folder name of a store.

    Raises:
        EncoderError: There is no such scorer.
        StoreError: No store or several stores fit, or two are of one scorer; the message lists the stores and
            the remedy.
    """
    available = _of_stream(stores(root), "score")
    found: dict[str, FeatureStore] = {}
    for name in dict.fromkeys(scorers):
        store = _score_store(root, available, name)
        other = found.setdefault(store.signature.encoder, store)  # a run names its scores by their scorers
        if other.path != store.path:
            names = f"{other.path.name} and {store.path.name}"
            raise StoreError(f"{names} are both of {store.signature.encoder}: name one of them")
    return tuple(found.values())


def _score_store(
    root: Path,
    available: Sequence[FeatureStore],
    name: str,
) -> FeatureStore:
    fitting = [store for store in available if name in (store.path.name, store.signature.encoder)]
    if not fitting:
        scorer_preset(name)
        listed = ", ".join(store.path.name for store in available) or "none"
        raise StoreError(
            f"{root} has no scores of {name}; its stores of scores: {listed}.\n"
            f"Run `tier score DATA --scorer {name} --features {root}` first."
        )
    if len(fitting) > 1:
        raise StoreError(
            f"{len(fitting)} stores in {root} are of {name}:\n"
            f"{_list_distinctions(fitting)}\n"
            "Name one of these folders instead."
        )
    return fitting[0]


def _only_fitting_store(
    root: Path,
    available: Sequence[FeatureStore],
    stream: str,
    differences: Callable[[FeatureStore], list[Difference]],
    options: str,
) -> FeatureStore:
    of_stream = _of_stream(available, stream)
    fitting = [store for store in of_stream if not differences(store)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StoreError(
            f"{len(fitting)} stores in {root} are of {options}:\n"
            f"{_list_distinctions(fitting)}\n"
            f"Name one of these folders as --{stream}-encoder."
        )
    lines = []
    for store in of_stream:
        reasons = "; ".join(map(str, differences(store)))
        lines.append(f"  {store.path.name} ({reasons})")
    listed = "\n".join(lines) or "  none"
    raise StoreError(
        f"{root} has no {stream} features of {options}. Its {stream} stores are:\n"
        f"{listed}\n"
        f"Run `tier extract DATA --features {root} {options}` first."
    )


def _image_differences(store: FeatureStore, image: ImageChoice) -> list[Difference]:
    requested = {
        "preparation": image.preprocessing,
        "image size": image.image_size,
        "feature": image.feature,
        "precision": image.precision,
        "views": image.crops,
    }
    stored = _image_properties(store.signature)
    found = _encoder_differences(store, image.encoder)
    for name, value in requested.items():
        if value is not None and str(value) != stored[name]:
            found.append(Difference(name, stored[name], str(value)))
    return found


def _image_properties(signature: Signature) -> dict[str, str]:
    """Return the properties by which image stores of one encoder differ, named as in the signature."""
    preprocessing, _, size = signature.preparation_name.partition(" at ")
    multilevel = signature.feature_name == "multilevel"
    return {
        "preparation": preprocessing,
        "image size": size or "the encoder's",
        "feature": "multilevel" if multilevel else "pooled",
        "precision": signature.precision,
        "views": signature.views,
    }


def _text_differences(
    store: FeatureStore,
    encoder: str,
    precision: str | None,
) -> list[Difference]:
    found = _encoder_differences(store, encoder)
    stored = store.signature.precision
    if precision is not None and stored != precision and encoder != store.path.name:
        found.append(Difference("precision", stored, precision))
    return found


def _is_ambiguous_text(available: Sequence[FeatureStore], encoder: str) -> bool:
    fitting = 0
    for store in _of_stream(available, "text"):
        if not _encoder_differences(store, encoder):
            fitting += 1
    return fitting > 1


def _of_stream(available: Iterable[FeatureStore], stream: str) -> list[FeatureStore]:
    return [store for store in available if store.signature.stream == stream]


def _encoder_differences(store: FeatureStore, encoder: str) -> list[Difference]:
    stored = store.signature.encoder
    if encoder in (store.path.name, stored):
        return []
    return [Difference("encoder", stored, encoder)]


def _image_options(image: ImageChoice) -> str:
    """Return the options of `tier extract` that request this."""
    options = {
        "image-encoder": image.encoder,
        "preprocessing": image.preprocessing,
        "image-size": image.image_size,
        "feature": image.feature,
        "precision": image.precision,
    }
    if image.crops:
        options["crops"] = image.crops.count
        options["crops-seed"] = image.crops.seed or None
    return " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)


def _list_distinctions(fitting: Sequence[FeatureStore]) -> str:
    lines = [f"  {store.path.name}: {_distinction(store, fitting)}" for store in fitting]
    return "\n".join(lines)


def _distinction(store: FeatureStore, others: Sequence[FeatureStore]) -> str:
    """Return the signature's fields in which stores differ, with the values of one store."""
    fields: dict[str, None] = {}
    for other in others:
        fields.update(dict.fromkeys(store.signature.differences(vars(other.signature))))
    return ", ".join(f"{name} {getattr(store.signature, name)!s:.60}" for name in fields)
