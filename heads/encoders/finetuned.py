"""The encoders of a finetuned run: how its folder keeps them, and how they are found again.

runs/<id>/encoders/<target>/<repeat>/
    encoders.json       what they are, and the pictures that they have seen
    image.safetensors   (another suffix where the image encoder was not trained and is the file it came from)
    text/               as Hugging Face lays it out
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from tier4k.cache.atomic import publish_text
from tier4k.cache.errors import TierError
from tier4k.cache.store import FeatureStore, writing
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choice import ImageChoice
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.from_signature import RUN_MARK
from tier4k.extract.encoders.weights import TEXT_FILES, TEXT_WEIGHT_FILES
from tier4k.heads.data.splits import Split
from tier4k.heads.results.run_format import require_current_format

if TYPE_CHECKING:
    import torch


ENCODERS = "encoders"  # in a run's folder

RECORD = "encoders.json"

SEEN = "finetuned"  # in a folder of stores: which pictures the encoders of a store have seen

IMAGES, TEXTS = "images.backbone.", "texts.backbone."  # names of trained tensors begin so


class FinetunedError(TierError):
    """Encoders that a run does not have, or that may not be used so."""


@dataclass(frozen=True)
class TrainedEncoders:
    """The encoders that one head of a run was trained with, before they stand in the run's folder.

    Attributes:
        image, text: What training started from.
        weights: .safetensors file with the trained tensors; an encoder that was not trained has none there.
        seen: Keys (hexadecimal) of the pictures that trained them or chose among their epochs.
    """

    image: ImageEncoder
    text: TextEncoder
    weights: Path
    seen: Sequence[str]

    def write(self, folder: Path) -> None:
        """Write them as files that every command can load as weights."""
        from safetensors.torch import load_file

        folder.mkdir(parents=True)
        tensors = load_file(self.weights)
        images, texts = _below(tensors, IMAGES), _below(tensors, TEXTS)
        image_file = write_image(self.image, images, folder)
        write_text(self.text, texts, folder / "text")
        prepared = self.image.preprocessing
        image = {
            "encoder": self.image.preset.name,
            "preprocessing": prepared.name,
            "image_size": None if prepared.size is not None else prepared.resize or "full",
            "feature": self.image.feature,
            "weights": image_file,
            "trained": bool(images),
        }
        text = {"encoder": self.text.preset.name, "trained": bool(texts)}
        (folder / RECORD).write_text(
            json.dumps({"image": image, "text": text, "seen": list(self.seen)}, indent=1), encoding="utf-8"
        )


@dataclass(frozen=True)
class FinetunedEncoders:
    """The encoders of one head of a run, ready for extraction.

    Attributes:
        image, text: Weights in the run's folder; the name of one that was trained tells the run too.
        seen: Keys (hexadecimal) of the pictures that trained them or chose among their epochs.
        target, repeat: Of the head that they were trained with.
    """

    image: ImageEncoder
    text: TextEncoder
    seen: tuple[str, ...]
    target: str
    repeat: int

    def record(self, features: Path) -> None:
        """Note beside the stores under `features` which pictures those of these encoders that were trained have seen."""
        for encoder in (self.image, self.text):
            if RUN_MARK in encoder.preset.name:
                record_seen(features, encoder, self.seen)


def record_seen(features: Path, encoder: ImageEncoder | TextEncoder, seen: Sequence[str]) -> None:
    """Note beside the stores under `features` which pictures an encoder has seen, for `require_unseen`."""
    with writing(features):
        publish_text(features / SEEN / f"{encoder.signature.weights}.json", json.dumps(seen))


def encoders_folder(run: Path, target: str, repeat: int) -> Path:
    """Where a run keeps the encoders of one head."""
    return run / ENCODERS / quote(target, safe=" ") / str(repeat)


def keeps_finetuned_encoders(run: Path) -> bool:
    """Whether a run finetuned encoders and kept any."""
    return any(run.glob(f"{ENCODERS}/*/*/{RECORD}"))


def finetuned_encoders(run: Path, target: str | None = None, repeat: int | None = None) -> FinetunedEncoders:
    """The encoders that a run finetuned.

    Args:
        run: Its folder.
        target: Whose encoders; None where there are those of one target only.
        repeat: Of which repeat; None is the first that was kept.

    Raises:
        FinetunedError: The run keeps no such encoders.
        ResultError: The run is of another format.
        WeightsError: A file is missing.
    """
    require_current_format(run)
    kept = sorted(
        (unquote(path.parent.parent.name), int(path.parent.name))
        for path in run.glob(f"{ENCODERS}/*/*/{RECORD}")
    )
    fitting = [one for one in kept if target in (None, one[0]) and repeat in (None, one[1])]
    if not kept:
        raise FinetunedError(
            f"{run} keeps no finetuned encoders: give a run of `tier fit-head --finetune … --models first|all`"
        )
    if not fitting or len({name for name, _ in fitting}) > 1:
        there = ", ".join(f"--target {name} --repeat {number}" for name, number in kept)
        raise FinetunedError(f"{run} has encoders of {there}: choose one of them")
    name, number = fitting[0]
    folder = encoders_folder(run, name, number)
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        about = record["image"]
        choice = ImageChoice(about["encoder"], about["preprocessing"], about["image_size"], about["feature"])
        image = find_image_encoder(choice, folder / about["weights"])
        text = find_text_encoder(record["text"]["encoder"], folder / "text")
        trained, seen = (about["trained"], record["text"]["trained"]), tuple(record["seen"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FinetunedError(
            f"{folder / RECORD} cannot be read ({error!r}): delete {run} and finetune again"
        ) from error
    of = f"{RUN_MARK}{run.resolve().name}-{name}-{number}"
    if trained[0]:
        image = replace(image, preset=replace(image.preset, name=image.preset.name + of))
    if trained[1]:
        text = replace(text, preset=replace(text.preset, name=text.preset.name + of))
    return FinetunedEncoders(image, text, seen, name, number)


def require_unseen(manifest: Manifest, splits: Sequence[Split], *stores: FeatureStore) -> None:
    """Refuse test rows that the encoders of a store were finetuned on.

    Raises:
        FinetunedError: There are such rows, or the record of them is missing or damaged.
    """
    keys, pictures = frozenset[str]().union(*map(_seen, stores)), manifest.table["image_key"]
    for split in splits:
        # A picture that stands in the training part too, under another prompt, is the split's own leak, which is told with its figures.
        own = pictures.iloc[np.concatenate([split.train, split.validation])]
        tested = pictures.iloc[split.test]
        if count := int((tested.isin(keys) & ~tested.isin(own)).sum()):
            raise FinetunedError(
                f"the encoders of these features were finetuned on {count} of the {len(split.test)} test pictures of the split with seed "
                f"{split.seed}, so that its figures would be worth nothing: give the --benchmark of the run RUN that they come from, "
                "and --split RUN/splits.json:N, N being the number of their repeat"
            )


def _seen(store: FeatureStore) -> list[str]:
    if RUN_MARK not in store.signature.encoder:
        return []
    path = store.path.parent / SEEN / f"{store.signature.weights}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FinetunedError(
            f"{path} cannot be read ({error}), which tells the pictures that the encoder of {store.path.name} was finetuned on: "
            "run `tier extract DATA --finetuned RUN` again"
        ) from error


def _below(tensors: "Mapping[str, torch.Tensor]", prefix: str) -> "dict[str, torch.Tensor]":
    return {
        name.removeprefix(prefix): tensor.contiguous()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def write_image(encoder: ImageEncoder, tensors: "dict[str, torch.Tensor]", folder: Path) -> str:
    """Write the tensors of an image encoder into a folder, or its own file where there are none; the file's name."""
    import torch
    from safetensors.torch import save_file

    if not tensors:
        name = f"image{encoder.weights.path.suffix}"
        shutil.copyfile(encoder.weights.path, folder / name)
        return name
    if encoder.preset.feature == "class-token-before-norm":
        # The network is used without its last norm, but its files have one: this one changes nothing.
        width = tensors["cls_token"].shape[-1]
        tensors |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    save_file(tensors, folder / "image.safetensors")
    return "image.safetensors"


def write_text(encoder: TextEncoder, tensors: "dict[str, torch.Tensor]", folder: Path) -> None:
    """Write a text encoder's folder with these tensors, or a copy of its own where there are none."""
    from safetensors.torch import save_file

    folder.mkdir()
    for name in TEXT_FILES:
        source = encoder.weights.path / name
        if source.is_file() and not (tensors and name in TEXT_WEIGHT_FILES):
            shutil.copyfile(source, folder / name)
    if tensors:
        save_file(tensors, folder / TEXT_WEIGHT_FILES[0], metadata={"format": "pt"})
