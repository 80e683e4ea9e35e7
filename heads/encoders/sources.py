"""Where the encoders of a model are: with it, or wherever weights are found, and then known again by their signatures."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import unquote

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import RUN_MARK, image_encoder_of, text_encoder_of
from tier4k.extract.encoders.weights import search_folders
from tier4k.heads.encoders.finetuned import (
    ENCODERS,
    RECORD,
    FinetunedEncoders,
    finetuned_encoders,
    keeps_finetuned_encoders,
)
from tier4k.heads.results.files import read_config
from tier4k.heads.results.model import HeadKey, Model, ModelError

IMAGE_FILE, TEXT_FOLDER, SEEN_FILE = (
    "image.safetensors",
    "text",
    "seen.json",
)  # in the folder `ENCODERS` of an exported model


@dataclass(frozen=True)
class Source:
    """Heads that act on the features of the same two encoders.

    Attributes:
        model: With these heads alone.
        find_image, find_text: Find the encoders; they raise TierError where weights are missing or others.
        seen: Keys (hexadecimal) of the pictures that the encoder of a stream was finetuned on, of streams where it was.
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


def sources(
    model: Model,
    image_weights: Path | None = None,
    text_weights: Path | None = None,
    beside: Sequence[Path] = (),
) -> list[Source]:
    """The encoders of every head of a model.

    Args:
        model: A run's, or an exported one.
        image_weights, text_weights: A file and a folder given by the user, which are then the only places looked at.
        beside: Folders that may hold `pretrained/`, besides the working directory and the data set of the run.

    Raises:
        FinetunedError: A finetuned run lacks the encoders of a head.
        ModelError: Its heads see more than what these two encoders know.
    """
    if scorers := sorted(set(model.signatures) - {"image", "text"}):
        raise ModelError(
            f"the heads of {model.folder} were fitted with the scores of {', '.join(scorers)} as features, which are not computed for new "
            "pictures: fit heads without --score-features, or judge these on stored scores"
        )
    if keeps_finetuned_encoders(model.folder):
        return [_finetuned(model, place) for place in model.heads]
    origins = {stream: origin for stream in ("image", "text") if (origin := _origin(model, stream))}
    image = (
        image_weights
        or _kept(model, IMAGE_FILE)
        or (origins["image"].image.weights.path if "image" in origins else None)
    )
    text = (
        text_weights
        or _kept(model, TEXT_FOLDER)
        or (origins["text"].text.weights.path if "text" in origins else None)
    )
    folders = [*search_folders(None), *beside, *beside_training(model.folder)]
    signatures = model.signatures
    find_image, find_text = (
        partial(image_encoder_of, signatures["image"], image),
        partial(text_encoder_of, signatures["text"], text),
    )
    seen = {stream: origin.seen for stream, origin in origins.items()} or _kept_seen(model)
    return [Source(model, partial(find_image, folders), partial(find_text, folders), seen)]


def _kept(model: Model, name: str) -> Path | None:
    """Weights in the folder of an exported model."""
    path = model.folder / ENCODERS / name
    return path if path.exists() else None


def _kept_seen(model: Model) -> dict[str, list[str]]:
    path = _kept(model, SEEN_FILE)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): export the model again") from error


def _origin(model: Model, stream: str) -> FinetunedEncoders | None:
    """What a run beside this one finetuned, where the heads were fitted on features of `tier extract --finetuned`."""
    mark = model.signatures[stream].encoder.partition(RUN_MARK)[2]
    for record in model.folder.resolve().parent.glob(f"*/{ENCODERS}/*/*/{RECORD}") if mark else ():
        run, target, repeat = record.parents[3], unquote(record.parts[-3]), record.parts[-2]
        if f"{run.name}-{target}-{repeat}" == mark:
            return finetuned_encoders(run, target, int(repeat))
    return None


def _finetuned(model: Model, place: HeadKey) -> Source:
    encoders = finetuned_encoders(model.folder, *place)
    signatures = {"image": encoders.image.signature, "text": encoders.text.signature}
    alone = replace(model.only(*place), signatures=signatures)
    seen = {
        stream: encoders.seen for stream, signature in signatures.items() if RUN_MARK in signature.encoder
    }
    return Source(alone, lambda: encoders.image, lambda: encoders.text, seen)


def beside_training(folder: Path) -> Iterator[Path]:
    """Folders that may hold `pretrained/` beside the data set of a run."""
    if (folder / "results.json").is_file():
        data = read_config(folder)["environment"].get("data")
        yield from search_folders(Path(data).parent) if isinstance(data, str) else ()
