"""Finding the stores of the encoders that a user names, without networks and weights."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import stores
from tier4k.cache.store import FeatureStore
from tier4k.cache.text import nearest
from tier4k.extract.encoders.function import function_named
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.names import one_spelling
from tier4k.extract.encoders.presets import require_image_encoder, text_preset
from tier4k.extract.scorers.presets import SCORERS
from tier4k.extract.stores.choose import StoreRequest, choose_store, encoder_options, names_in_code
from tier4k.extract.stores.properties import passed_properties, properties_of

SHARED_OPTIONS = (
    "preprocessing",
    "feature",
    "precision",
    "store_dtype",
)  # of all image encoders of a command

OF_TEXT = ("precision", "store_dtype")  # options that image encoders and text encoders share

Note = Callable[[str], None]


def no_note(_text: str) -> None:
    """Ignore a sentence."""


def find_stores(
    root: Path,
    images: Sequence[ImageChoice],
    texts: Sequence[str],
    note: Note = no_note,
) -> tuple[list[FeatureStore], list[FeatureStore]]:
    """Return the image stores and the text stores of encoders.

    An option that the user did not choose stands for its default. A store with the default is preferred;
    where there is none, another store is taken if it is the only one.

    Args:
        root: Folder of stores.
        images: Image encoders, by name or by the folder name of the store, and properties of the features.
        texts: Text encoders, by a name as for extraction or by the folder name of the store.
        note: Called with a sentence about every store that is taken for want of one with the defaults.

    Raises:
        EncoderError: An encoder does not exist.
        PluginError: An encoder in code, of which there are no features, cannot be imported.
        StoreError: No store or several stores match; the message lists the stores and the remedy.
    """
    texts = [one_spelling(text) for text in texts]
    available = list(stores(root))
    folders = {store.path.name for store in available}
    in_code = {name for store in available for name in names_in_code(store.signature)}
    for image in images:
        if image.encoder not in folders | in_code and function_named(image.encoder) is None:
            require_image_encoder(image.encoder)
    for text_encoder in texts:
        if text_encoder not in folders:
            text_preset(text_encoder)
    image_stores = _image_stores(root, available, images, note)
    text_stores = []
    for text_encoder in texts:
        text_stores.append(_text_store(root, available, text_encoder, images, image_stores, note))
    return image_stores, text_stores


def _image_stores(
    root: Path,
    available: Sequence[FeatureStore],
    images: Sequence[ImageChoice],
    note: Note,
) -> list[FeatureStore]:
    """Return one store for each image encoder, in their order.

    Encoders with most options come first: `clip` beside `clip@448` is a store that `clip@448` leaves.
    """
    found: dict[ImageChoice, FeatureStore] = {}
    for image in sorted(images, key=_options_left_open):
        taken = [store.path for store in found.values()]
        others = [store for store in available if store.path not in taken]
        request = StoreRequest("image", image.encoder, passed_properties(image), crops=image.crops)
        found[image] = choose_store(root, others, request, partial(_image_options, images, image))
        _note_unusual(root, found[image], request, note)
    return [found[image] for image in dict.fromkeys(images)]


def _options_left_open(image: ImageChoice) -> tuple[bool, int]:
    return image.image_size is None, -len(passed_properties(image))


def _image_options(
    images: Sequence[ImageChoice],
    chosen: ImageChoice,
    request: StoreRequest,
) -> str | None:
    """Return the options that state a request for one image encoder, beside the others of the command.

    Args:
        images: Image encoders of the command.
        chosen: The one that the request is for.
        request: The request; its encoder may be the folder of a store.

    Returns:
        The options; None if encoders need different values of an option that all of them share.
    """
    if "crops" in request.passed:
        return None  # only `tier extract` has an option for crops
    if len(images) == 1:
        return encoder_options(request)
    names = []
    shared: dict[str, set[str | None]] = {name: set() for name in SHARED_OPTIONS}
    for image in images:
        encoder, properties = image.encoder, passed_properties(image)
        if image == chosen:
            encoder, properties = request.encoder, dict(request.passed)
        size = properties.get("image_size")
        names.append(f"--image-encoder {encoder}@{size}" if size else f"--image-encoder {encoder}")
        if encoder == image.encoder:  # not the folder of a store
            for name, values in shared.items():
                values.add(properties.get(name))
    if any(len(values) > 1 for values in shared.values()):
        return None
    for name, values in shared.items():
        names += [f"--{name.replace('_', '-')} {value}" for value in values if value]
    return " ".join(names)


def _text_store(
    root: Path,
    available: Sequence[FeatureStore],
    text_encoder: str,
    images: Sequence[ImageChoice],
    image_stores: Sequence[FeatureStore],
    note: Note,
) -> FeatureStore:
    """Return the store of a text encoder, by default with the precision and type of the image stores."""
    passed: dict[str, str] = {}
    if images and text_encoder not in {store.path.name for store in available}:
        of_images = passed_properties(images[0])
        passed = {name: of_images[name] for name in OF_TEXT if name in of_images}
    usual = {}
    for name in OF_TEXT:
        values = {properties_of(store.signature)[name] for store in image_stores}
        if len(values) == 1:
            usual[name] = values.pop()
    request = StoreRequest("text", text_encoder, passed, usual)
    store = choose_store(root, available, request, partial(_text_options, image_stores))
    _note_unusual(root, store, request, note)
    return store


def _text_options(image_stores: Sequence[FeatureStore], request: StoreRequest) -> str | None:
    """Return the options that state a request for texts; None if the image stores do not fit them."""
    for store in image_stores:
        stored = properties_of(store.signature)
        if any(stored[name] != value for name, value in request.passed.items()):
            return None
    return encoder_options(request)


def _note_unusual(
    root: Path,
    store: FeatureStore,
    request: StoreRequest,
    note: Note,
) -> None:
    """Report a store that is taken although the user did not ask for its properties."""
    unusual = request.unusual(store)
    if not unusual or request.encoder == store.path.name:
        return
    listed = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in unusual.items())
    note(
        f"{root} has no {request.stream} features of {request.encoder} with the default options: "
        f"those with {listed} are used"
    )


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
    available = [store for store in stores(root) if store.signature.stream == "score"]
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
    request = StoreRequest("score", name)
    if any(not request.differences(store) for store in available):
        return choose_store(root, available, request, _score_options)
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


def _score_options(request: StoreRequest) -> str | None:
    """Return the option that states a request for scores: there are none for properties of scores."""
    return None if request.passed else f"--score-features {request.encoder}"
