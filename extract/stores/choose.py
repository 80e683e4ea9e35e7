"""Choosing one store for each encoder that a user names; the error when none or several fit.

An option that the user did not pass stands for its default. A store with the default is preferred; where no
store has it, another one is taken if it is the only one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tier4k.cache.errors import StoreError
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.encoders.function import is_function, recorded_path
from tier4k.extract.images.crops import Crops
from tier4k.extract.stores.properties import (
    USUAL,
    Difference,
    nearest_to_defaults,
    properties_of,
    unusual_properties,
)

ENCODER_OPTIONS = {"image": "image-encoder", "text": "text-encoder", "score": "score-features"}


@dataclass(frozen=True)
class StoreRequest:
    """What a user says about the store of one encoder.

    Attributes:
        stream: "image", "text" or "score".
        encoder: Name of the encoder or of the scorer, or the name of the store's folder.
        passed: Properties that the user chose (see `properties.py`), as texts.
        usual: Values that replace the defaults of properties that the user did not choose.
        crops: The crops of each image, if the user chose them.
    """

    stream: str
    encoder: str
    passed: Mapping[str, str] = field(default_factory=dict)
    usual: Mapping[str, str] = field(default_factory=dict)
    crops: Crops | None = None

    def differences(self, store: FeatureStore) -> list[Difference]:
        """Return the properties in which a store of the stream is not what the user requests."""
        signature = store.signature
        differences = []
        if self.encoder not in (store.path.name, signature.encoder, *names_in_code(signature)):
            differences.append(Difference("encoder", signature.encoder, self.encoder))
        stored = properties_of(signature)
        for name, value in self._chosen.items():
            if value != stored[name]:
                differences.append(Difference(name, stored[name], value))
        return differences

    def unusual(self, store: FeatureStore) -> dict[str, str]:
        """Return the properties of a store that the user did not choose and that are not at their default."""
        values = unusual_properties(store, self.usual)
        return {name: value for name, value in values.items() if name not in self._chosen}

    def stating(self, properties: Mapping[str, str]) -> "StoreRequest":
        """Return the request with further properties that the user might have chosen."""
        return replace(self, passed={**self.passed, **properties})

    def choose(self, stores: Sequence[FeatureStore]) -> list[FeatureStore]:
        """Return the stores that fit, without those for which another store is nearer to the defaults."""
        fitting = [store for store in stores if not self.differences(store)]
        left_open = {"preprocessing", *USUAL} - set(self._chosen)
        return nearest_to_defaults(fitting, left_open, self.usual) or fitting

    @property
    def _chosen(self) -> dict[str, str]:
        crops = {"crops": str(self.crops)} if self.crops else {}
        return {**self.passed, **crops}


OptionsOf = Callable[[StoreRequest], str | None]
"""Returns the options of a command that state a request; None if no options can."""


def choose_store(
    root: Path,
    available: Iterable[FeatureStore],
    request: StoreRequest,
    options_of: OptionsOf,
) -> FeatureStore:
    """Return the store of an encoder.

    Args:
        root: Folder of stores.
        available: The stores in it.
        request: What the user says about the store.
        options_of: Returns the options that state a request, of all encoders of the command.

    Raises:
        StoreError: No store fits, or several do; the message says which options choose each of them.
    """
    of_stream = [store for store in available if store.signature.stream == request.stream]
    chosen = request.choose(of_stream)
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        raise StoreError(_none(root, of_stream, request))
    exact = [_exact_request(store, of_stream, request, options_of) for store in chosen]
    lines = []
    for store, own in zip(chosen, exact, strict=True):
        what = f"  ({_distinction(store, chosen)})" if own.encoder == store.path.name else ""
        lines.append(f"  {options_of(own) or encoder_options(own)}{what}")
    if request.stream == "image":
        lines.append(f"In Python, pass image_encoder={_in_python(exact[-1])}, for example.")
    listed = "\n".join(lines)
    raise StoreError(
        f"{len(chosen)} stores in {root} match {encoder_options(request)}. Pass the options of one of them:\n"
        f"{listed}"
    )


def names_in_code(signature: Signature) -> tuple[str, ...]:
    """Return the name and the import path of an image encoder in code; nothing for other encoders."""
    if not is_function(signature.architecture):
        return ()
    return signature.encoder, recorded_path(signature.architecture)


def encoder_options(request: StoreRequest) -> str:
    """Return the options of `tier extract` that state a request, without those of other encoders."""
    options = [f"--{ENCODER_OPTIONS[request.stream]} {request.encoder}"]
    for name, value in request.passed.items():
        options.append(f"--{name.replace('_', '-')} {value}")
    if request.crops:
        options.append(f"--crops {request.crops.count}")
        if request.crops.seed:
            options.append(f"--crops-seed {request.crops.seed}")
    return " ".join(options)


def _exact_request(
    store: FeatureStore,
    of_stream: Sequence[FeatureStore],
    request: StoreRequest,
    options_of: OptionsOf,
) -> StoreRequest:
    """Return the request that selects a store: by options, or by its folder if no options can."""
    exact = request.stating(request.unusual(store))
    if options_of(exact) and exact.choose(of_stream) == [store]:
        return exact
    return replace(request, encoder=store.path.name, passed={})


def _in_python(request: StoreRequest) -> str:
    values = [f'"{request.encoder}"']
    for name, value in request.passed.items():
        values.append(f"{name}={value}" if value.isdecimal() else f'{name}="{value}"')
    return f"ImageChoice({', '.join(values)})"


def _none(
    root: Path,
    of_stream: Sequence[FeatureStore],
    request: StoreRequest,
) -> str:
    lines = []
    for store in of_stream:
        reasons = "; ".join(map(str, request.differences(store)))
        lines.append(f"  {store.path.name} ({reasons})")
    listed = "\n".join(lines) or "  none"
    options = encoder_options(request)
    return (
        f"{root} has no {request.stream} features of {options}. The {request.stream} stores in this folder "
        f"are:\n{listed}\nRun `tier extract DATA --features {root} {options}` first."
    )


def _distinction(store: FeatureStore, fitting: Sequence[FeatureStore]) -> str:
    """Return the fields of the signature in which the fitting stores differ, with the values of one store."""
    fields: dict[str, None] = {}
    for other in fitting:
        fields.update(dict.fromkeys(store.signature.differences(vars(other.signature))))
    return ", ".join(f"{name} {getattr(store.signature, name)!s:.60}" for name in fields)
