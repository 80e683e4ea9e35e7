"""From the names of encoders to the stores that hold their features; no network is built and no weights are needed."""

from pathlib import Path

from cache.store import FeatureStore, StoreError, stores
from extract.choices import PreparationName
from extract.presets import image_preset, text_preset


def find_stores(
    root: Path, image_encoder: str, text_encoder: str, prepare: PreparationName | None = None
) -> tuple[FeatureStore, FeatureStore]:
    """The image store and the text store of two encoders.

    Args:
        root: Folder of stores.
        image_encoder, text_encoder: Names as for extraction, or the folder name of a store.
        prepare: Preparation of the pictures; None takes what there is.

    Raises:
        EncoderError: No such encoder.
        StoreError: No store or several stores fit; the message shows what there is, and the way out.
    """
    here = list(stores(root)) if root.is_dir() else []
    names = {store.path.name for store in here}
    if image_encoder not in names:
        image_preset(image_encoder)
    if text_encoder not in names:
        text_preset(text_encoder)
    return _one(root, here, "image", image_encoder, prepare), _one(root, here, "text", text_encoder, None)


def _one(root: Path, here: list[FeatureStore], stream: str, encoder: str, prepare: PreparationName | None) -> FeatureStore:
    among = [store for store in here if store.signature.stream == stream]
    fitting = [store for store in among if _fits(store, encoder, prepare)]
    if len(fitting) == 1:
        return fitting[0]
    asked = f"{stream} encoder {encoder!r}" + (f" and preparation {prepare!r}" if prepare else "")
    if not fitting:
        listed = "\n".join(f"  {store.path.name}{_difference(store, encoder, prepare)}" for store in among) or "  none"
        options = f"--{stream}-encoder {encoder}" + (f" --prepare {prepare}" if prepare else "")
        raise StoreError(
            f"{root} has no features of the {asked}. Its {stream} stores are:\n{listed}\n"
            f"Run `tier extract DATA --features {root} {options}` first."
        )
    listed = "\n".join(f"  {store.path.name}: {_distinction(store, fitting)}" for store in fitting)
    raise StoreError(f"{len(fitting)} stores in {root} are of the {asked}:\n{listed}\nName one of these folders as --{stream}-encoder.")


def _fits(store: FeatureStore, encoder: str, prepare: PreparationName | None) -> bool:
    if encoder not in (store.path.name, store.signature.encoder):
        return False
    return prepare is None or store.signature.preparation_name == prepare


def _difference(store: FeatureStore, encoder: str, prepare: PreparationName | None) -> str:
    signature, lines = store.signature, []
    if encoder not in (store.path.name, signature.encoder):
        lines.append(f"encoder is {signature.encoder!r}, asked for {encoder!r}")
    if prepare is not None and signature.preparation_name != prepare:
        lines.append(f"preparation is {signature.preparation_name!r}, asked for {prepare!r}")
    return f" ({'; '.join(lines)})"


def _distinction(store: FeatureStore, others: list[FeatureStore]) -> str:
    fields = dict.fromkeys(name for other in others for name in store.signature.differences(vars(other.signature)))
    return ", ".join(f"{name} {getattr(store.signature, name)!s:.60}" for name in fields)
