"""Export a model as one folder, which can be loaded offline and from the hub.

DIR/
    config.json, model.safetensors   the heads: the content of a run's model.json and model.safetensors
    encoders/                        the encoders (see `tier4k.heads.encoders.exported`)
    encoders/TARGET/REPEAT/          instead of these files: the encoders finetuned with each head
    README.md                        the model card
    onnx/                            with --onnx: encoders and heads as ONNX files (see `onnx.py`)
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.cache.atomic import publish
from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import image_encoder_of, text_encoder_of
from tier4k.extract.encoders.function import is_function
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.scorers.called import is_published
from tier4k.extract.scorers.copy import copy_scorer
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.checkpoints import read_state_dict
from tier4k.extract.weights.files import TEXT_WEIGHT_FILES, TOKENIZER_PARTS, folder_weights_file
from tier4k.heads.data.encoder_names import score_signatures
from tier4k.heads.encoders.exported import encoder_place, exported_path, owner_of_files, scorers_folder
from tier4k.heads.encoders.finetuned import TEXT_FOLDER, write_image, write_text
from tier4k.heads.encoders.sources import EncoderSource
from tier4k.heads.inference.model_card import model_card
from tier4k.heads.results.layout import CARD, encoders_folder
from tier4k.heads.results.model import EXPORTED_FILE, Model

if TYPE_CHECKING:
    from torch import Tensor, nn


class ExportError(TierError):
    """A model that cannot be exported."""


def export(
    sources: Sequence[EncoderSource],
    folder: Path,
    onnx: bool = False,
) -> dict[str, float]:
    """Write a model into a new folder, completely or not at all.

    Args:
        sources: Heads with their encoders.
        folder: The new folder.
        onnx: Whether ONNX files are written too.

    Returns:
        The difference of each ONNX file from the torch network (see `export_onnx`); empty without ONNX.

    Raises:
        ExportError: The folder exists, an image encoder is a function, or ONNX files are requested for heads
            with different encoders.
        TierError: Weights are missing, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} exists already: pass a new folder, or remove {folder} first")
    if onnx and len(sources) > 1:
        raise ExportError(
            f"each of the {len(sources)} heads was trained with its own encoders, and --onnx writes one "
            "head only: select one head with --target and --repeat"
        )
    for source in sources:
        _require_files(source)
    differences: dict[str, float] = {}

    def fill(path: Path) -> None:
        """Write everything into a folder with a temporary name."""
        export_into(sources, path)
        if onnx:
            from tier4k.heads.inference.onnx import export_onnx

            differences.update(export_onnx(sources[0], path / "onnx"))

    with explain_write_errors(folder):
        publish(folder, fill)
    return differences


def export_into(sources: Sequence[EncoderSource], folder: Path) -> None:
    """Write a model into a folder.

    Args:
        sources: Heads with their encoders.
        folder: Folder to write into; it is made if it does not exist.

    Raises:
        TierError: Weights are missing.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = _merge_heads(sources)
    card = model_card(model)  # before weights are written: it knows rounded weights by their hash
    if len(sources) == 1 and not _has_finetuned_encoders(model):
        model = _write_encoders(sources[0], folder)
    else:
        _copy_encoders(model, folder)
    replace(model, folder=folder).write(EXPORTED_FILE)
    (folder / CARD).write_text(card, encoding="utf-8")


def _require_files(source: EncoderSource) -> None:
    """Refuse encoders in code: their weights are in no file.

    Raises:
        ExportError: An image encoder is a function.
    """
    for signature in source.model.signatures.values():
        if is_function(signature.architecture):
            raise ExportError(
                f"the image encoder {signature.encoder} is a function, which a folder cannot hold: fit heads "
                "on features of another encoder to export them"
            )


def _merge_heads(sources: Sequence[EncoderSource]) -> Model:
    heads = {}
    for source in sources:
        heads.update(source.model.heads)
    return replace(sources[0].model, heads=heads)


def _has_finetuned_encoders(model: Model) -> bool:
    return all(encoders_folder(model.folder, target, repeat).is_dir() for target, repeat in model.heads)


def _copy_encoders(model: Model, folder: Path) -> None:
    for target, repeat in model.heads:
        relative_path = encoders_folder(Path(), target, repeat)
        shutil.copytree(model.folder / relative_path, folder / relative_path)


def _write_encoders(source: EncoderSource, folder: Path) -> Model:
    """Write the encoders, and return the model with the signatures of the written files."""
    signatures = source.model.signatures
    encoders: list[ImageEncoder | TextEncoder] = [*source.images.values(), *source.texts.values()]
    for encoder in encoders:
        if owner_of_files(signatures, encoder.signature) == encoder.signature:
            place = encoder_place(folder, signatures, encoder.signature)
            place.mkdir(parents=True, exist_ok=True)
            _write_encoder(source, encoder, place)
    for name, signature in score_signatures(signatures).items():
        if is_published(signature):
            scorer = source.find_scorers[name]()
            assert isinstance(scorer, Scorer)
            copy_scorer(scorer, scorers_folder(folder))
    return replace(source.model, signatures=_written_signatures(folder, signatures))


def _write_encoder(
    source: EncoderSource,
    encoder: ImageEncoder | TextEncoder,
    place: Path,
) -> None:
    """Write the files of an encoder, and of a text encoder that shares them, into a folder."""
    if isinstance(encoder, TextEncoder):
        write_text(encoder, _text_tensors(encoder), place / TEXT_FOLDER)
        return
    for text in source.texts.values():
        if owner_of_files(source.model.signatures, text.signature) == encoder.signature:
            _write_checkpoint(encoder, text, place)
            return
    write_image(encoder, _tensors(load_image_network(encoder).backbone), place)


def _write_checkpoint(
    image: ImageEncoder,
    text: TextEncoder,
    place: Path,
) -> None:
    """Write the whole checkpoint of both encoders, with the files of the tokenizer."""
    file = folder_weights_file(image.weights.path, image.weights.source)
    is_safe = file.name.startswith(TEXT_WEIGHT_FILES[0])  # one file, or an index
    name = write_image(image, {} if is_safe else read_state_dict(file), place)
    for part in TOKENIZER_PARTS:
        if (text.weights.path / part).is_file():
            shutil.copyfile(text.weights.path / part, place / name / part)


def _written_signatures(folder: Path, signatures: Mapping[str, Signature]) -> dict[str, Signature]:
    """Return the signatures of the encoders as written, in which only the hash of the weights may differ."""
    written: dict[str, Signature] = {}
    for key, signature in signatures.items():
        if signature.stream == "score":  # its files are copied as they are
            written[key] = signature
            continue
        encoder_of = image_encoder_of if signature.stream == "image" else text_encoder_of
        path = exported_path(folder, signatures, signature)
        written[key] = encoder_of(signature, path, rewritten=True).signature
    return written


def _text_tensors(encoder: TextEncoder) -> "dict[str, Tensor]":
    """Return the tensors of a text encoder, or none if it has a safetensors file, which is copied instead.

    Of a model of images and texts, only the tensors of the text tower are written.
    """
    has_safetensors = (encoder.weights.path / TEXT_WEIGHT_FILES[0]).is_file()
    if has_safetensors and not encoder.model.family.is_tower:
        return {}
    tensors = _tensors(TextNetwork.of(encoder).backbone)
    # The pooler's output is unused, and random where the weights lack it.
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}


def _tensors(network: "nn.Module") -> "dict[str, Tensor]":
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
