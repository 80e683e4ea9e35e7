"""Write the encoders that a run finetuned with its heads into the folder of the run, and read them.

runs/ID/encoders/TARGET/REPEAT/
    encoders.json       `EncodersRecord`: names and options of the encoders
    image.safetensors   (another suffix if the image encoder was not trained: a copy of the original file)
    image/              instead, if the image encoder is one of transformers: in the Hugging Face layout
    text/               the text encoder in the Hugging Face layout

The files of trained encoders state in their metadata the images of the training (`Weights.seen_images`).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from tier4k.extract.encoders.choices import FeatureName, StoreDtype
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.from_signature import RUN_MARK
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.images.choices import ImageSize, PreprocessingName
from tier4k.extract.weights.checkpoints import read_state_dict
from tier4k.extract.weights.files import (
    IMAGE_FILES,
    TEXT_WEIGHT_FILES,
    Weights,
    folder_weights_file,
    is_file_name,
    is_index,
    seen_metadata,
    weight_parts,
)
from tier4k.extract.weights.tensor_file import read_tensors
from tier4k.extract.weights.write import write_tensors
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.encoders.seen_images import FinetunedError
from tier4k.heads.results.find_run import reference_to
from tier4k.heads.results.json_files import read_json, write_json
from tier4k.heads.results.layout import ENCODERS, described, encoders_folder, require_current_format

if TYPE_CHECKING:
    import torch


RECORD = "encoders.json"

IMAGE_FILE = "image.safetensors"

IMAGE_FOLDER = "image"

TEXT_FOLDER = "text"

# Names of trained tensors begin with one of these prefixes.
IMAGE_PREFIX = "images.backbone."

TEXT_PREFIX = "texts.backbone."


@dataclass(frozen=True)
class ImageRecord:
    """The image encoder in encoders.json: name and options, file of the weights, whether trained."""

    encoder: str
    preprocessing: PreprocessingName
    image_size: ImageSize | None
    feature: FeatureName
    weights: str
    trained: bool


@dataclass(frozen=True)
class TextRecord:
    """The text encoder in encoders.json: its name, and whether it was trained."""

    encoder: str
    trained: bool


@dataclass(frozen=True)
class EncodersRecord:
    """Content of encoders.json; an encoder that no stream of the head uses is missing."""

    image: ImageRecord | None = None
    text: TextRecord | None = None


@dataclass(frozen=True)
class UnsavedEncoders:
    """The encoders that one head of a run was trained with, before they are written into the run's folder.

    Attributes:
        encoders: The encoders that training started from.
        weights: .safetensors file with the tensors of the encoders that were trained.
        seen: Keys (hexadecimal) of the training and validation images.
    """

    encoders: EncoderPair
    weights: Path
    seen: Sequence[str]

    def write(self, folder: Path) -> None:
        """Write the encoders into a new folder, as files that every command can load as weights."""
        folder.mkdir(parents=True)
        tensors = read_tensors(self.weights)
        record = EncodersRecord(self._write_image(tensors, folder), self._write_text(tensors, folder))
        write_json(folder / RECORD, record)

    def _write_image(self, tensors: "Mapping[str, torch.Tensor]", folder: Path) -> ImageRecord | None:
        encoder = self.encoders.image
        if encoder is None:
            return None
        trained = _tensors_with_prefix(tensors, IMAGE_PREFIX)
        file = write_image(encoder, trained, folder, self.seen)
        return _image_record(encoder, file, trained=bool(trained))

    def _write_text(self, tensors: "Mapping[str, torch.Tensor]", folder: Path) -> TextRecord | None:
        encoder = self.encoders.text
        if encoder is None:
            return None
        trained = _tensors_with_prefix(tensors, TEXT_PREFIX)
        write_text(encoder, trained, folder / TEXT_FOLDER, self.seen)
        return TextRecord(encoder.preset.name, trained=bool(trained))


@dataclass(frozen=True)
class SavedEncoders(EncoderPair):
    """The encoders of one head in a run's folder, ready for extraction.

    Attributes:
        image, text: Encoders with weights in the folder of the run; names of trained encoders end in its
            name. An encoder that no stream of the head uses is None.
        target, repeat: Target and repeat of the head that the encoders were trained with.
    """

    target: str
    repeat: int

    def stored_as(self, dtype: StoreDtype) -> "SavedEncoders":
        """Return the encoders with another type of the stored numbers."""
        return replace(
            self,
            image=self.image and replace(self.image, store_dtype=dtype),
            text=self.text and replace(self.text, store_dtype=dtype),
        )


def keeps_finetuned_encoders(run: Path) -> bool:
    """Return whether a run finetuned encoders and kept them for at least one head."""
    return any(run.glob(f"{ENCODERS}/*/*/{RECORD}"))


def finetuned_encoders(
    run: Path,
    target: str | None = None,
    repeat: int | None = None,
) -> SavedEncoders:
    """Find the encoders that a run finetuned.

    Args:
        run: Folder of the run.
        target: Target of the head that the encoders were trained with; None if only one target has encoders.
        repeat: Repeat of that head; None for the first repeat with encoders.

    Raises:
        FinetunedError: The run keeps no encoders of this target and repeat.
        ResultError: The run has another format.
        WeightsError: A file is missing.
    """
    require_current_format(run)
    name, number = _choose(run, target, repeat)
    folder = encoders_folder(run, name, number)
    try:
        record = read_json(folder / RECORD, EncodersRecord)
    except (OSError, ValueError, RecursionError) as error:
        raise FinetunedError(
            f"{folder / RECORD} cannot be read ({described(error)}): delete {run} and finetune again"
        ) from error
    suffix = f"{RUN_MARK}{reference_to(run)}-{name}-{number}"
    image = _saved_image(record.image, folder, suffix) if record.image else None
    text = _saved_text(record.text, folder, suffix) if record.text else None
    return SavedEncoders(image, text, name, number)


def _saved_image(
    record: ImageRecord,
    folder: Path,
    suffix: str,
) -> ImageEncoder:
    """Return the image encoder in a folder; the name of a trained one ends in the suffix."""
    if not is_file_name(record.weights):
        raise FinetunedError(
            f"{folder / RECORD} names the weights {record.weights!r}, which are not in {folder}: a run reads "
            "only its own files"
        )
    image = find_image_encoder(_choice(record), folder / record.weights)
    if not record.trained:
        return image
    return replace(image, preset=replace(image.preset, name=image.preset.name + suffix))


def _saved_text(
    record: TextRecord,
    folder: Path,
    suffix: str,
) -> TextEncoder:
    """Return the text encoder in a folder; the name of a trained one ends in the suffix."""
    text = find_text_encoder(record.encoder, folder / TEXT_FOLDER)
    if not record.trained:
        return text
    return replace(text, preset=replace(text.preset, name=text.preset.name + suffix))


def write_image(
    encoder: ImageEncoder,
    tensors: "Mapping[str, torch.Tensor]",
    folder: Path,
    seen: Sequence[str] = (),
) -> str:
    """Write the tensors of an image encoder into a folder; without tensors, copy the original files.

    Args:
        encoder: The encoder with its original weights.
        tensors: Tensors that take the place of the original ones.
        folder: An existing folder.
        seen: Keys (hexadecimal) of images that the tensors were trained on, besides those of the original
            weights.

    Returns:
        Name of the written file, or of the written folder of an encoder of transformers.
    """
    import torch

    if encoder.preset.library == "transformers":
        _write_folder(encoder.weights, IMAGE_FILES, tensors, folder / IMAGE_FOLDER, seen)
        return IMAGE_FOLDER
    if not tensors and is_index(encoder.weights.path):
        tensors = read_state_dict(encoder.weights.path)
    if not tensors:
        name = f"image{encoder.weights.path.suffix}"
        shutil.copyfile(encoder.weights.path, folder / name)
        return name
    all_tensors = dict(tensors)
    if encoder.preset.feature == "class-token-before-norm":
        # The network is used without its last norm, but its files need one: write a norm without effect.
        width = all_tensors["cls_token"].shape[-1]
        all_tensors["norm.weight"] = torch.ones(width)
        all_tensors["norm.bias"] = torch.zeros(width)
    metadata = seen_metadata([*encoder.weights.seen_images(), *seen])
    write_tensors(folder / IMAGE_FILE, all_tensors, metadata)
    return IMAGE_FILE


def write_text(
    encoder: TextEncoder,
    tensors: "Mapping[str, torch.Tensor]",
    folder: Path,
    seen: Sequence[str] = (),
) -> None:
    """Write a text encoder with these tensors into a new folder; without tensors, copy the files.

    The arguments are those of `write_image`.
    """
    _write_folder(encoder.weights, encoder.model.files, tensors, folder, seen)


def _write_folder(
    weights: Weights,
    files: Sequence[str],
    tensors: "Mapping[str, torch.Tensor]",
    folder: Path,
    seen: Sequence[str],
) -> None:
    """Write a new folder in the Hugging Face layout.

    Args:
        weights: The original folder.
        files: Names of the files that belong to it, besides split weights.
        tensors: Tensors that take the place of the original ones; if there are none, all files are copied.
        folder: The new folder.
        seen: As for `write_image`.
    """
    folder.mkdir()
    for name in files:
        if (weights.path / name).is_file() and name not in TEXT_WEIGHT_FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(weights.path / name, folder / name)
    if not tensors:
        for file in weight_parts(folder_weights_file(weights.path, weights.source)):
            shutil.copyfile(file, folder / file.name)
    else:
        metadata = {"format": "pt"} | seen_metadata([*weights.seen_images(), *seen])
        write_tensors(folder / TEXT_WEIGHT_FILES[0], tensors, metadata)


def _choose(
    run: Path,
    target: str | None,
    repeat: int | None,
) -> tuple[str, int]:
    """Return target and repeat of the encoders that the arguments of `finetuned_encoders` select."""
    folders = [path.parent for path in run.glob(f"{ENCODERS}/*/*/{RECORD}")]
    kept = sorted((unquote(folder.parent.name), int(folder.name)) for folder in folders)
    if not kept:
        raise FinetunedError(
            f"{run} contains no finetuned encoders: "
            "pass a run of `tier fit-head --finetune … --models first|all`"
        )
    matching_keys = []
    for name, number in kept:
        if target in (None, name) and repeat in (None, number):
            matching_keys.append((name, number))
    if not matching_keys or len({name for name, _ in matching_keys}) > 1:
        choices = ", ".join(f"--target {name} --repeat {number}" for name, number in kept)
        raise FinetunedError(
            f"the options do not select the encoders of one head of {run}: pass one of {choices}"
        )
    return matching_keys[0]


def _image_record(
    encoder: ImageEncoder,
    file: str,
    trained: bool,
) -> ImageRecord:
    preprocessing = encoder.preprocessing
    return ImageRecord(
        encoder=encoder.preset.name,
        preprocessing=cast(PreprocessingName, preprocessing.name),
        image_size=preprocessing.image_size,
        feature=encoder.feature,
        weights=file,
        trained=trained,
    )


def _choice(record: ImageRecord) -> ImageChoice:
    return ImageChoice(record.encoder, record.preprocessing, record.image_size, record.feature)


def _tensors_with_prefix(tensors: "Mapping[str, torch.Tensor]", prefix: str) -> "dict[str, torch.Tensor]":
    selected = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            selected[name.removeprefix(prefix)] = tensor.contiguous()
    return selected
