"""Finding the stores of the encoders that a user names, without networks and weights."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import stores
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import one_spelling
from tier4k.extract.encoders.presets import require_image_encoder, text_preset
from tier4k.extract.scorers.presets import scorer_preset


@dataclass(frozen=True)
class Difference:
    """A property in which a store differs from the request.

    Attributes:
        name: Name of the property, such as "image size".
        stored: Value in the store.
        requested: Value that the user requested.
    """

    name: str
    stored: str
    requested: str

    def __str__(self) -> str:
        """Return the difference as part of a message."""
        return f"{self.name} is {self.stored!r} instead of {self.requested!r}"


def find_stores(
    root: Path,
    images: Sequence[ImageChoice],
    texts: Sequence[str],
) -> tuple[list[FeatureStore], list[FeatureStore]]:
    """Return the image stores and the text stores of encoders.

    Args:
        root: Folder of stores.
        images: Image encoders, by name or by the folder name of the store, and properties of the features.
        texts: Text encoders, by a name as for extraction or by the folder name of the store.

    Raises:
        EncoderError: An encoder does not exist.
        StoreError: No store or several stores match; the message lists the stores and the remedy.
    """
    texts = [one_spelling(text) for text in texts]
    available = list(stores(root))
    folders = {store.path.name for store in available}
    for image in images:
        if image.encoder not in folders:
            require_image_encoder(image.encoder)
    for text_encoder in texts:
        if text_encoder not in folders:
            text_preset(text_encoder)
    image_stores = _image_stores(root, available, images)
    # The image encoder and the text encoder of one extraction have the same precision.
    precisions = {store.signature.precision for store in image_stores}
    usual = cast(Precision, next(iter(precisions))) if len(precisions) == 1 else None
    wanted = images[0].precision if images else None
    text_stores = [_text_store(root, available, text_encoder, wanted, usual) for text_encoder in texts]
    return image_stores, text_stores


def _image_stores(
    root: Path,
    available: Sequence[FeatureStore],
    images: Sequence[ImageChoice],
) -> list[FeatureStore]:
    """Return one store for each image encoder, in their order.

    Encoders with a size come first: `clip` beside `clip@448` is the store that `clip@448` leaves.
    """
    found: dict[ImageChoice, FeatureStore] = {}
    for image in sorted(images, key=lambda choice: choice.image_size is None):
        taken = [store.path for store in found.values()]
        others = [store for store in available if store.path not in taken]
        differences = partial(_image_differences, image=image)
        found[image] = _only_fitting_store(root, others, "image", differences, _image_options(image))
    return [found[image] for image in dict.fromkeys(images)]


def _text_store(
    root: Path,
    available: Sequence[FeatureStore],
    text_encoder: str,
    precision: Precision | None,
    usual_precision: Precision | None,
) -> FeatureStore:
    """Return the store of a text encoder.

    Args:
        root: Folder of stores.
        available: All stores.
        text_encoder: Name of the encoder, or the folder name of the store.
        precision: Precision that the user requests.
        usual_precision: Precision to take where the user requests none and several stores match.
    """
    is_folder = any(store.path.name == text_encoder for store in available)
    if precision is None and not is_folder and _is_ambiguous_text(available, text_encoder):
        precision = usual_precision
    options = f"--text-encoder {text_encoder}"
    if precision:
        options += f" --precision {precision}"
    differences = partial(_text_differences, encoder=text_encoder, precision=precision)
    return _only_fitting_store(root, available, "text", differences, options)


def parse_scorer_names(text: str) -> tuple[str, ...]:
    """Return the scorers that a user lists as "imagereward,pickscore"; "" gives none."""
    names = map(str.strip, text.split(","))
    return tuple(filter(None, names))


def find_score_stores(root: Path, scorers: Sequence[str]) -> tuple[FeatureStore, ...]:
    """Return the stores of zero-shot scores of several scorers.

    Args:
        root: Folder of stores.
        scorers: Names of scorers, or folder names of stores.

    Raises:
        EncoderError: A scorer does not exist.
        StoreError: No store or several stores match a scorer, or two stores contain scores of the same
            scorer; the message lists the stores and the remedy.
    """
    available = _of_stream(stores(root), "score")
    store_of_scorer: dict[str, FeatureStore] = {}
    for name in dict.fromkeys(scorers):
        store = _score_store(root, available, name)
        # A run names scores by the scorer, so two stores of one scorer would have the same name.
        first_store = store_of_scorer.setdefault(store.signature.encoder, store)
        if first_store.path != store.path:
            names = f"{first_store.path.name} and {store.path.name}"
            raise StoreError(
                f"the stores {names} both contain scores of {store.signature.encoder}: name one of the two"
            )
    return tuple(store_of_scorer.values())


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
            f"{root} has no scores of {name}. Stores of scores in this folder: {listed}.\n"
            f"Run `tier score DATA --scorer {name} --features {root}` first."
        )
    if len(fitting) > 1:
        raise StoreError(
            f"{len(fitting)} stores in {root} contain scores of {name}:\n"
            f"{_list_distinctions(fitting)}\n"
            f"Name one of these folders instead of {name}."
        )
    return fitting[0]


def _only_fitting_store(
    root: Path,
    available: Sequence[FeatureStore],
    stream: str,
    differences: Callable[[FeatureStore], list[Difference]],
    options: str,
) -> FeatureStore:
    stream_stores = _of_stream(available, stream)
    fitting = [store for store in stream_stores if not differences(store)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StoreError(
            f"{len(fitting)} stores in {root} match {options}:\n"
            f"{_list_distinctions(fitting)}\n"
            f"Pass the name of one of these folders as --{stream}-encoder."
        )
    lines = []
    for store in stream_stores:
        reasons = "; ".join(map(str, differences(store)))
        lines.append(f"  {store.path.name} ({reasons})")
    listed = "\n".join(lines) or "  none"
    raise StoreError(
        f"{root} has no {stream} features of {options}. The {stream} stores in this folder are:\n"
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
    differences = _encoder_differences(store, image.encoder)
    for name, value in requested.items():
        if value is not None and str(value) != stored[name]:
            differences.append(Difference(name, stored[name], str(value)))
    return differences


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
    differences = _encoder_differences(store, encoder)
    stored = store.signature.precision
    if precision is not None and stored != precision and encoder != store.path.name:
        differences.append(Difference("precision", stored, precision))
    return differences


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
    """Return the options of `tier extract` that request this image encoder."""
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


def _distinction(store: FeatureStore, fitting: Sequence[FeatureStore]) -> str:
    """Return the fields of the signature in which the fitting stores differ, with the values of one store."""
    fields: dict[str, None] = {}
    for fitting_store in fitting:
        fields.update(dict.fromkeys(store.signature.differences(vars(fitting_store.signature))))
    return ", ".join(f"{name} {getattr(store.signature, name)!s:.60}" for name in fields)
