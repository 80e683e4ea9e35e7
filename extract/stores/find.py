"""From what a user asks for to the stores that hold it; no network is built and no weights are needed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore, StoreError, stores
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.presets import image_preset, text_preset
from tier4k.extract.scorers.presets import scorer_preset

Difference = tuple[str, str, str]


def find_stores(root: Path, image: ImageChoice, text_encoder: str) -> tuple[FeatureStore, FeatureStore]:
    """The image store and the text store of two encoders.

    Args:
        root: Folder of stores.
        image: What the image features must be; its encoder may also be the folder name of a store.
        text_encoder: A name as for extraction, or the folder name of a store.

    Raises:
        EncoderError: No such encoder.
        StoreError: No store or several stores fit; the message shows what there is, and the way out.
    """
    here = list(stores(root))
    names = {store.path.name for store in here}
    if image.encoder not in names:
        image_preset(image.encoder)
    if text_encoder not in names:
        text_preset(text_encoder)
    images = _one(root, here, "image", lambda store: list(_image_differences(store, image)), _options(image))
    of_text = [
        store
        for store in here
        if store.signature.stream == "text" and not list(_encoder_difference(store, text_encoder))
    ]
    # Both encoders of one extraction have one precision: where texts are there in several, the pictures' is meant.
    precision = image.precision or (
        images.signature.precision if len(of_text) > 1 and text_encoder not in names else None
    )
    options = f"--text-encoder {text_encoder}" + (f" --precision {precision}" if precision else "")
    return images, _one(
        root, here, "text", lambda store: list(_text_differences(store, text_encoder, precision)), options
    )


def parse_scorer_names(text: str) -> tuple[str, ...]:
    """Scorers as a user lists them, "imagereward,pickscore"; "" is none of them."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def find_score_stores(root: Path, scorers: Sequence[str]) -> tuple[FeatureStore, ...]:
    """The stores of zero-shot scores of these scorers, each a name or the folder name of a store.

    Raises:
        EncoderError: No such scorer.
        StoreError: No store or several stores fit, or two are of one scorer; the message shows what there is, and the way out.
    """
    among = [store for store in stores(root) if store.signature.stream == "score"]
    found: dict[str, FeatureStore] = {}
    for name in dict.fromkeys(scorers):
        fitting = [store for store in among if name in (store.path.name, store.signature.encoder)]
        if not fitting:
            scorer_preset(name)
            there = ", ".join(store.path.name for store in among) or "none"
            raise StoreError(
                f"{root} has no scores of {name}; its stores of scores: {there}.\n"
                f"Run `tier score DATA --scorer {name} --features {root}` first."
            )
        if len(fitting) > 1:
            listed = "\n".join(f"  {store.path.name}: {_distinction(store, fitting)}" for store in fitting)
            raise StoreError(
                f"{len(fitting)} stores in {root} are of {name}:\n{listed}\nName one of these folders instead."
            )
        (store,) = fitting
        other = found.setdefault(store.signature.encoder, store)  # a run names its scores by their scorers
        if other.path != store.path:
            raise StoreError(
                f"{other.path.name} and {store.path.name} are both of {store.signature.encoder}: name one of them"
            )
    return tuple(found.values())


def _one(
    root: Path,
    here: list[FeatureStore],
    stream: str,
    differences: Callable[[FeatureStore], list[Difference]],
    options: str,
) -> FeatureStore:
    among = [store for store in here if store.signature.stream == stream]
    fitting = [store for store in among if not differences(store)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        lines = [f"  {store.path.name} ({'; '.join(map(_told, differences(store)))})" for store in among]
        raise StoreError(
            f"{root} has no {stream} features of {options}. Its {stream} stores are:\n"
            + "\n".join(lines or ["  none"])
            + "\n"
            f"Run `tier extract DATA --features {root} {options}` first."
        )
    listed = "\n".join(f"  {store.path.name}: {_distinction(store, fitting)}" for store in fitting)
    raise StoreError(
        f"{len(fitting)} stores in {root} are of {options}:\n{listed}\nName one of these folders as --{stream}-encoder."
    )


def _told(difference: Difference) -> str:
    field, here, asked = difference
    return f"{field} is {here!r}, asked for {asked!r}"


def _image_differences(store: FeatureStore, image: ImageChoice) -> Iterator[Difference]:
    yield from _encoder_difference(store, image.encoder)
    asked = {
        "preparation": image.preprocessing,
        "image size": image.image_size,
        "feature": image.feature,
        "precision": image.precision,
        "views": image.crops,
    }
    here = _image_facts(store.signature)
    yield from (
        (field, here[field], str(value))
        for field, value in asked.items()
        if value is not None and str(value) != here[field]
    )


def _image_facts(signature: Signature) -> dict[str, str]:
    prepared, _, size = signature.preparation_name.partition(" at ")
    feature = "multilevel" if signature.feature_name == "multilevel" else "pooled"
    return {
        "preparation": prepared,
        "image size": size or "the encoder's",
        "feature": feature,
        "precision": signature.precision,
        "views": signature.views,
    }


def _text_differences(
    store: FeatureStore, encoder: str, precision: Precision | str | None
) -> Iterator[Difference]:
    yield from _encoder_difference(store, encoder)
    if precision is not None and store.signature.precision != precision and encoder != store.path.name:
        yield "precision", store.signature.precision, precision


def _encoder_difference(store: FeatureStore, encoder: str) -> Iterator[Difference]:
    if encoder not in (store.path.name, store.signature.encoder):
        yield "encoder", store.signature.encoder, encoder


def _options(image: ImageChoice) -> str:
    """The options of `tier extract` that ask for this."""
    given = {
        "image-encoder": image.encoder,
        "preprocessing": image.preprocessing,
        "image-size": image.image_size,
        "feature": image.feature,
        "precision": image.precision,
        "crops": image.crops.count if image.crops else None,
        "views-seed": image.crops.seed or None if image.crops else None,
    }
    return " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)


def _distinction(store: FeatureStore, others: list[FeatureStore]) -> str:
    fields = dict.fromkeys(
        name for other in others for name in store.signature.differences(vars(other.signature))
    )
    return ", ".join(f"{name} {getattr(store.signature, name)!s:.60}" for name in fields)
