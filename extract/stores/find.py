"""Finding the stores of the encoders that a user names, without networks and weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import stores
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.cache.text import nearest
from tier4k.extract.encoders.function import function_named, is_function, recorded_path
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import one_spelling
from tier4k.extract.encoders.presets import require_image_encoder, text_preset
from tier4k.extract.scorers.presets import SCORERS

# Fields of a signature that the image encoders and text encoders of one extraction share, with their options.
SHARED_OPTIONS = {"precision": "precision", "dtype": "store-dtype"}


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
        PluginError: An encoder in code, of which there are no features, cannot be imported.
        StoreError: No store or several stores match; the message lists the stores and the remedy.
    """
    texts = [one_spelling(text) for text in texts]
    available = list(stores(root))
    folders = {store.path.name for store in available}
    in_code = {name for store in available for name in _names_in_code(store.signature)}
    for image in images:
        if image.encoder not in folders | in_code and function_named(image.encoder) is None:
            require_image_encoder(image.encoder)
    for text_encoder in texts:
        if text_encoder not in folders:
            text_preset(text_encoder)
    image_stores = _image_stores(root, available, images)
    usual = _shared_values(image_stores)
    wanted = {"precision": images[0].precision, "dtype": images[0].store_dtype} if images else {}
    requested = {name: str(value) for name, value in wanted.items() if value is not None}
    text_stores = [_text_store(root, available, text_encoder, requested, usual) for text_encoder in texts]
    return image_stores, text_stores


def _shared_values(image_stores: Sequence[FeatureStore]) -> dict[str, str]:
    """Return the fields of `SHARED_OPTIONS` in which image stores are equal, with their values."""
    values = {}
    for name in SHARED_OPTIONS:
        found = {getattr(store.signature, name) for store in image_stores}
        if len(found) == 1:
            values[name] = found.pop()
    return values


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
    requested: Mapping[str, str],
    usual: Mapping[str, str],
) -> FeatureStore:
    """Return the store of a text encoder.

    Args:
        root: Folder of stores.
        available: All stores.
        text_encoder: Name of the encoder, or the folder name of the store.
        requested: Values of fields of the signature that the user requests.
        usual: Values to take of fields in which several stores match and the user requests none.
    """
    of_encoder = [
        store for store in _of_stream(available, "text") if not _encoder_differences(store, text_encoder)
    ]
    wanted = dict(requested)
    for name, value in usual.items():
        if len({getattr(store.signature, name) for store in of_encoder}) > 1:
            wanted.setdefault(name, value)
    options = f"--text-encoder {text_encoder}"
    for name, value in wanted.items():
        options += f" --{SHARED_OPTIONS[name]} {value}"
    differences = partial(_text_differences, encoder=text_encoder, wanted=wanted)
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
        listed = ", ".join(store.path.name for store in available) or "none"
        command = f"tier score DATA --scorer {name} --features {root}"
        similar = ""
        if name not in SCORERS:
            similar = nearest(name, [*SCORERS, *(store.signature.encoder for store in available)])
            command += f"` or, with scores of another program, `tier score DATA --scores FILE --name {name}"
        raise StoreError(
            f"{root} has no scores of {name}{similar}. Stores of scores in this folder: {listed}.\n"
            f"Run `{command}` first."
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
            f"Pass the name of one of these folders as --{stream}-encoder{_or_dtype(fitting)}."
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


def _or_dtype(fitting: Sequence[FeatureStore]) -> str:
    dtypes = sorted({store.signature.dtype for store in fitting})
    return f", or --store-dtype {' or '.join(dtypes)}" if len(dtypes) > 1 else ""


def _image_differences(store: FeatureStore, image: ImageChoice) -> list[Difference]:
    requested = {
        "preparation": image.preprocessing,
        "image size": image.image_size,
        "feature": image.feature,
        "precision": image.precision,
        "views": image.crops,
        "dtype": image.store_dtype,
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
        "dtype": signature.dtype,
    }


def _text_differences(
    store: FeatureStore,
    encoder: str,
    wanted: Mapping[str, str],
) -> list[Difference]:
    differences = _encoder_differences(store, encoder)
    if encoder == store.path.name:
        return differences
    for name, (requested, stored) in store.signature.differences(wanted).items():
        differences.append(Difference(name, str(stored), str(requested)))
    return differences


def _of_stream(available: Iterable[FeatureStore], stream: str) -> list[FeatureStore]:
    return [store for store in available if store.signature.stream == stream]


def _encoder_differences(store: FeatureStore, encoder: str) -> list[Difference]:
    stored = store.signature.encoder
    if encoder in (store.path.name, stored, *_names_in_code(store.signature)):
        return []
    return [Difference("encoder", stored, encoder)]


def _names_in_code(signature: Signature) -> tuple[str, ...]:
    """Return the name and the import path of an image encoder in code; nothing for other encoders."""
    if not is_function(signature.architecture):
        return ()
    return signature.encoder, recorded_path(signature.architecture)


def _image_options(image: ImageChoice) -> str:
    """Return the options of `tier extract` that request this image encoder."""
    options = {
        "image-encoder": image.encoder,
        "preprocessing": image.preprocessing,
        "image-size": image.image_size,
        "feature": image.feature,
        "precision": image.precision,
        "store-dtype": image.store_dtype,
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
