"""Find the encoders of a model: in the folder of the model, or by signature in the folders of weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import unquote

from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import RUN_MARK, image_encoder_of, text_encoder_of
from tier4k.extract.weights.files import search_folders
from tier4k.heads.encoders.finetuned import (
    IMAGE_FILE,
    IMAGE_FOLDER,
    RECORD,
    TEXT_FOLDER,
    SavedEncoders,
    finetuned_encoders,
    keeps_finetuned_encoders,
)
from tier4k.heads.results.layout import ENCODERS, is_run
from tier4k.heads.results.model import HeadKey, Model, ModelError
from tier4k.heads.results.read import read_config

STREAMS = ("image", "text")


@dataclass(frozen=True)
class EncoderSource:
    """Heads that use the features of the same two encoders, and functions that find the encoders.

    Attributes:
        model: Model with only these heads.
        find_image, find_text: Functions that find the encoders, or raise TierError if weights are missing or
            wrong.
    """

    model: Model
    find_image: Callable[[], ImageEncoder]
    find_text: Callable[[], TextEncoder]

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
    """Return the sources of the encoders of every head of a model.

    Args:
        model: The model of a run, or an exported model.
        image_weights, text_weights: A file and a folder that the user passed, which take precedence.
        beside: Folders that may contain `pretrained/`, besides the working directory and the data set of the
            run.

    Raises:
        FinetunedError: A finetuned run lacks the encoders of a head.
        ModelError: The heads use other features than those of an image and a text encoder.
    """
    _require_two_encoders(model)
    if keeps_finetuned_encoders(model.folder):
        return [_finetuned_source(model, key) for key in model.heads]
    origins = _origins(model)
    image = image_weights or _exported_path(model, IMAGE_FILE) or _exported_path(model, IMAGE_FOLDER)
    if image is None and "image" in origins:
        image = origins["image"].image.weights.path
    text = text_weights or _exported_path(model, TEXT_FOLDER)
    if text is None and "text" in origins:
        text = origins["text"].text.weights.path
    folders = [*search_folders(None), *beside, *beside_training(model.folder)]
    source = EncoderSource(
        model=model,
        find_image=partial(image_encoder_of, model.signatures["image"], image, folders),
        find_text=partial(text_encoder_of, model.signatures["text"], text, folders),
    )
    return [source]


def beside_training(folder: Path) -> Iterator[Path]:
    """Yield folders beside the data set of a run that may contain `pretrained/`; none for exported models."""
    if is_run(folder):
        data = read_config(folder).environment.data
        if data:
            yield from search_folders(Path(data).parent)


def _require_two_encoders(model: Model) -> None:
    scorers = sorted(set(model.signatures) - set(STREAMS))
    if scorers:
        raise ModelError(
            f"the heads of {model.folder} were fitted with the scores of {', '.join(scorers)} as features, "
            "which are not computed for new images: use a run without --score-features"
        )


def _exported_path(model: Model, name: str) -> Path | None:
    """Return the path of a file or folder with weights in an exported model; None if it does not exist."""
    path = model.folder / ENCODERS / name
    return path if path.exists() else None


def _origins(model: Model) -> dict[str, SavedEncoders]:
    """Return the encoders of each stream with features from a finetuned encoder of a neighbouring run."""
    origins = {}
    for stream in STREAMS:
        mark = model.signatures[stream].encoder.partition(RUN_MARK)[2]
        origin = _marked_encoders(model.folder.resolve().parent, mark) if mark else None
        if origin:
            origins[stream] = origin
    return origins


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
    return EncoderSource(
        model=replace(model.only(*key), signatures=signatures),
        find_image=lambda: encoders.image,
        find_text=lambda: encoders.text,
    )
