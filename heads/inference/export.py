"""A model that travels: heads, encoders, calibration and a card in one folder, which loads offline and on the Hugging Face hub.

DIR/
    config.json, model.safetensors   the heads: what stands in model.json and model.safetensors of a run
    encoders/image.safetensors       the image encoder, in timm's naming
    encoders/text/                   the text encoder with its tokenizer, as Hugging Face lays it out
    encoders/seen.json               keys of the pictures that they were finetuned on, where they were
    encoders/TARGET/REPEAT/          instead of these, encoders that were finetuned with each head
    README.md                        the model card
    onnx/                            where asked for: image.onnx, text.onnx, head.onnx (see `tier4k.heads.inference.onnx`)
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tier4k.cache.atomic import publish
from tier4k.cache.errors import TierError
from tier4k.cache.store import writing
from tier4k.extract.encoders.from_signature import image_encoder_of, text_encoder_of
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.weights import TEXT_WEIGHT_FILES
from tier4k.heads.encoders.finetuned import ENCODERS, encoders_folder, write_image, write_text
from tier4k.heads.encoders.sources import SEEN_FILE, TEXT_FOLDER, Source
from tier4k.heads.inference.model_card import CARD, _card
from tier4k.heads.results.model import EXPORTED_FILE, Model

if TYPE_CHECKING:
    from torch import Tensor, nn


class ExportError(TierError):
    """A model that cannot be exported there."""


def export(sources: Sequence[Source], folder: Path, onnx: bool = False) -> dict[str, float]:
    """Write a model into a new folder, which is there whole or not at all.

    Args:
        sources: Heads with their encoders.
        folder: The new folder.
        onnx: Write ONNX files too.

    Returns:
        How far each ONNX file is from its original (see `export_onnx`).

    Raises:
        ExportError: The folder is there already.
        TierError: Weights are missing, or the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is there already: give a new folder, or remove it first")
    if onnx and len(sources) > 1:
        raise ExportError(
            f"{len(sources)} heads have encoders of their own: choose one with --target and --repeat for --onnx"
        )
    differences: dict[str, float] = {}

    def fill(path: Path) -> None:
        export_into(sources, path)
        if onnx:
            from tier4k.heads.inference.onnx import export_onnx

            differences.update(export_onnx(sources[0], path / "onnx"))

    with writing(folder):
        publish(folder, fill)
    return differences


def export_into(sources: Sequence[Source], folder: Path) -> None:
    """Write a model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _whole(sources)
    if len(sources) == 1 and not _was_finetuned(model):
        model = _with_encoders(sources[0], folder)
    else:
        for target, repeat in model.heads:
            place = encoders_folder(Path(), target, repeat)
            shutil.copytree(model.folder / place, folder / place)
    replace(model, folder=folder).write(EXPORTED_FILE)
    (folder / CARD).write_text(_card(model), encoding="utf-8")


def _whole(sources: Sequence[Source]) -> Model:
    model = sources[0].model
    heads = {place: head for source in sources for place, head in source.model.heads.items()}
    return replace(model, heads=heads)


def _was_finetuned(model: Model) -> bool:
    return all(encoders_folder(model.folder, target, repeat).is_dir() for target, repeat in model.heads)


def _with_encoders(source: Source, folder: Path) -> Model:
    """Write the two encoders; the model with the signatures of these very files."""
    inside = folder / ENCODERS
    inside.mkdir()
    image = write_image(source.image, _contiguous(ImageNetwork.of(source.image).backbone), inside)
    has_safetensors = (source.text.weights.path / TEXT_WEIGHT_FILES[0]).is_file()
    # The pooler's output is not read, and where a file lacks it, it is random.
    tensors = {} if has_safetensors else _contiguous(TextNetwork.of(source.text).backbone)
    write_text(
        source.text,
        {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")},
        inside / TEXT_FOLDER,
    )
    if source.seen:
        (inside / SEEN_FILE).write_text(json.dumps(source.seen), encoding="utf-8")
    signatures = source.model.signatures
    found = {
        "image": image_encoder_of(signatures["image"], inside / image, anew=True).signature,
        "text": text_encoder_of(signatures["text"], inside / TEXT_FOLDER, anew=True).signature,
    }
    return replace(source.model, signatures=found)


def _contiguous(network: "nn.Module") -> "dict[str, Tensor]":
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
