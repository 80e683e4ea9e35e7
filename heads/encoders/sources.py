"""Finding the encoders of a model: beside its heads, or by their signatures where weights are looked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import unquote

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import RUN_MARK, image_encoder_of, text_encoder_of
from tier4k.extract.encoders.weights import search_folders
from tier4k.heads.encoders.finetuned import (
    RECORD,
    TEXT_FOLDER,
    SavedEncoders,
    finetuned_encoders,
    keeps_finetuned_encoders,
)
from tier4k.heads.results.json_files import read_json
from tier4k.heads.results.layout import ENCODERS, described, is_run
from tier4k.heads.results.model import HeadKey, Model, ModelError
from tier4k.heads.results.read import read_config

# In the folder `ENCODERS` of an exported model.
IMAGE_FILE = "image.safetensors"

SEEN_FILE = "seen.json"

STREAMS = ("image", "text")


@dataclass(frozen=True)
class EncoderSource:
    """Heads that read the features of the same two encoders, and a way to find these.

    Attributes:
        model: With these heads alone.
        find_image, find_text: Find the encoders; they raise TierError where weights are missing or others.
        seen: For each stream with a finetuned encoder, keys (hexadecimal) of the images that it has seen.
    """

    model: Model
    find_image: Callable[[], ImageEncoder]
    find_text: Callable[[], TextEncoder]
    seen: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def image(self) -> ImageEncoder:
        """The image encoder, found and not yet loaded."""
        return self.find_image()

    @cached_property
    def text(self) -> TextEncoder:
        """The text encoder, found and not yet loaded."""
        return self.find_text()


def encoder_sources(
    model: Model,
    image_weights: Path | None = None,
    text_weights: Path | None = None,
    beside: Sequence[Path] = (),
) -> list[EncoderSource]:
    """Sources of the encoders of every head of a model.

    Args:
        model: A run's, or an exported one.
        image_weights, text_weights: A file and a folder given by the user, in place of any other.
        beside: Folders that may hold `pretrained/`, besides the working directory and the run's data set.

    Raises:
        FinetunedError: A finetuned run lacks the encoders of a head.
        ModelError: Its heads read features that are not those of two encoders.
    """
    _require_two_encoders(model)
    if keeps_finetuned_encoders(model.folder):
        return [_finetuned_source(model, key) for key in model.heads]
    origins = _origins(model)
    image = image_weights or _exported(model, IMAGE_FILE)
    if image is None and "image" in origins:
        image = origins["image"].image.weights.path
    text = text_weights or _exported(model, TEXT_FOLDER)
    if text is None and "text" in origins:
        text = origins["text"].text.weights.path
    seen: Mapping[str, Sequence[str]] = {stream: origin.seen for stream, origin in origins.items()}
    folders = [*search_folders(None), *beside, *beside_training(model.folder)]
    source = EncoderSource(
        model=model,
        find_image=partial(image_encoder_of, model.signatures["image"], image, folders),
        find_text=partial(text_encoder_of, model.signatures["text"], text, folders),
        seen=seen or _exported_seen(model),
    )
    return [source]


def beside_training(folder: Path) -> Iterator[Path]:
    """Folders that may hold `pretrained/` beside the data set of a run; none for an exported model."""
    if is_run(folder):
        data = read_config(folder).environment.data
        if data:
            yield from search_folders(Path(data).parent)


def _require_two_encoders(model: Model) -> None:
    scorers = sorted(set(model.signatures) - set(STREAMS))
    if scorers:
        raise ModelError(
            f"the heads of {model.folder} were fitted with the scores of {', '.join(scorers)} as features, "
            "which are not computed for new images: fit heads without --score-features, or evaluate these on "
            "stored scores"
        )


def _exported(model: Model, name: str) -> Path | None:
    """Weights in the folder of an exported model."""
    path = model.folder / ENCODERS / name
    return path if path.exists() else None


def _exported_seen(model: Model) -> dict[str, tuple[str, ...]]:
    path = _exported(model, SEEN_FILE)
    if path is None:
        return {}
    try:
        return read_json(path, dict[str, tuple[str, ...]])
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({described(error)}): export the model again") from error


def _origins(model: Model) -> dict[str, SavedEncoders]:
    """For each stream with features from `tier extract --finetuned`, its encoders, of a run beside this."""
    found = {}
    for stream in STREAMS:
        mark = model.signatures[stream].encoder.partition(RUN_MARK)[2]
        origin = _marked_encoders(model.folder.resolve().parent, mark) if mark else None
        if origin:
            found[stream] = origin
    return found


def _marked_encoders(runs: Path, mark: str) -> SavedEncoders | None:
    for record in runs.glob(f"*/{ENCODERS}/*/*/{RECORD}"):
        run = record.parents[3]
        target = unquote(record.parts[-3])
        repeat = record.parts[-2]
        if f"{run.name}-{target}-{repeat}" == mark:
            return finetuned_encoders(run, target, int(repeat))
    return None


def _finetuned_source(model: Model, key: HeadKey) -> EncoderSource:
    encoders = finetuned_encoders(model.folder, *key)
    signatures = {"image": encoders.image.signature, "text": encoders.text.signature}
    seen = {}
    for stream, signature in signatures.items():
        if RUN_MARK in signature.encoder:
            seen[stream] = encoders.seen
    return EncoderSource(
        model=replace(model.only(*key), signatures=signatures),
        find_image=lambda: encoders.image,
        find_text=lambda: encoders.text,
        seen=seen,
    )
