"""Find the encoders of a model: in the folder of the model, or by signature in the folders of weights."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import unquote

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import image_encoder_of, split_run_mark, text_encoder_of
from tier4k.extract.encoders.function import ImageEncoderFunction
from tier4k.extract.scorers.find import AnyScorer
from tier4k.extract.scorers.from_signature import scorer_of
from tier4k.extract.weights.files import search_folders
from tier4k.heads.data.embeddings import Towers, find_towers
from tier4k.heads.data.encoder_names import array_name, score_signatures, stream_signatures
from tier4k.heads.encoders.exported import exported_path, scorers_folder
from tier4k.heads.encoders.finetuned import (
    RECORD,
    SavedEncoders,
    finetuned_encoders,
    keeps_finetuned_encoders,
)
from tier4k.heads.results.find_run import reference_to
from tier4k.heads.results.layout import ENCODERS, is_run
from tier4k.heads.results.model import HeadKey, Model, ModelError
from tier4k.heads.results.read import read_config
from tier4k.heads.results.run_format import ResultError

KINDS = ("image", "text")


@dataclass(frozen=True)
class EncoderSource:
    """Heads that use the features of the same encoders, and functions that find the encoders.

    Attributes:
        model: Model with only these heads.
        find_images, find_texts: For each encoder, by the name of its array, a function that finds it, or
            raises TierError if its weights are missing or wrong; empty for streams that the heads do not use.
        find_scorers: The same for each scorer whose scores are features, in the order of the columns.
    """

    model: Model
    find_images: Mapping[str, Callable[[], ImageEncoder]]
    find_texts: Mapping[str, Callable[[], TextEncoder]]
    find_scorers: Mapping[str, Callable[[], AnyScorer]] = field(default_factory=dict)

    @property
    def towers(self) -> Towers | None:
        """The encoders whose embeddings the heads' interaction compares; None without an interaction."""
        images, texts = (stream_signatures(self.model.signatures, kind) for kind in KINDS)
        return find_towers(images, texts, self.model.interaction, self.model.stages)

    @cached_property
    def images(self) -> dict[str, ImageEncoder]:
        """The image encoders by the name of the array, found and not yet loaded."""
        return {name: find() for name, find in self.find_images.items()}

    @cached_property
    def texts(self) -> dict[str, TextEncoder]:
        """The text encoders by the name of the array, found and not yet loaded."""
        return {name: find() for name, find in self.find_texts.items()}

    @cached_property
    def scorers(self) -> dict[str, AnyScorer]:
        """The scorers by name in the order of the columns, found and not yet loaded."""
        return {name: find() for name, find in self.find_scorers.items()}


def encoder_sources(
    model: Model,
    image_weights: Path | ImageEncoderFunction | None = None,
    text_weights: Path | None = None,
    beside: Sequence[Path] = (),
    trusted: Collection[str] = (),
) -> list[EncoderSource]:
    """Return the sources of the encoders of every head of a model.

    Args:
        model: The model of a run, or an exported model.
        image_weights, text_weights: A file and a folder that the user passed, which take precedence; each
            only for heads with one encoder of the kind. An encoder in code, or its import path, takes the
            place of the file.
        beside: Folders that may contain `pretrained/`, besides the working directory and the data set of the
            run.
        trusted: Import paths of scorers that the model names and the user trusts.

    Raises:
        FinetunedError: A finetuned run lacks the encoders of a head.
        ModelError: The heads use not exactly one encoder whose weights are passed.
    """
    if keeps_finetuned_encoders(model.folder):
        return [_finetuned_source(model, key) for key in model.heads]
    images, texts = (stream_signatures(model.signatures, kind) for kind in KINDS)
    _require_one_encoder("image", images, image_weights)
    _require_one_encoder("text", texts, text_weights)
    folders = [*search_folders(None), *beside, *beside_training(model.folder)]
    find_images: dict[str, Callable[[], ImageEncoder]] = {}
    for name, signature in images.items():
        path = image_weights or _own_path(model, signature)
        find_images[name] = partial(image_encoder_of, signature, path, folders)
    find_texts: dict[str, Callable[[], TextEncoder]] = {}
    for name, signature in texts.items():
        path = text_weights or _own_path(model, signature)
        find_texts[name] = partial(text_encoder_of, signature, path, folders)
    find_scorers: dict[str, Callable[[], AnyScorer]] = {}
    own = scorers_folder(model.folder)
    for name, signature in score_signatures(model.signatures).items():
        places = [own] if own.is_dir() else folders
        find_scorers[name] = partial(scorer_of, signature, None, places, trusted)
    return [EncoderSource(model, find_images, find_texts, find_scorers)]


def beside_training(folder: Path) -> Iterator[Path]:
    """Yield folders beside the data set of a run that may contain `pretrained/`; none for exported models."""
    if is_run(folder):
        data = read_config(folder).environment.data
        if data:
            yield from search_folders(Path(data).parent)


def _require_one_encoder(
    kind: str,
    signatures: Mapping[str, Signature],
    weights: Path | ImageEncoderFunction | None,
) -> None:
    """Refuse weights that a user passes if they are not those of the only encoder of a kind."""
    if weights is None or len(signatures) == 1:
        return
    uses = f"{len(signatures)} {kind} encoders ({', '.join(signatures)})"
    remedy = f"leave out --{kind}-weights, and put the weights where `tier extract` finds them"
    if not signatures:
        uses = f"no {kind} encoder"
        remedy = f"leave out --{kind}-weights"
    raise ModelError(f"--{kind}-weights {weights} is for one encoder, and the heads use {uses}: {remedy}")


def _own_path(model: Model, signature: Signature) -> Path | None:
    """Return the path of an encoder's weights in the exported model, or in a neighbouring run.

    A neighbouring run has them if it finetuned the encoder. None means that they are in neither.
    """
    _, mark = split_run_mark(signature.encoder)
    exported = exported_path(model.folder, model.signatures, signature)
    if exported or not mark:
        return exported
    encoders = _marked_encoders(model.folder.resolve().parent, mark)
    if encoders is None:
        return None
    encoder = encoders.image if signature.stream == "image" else encoders.text
    return encoder.weights.path if encoder else None


def _marked_encoders(runs: Path, mark: str) -> SavedEncoders | None:
    for record in runs.glob(f"*/{ENCODERS}/*/*/{RECORD}"):
        run = record.parents[3]
        target = unquote(record.parts[-3])
        repeat = record.parts[-2]
        if mark == f"{_reference(run)}-{target}-{repeat}":
            return finetuned_encoders(run, target, int(repeat))
    return None


def _reference(run: Path) -> str:
    """Return the text by which other runs refer to a run; "" for a damaged one, which hides no other."""
    try:
        return reference_to(run)
    except ResultError:
        return ""


def _finetuned_source(model: Model, key: HeadKey) -> EncoderSource:
    saved = finetuned_encoders(model.folder, *key)
    find_images: dict[str, Callable[[], ImageEncoder]] = {}
    if image := saved.image:
        find_images[array_name(image.signature)] = lambda: image
    find_texts: dict[str, Callable[[], TextEncoder]] = {}
    if text := saved.text:
        find_texts[array_name(text.signature)] = lambda: text
    return EncoderSource(replace(model.only(*key), signatures=saved.signatures), find_images, find_texts)
