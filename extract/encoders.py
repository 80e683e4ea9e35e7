"""Encoders: frozen descriptions with a signature, which load into torch modules when there is something to encode."""

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache.signature import Signature
from extract.choices import DEFAULT_IMAGE_ENCODER, FeatureName, ImageSize, Precision, PreparationName, PresetName
from extract.pictures import CENTRE_ONLY, Preparation, Views
from extract.presets import EncoderError, ImagePreset, TextPreset, image_preset, text_preset
from extract.weights import (
    IMAGE_SUFFIXES,
    TEXT_FILES,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)

if TYPE_CHECKING:
    from extract.networks import ImageNetwork, TextNetwork

MAX_TOKENS = 512
UNKNOWN_VERSION = "unknown version"


@dataclass(frozen=True)
class ImageEncoder:
    """An image encoder with its weights found, not yet loaded.

    Attributes:
        preset: What it is.
        weights: Its weights.
        preparation: How pictures are prepared.
        feature: What is read from it.
        precision: Arithmetic of the network; features are stored in float32 all the same.
        views: Views of each picture.
    """

    preset: ImagePreset
    weights: Weights
    preparation: Preparation
    feature: FeatureName = "pooled"
    precision: Precision = "fp32"
    views: Views = CENTRE_ONLY

    @property
    def signature(self) -> Signature:
        """What makes the features of this encoder what they are."""
        preset, point = self.preset, self.preset.feature_point(self.feature)
        prepared, views = str(self.preparation), str(self.views)
        return Signature("image", preset.name, preset.architecture, self.weights.sha256, prepared, point, self.precision, views)

    def load(self) -> "ImageNetwork":
        """Build the network and load its weights, in evaluation mode.

        Raises:
            WeightsError: The weights do not fit.
        """
        from extract.networks import ImageNetwork

        return ImageNetwork.of(self)


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder with its folder found, not yet loaded."""

    preset: TextPreset
    weights: Weights
    precision: Precision = "fp32"
    max_tokens: int = MAX_TOKENS

    @property
    def signature(self) -> Signature:
        """What makes the features of this encoder what they are."""
        preparation = f"reference: its own tokenizer, truncated at {self.max_tokens} tokens"
        return Signature(
            "text", self.preset.name, "transformers AutoModel", self.weights.sha256, preparation, "masked-mean", self.precision
        )

    def load(self) -> "TextNetwork":
        """Build tokenizer and network and load the weights, in evaluation mode.

        Raises:
            WeightsError: The folder's files do not fit each other.
        """
        from extract.networks import TextNetwork

        return TextNetwork.of(self)


@dataclass(frozen=True)
class ImageChoice:
    """What a user asks of an image encoder; None leaves it to the encoder, or, where stores are looked for, to what there is.

    Attributes:
        encoder: A preset, or `timm:NAME`.
        prepare: "reference" or "native".
        image_size: Pixels of the shorter side of the whole picture, or "full".
        feature: What is read from the network.
        precision: Arithmetic of the network.
        views: Views of each picture.
    """

    encoder: str = DEFAULT_IMAGE_ENCODER
    prepare: PreparationName | None = None
    image_size: ImageSize | None = None
    feature: FeatureName | None = None
    precision: Precision | None = None
    views: Views | None = None


# What was measured to serve best; README tells the figures.
PRESETS: dict[PresetName, ImageChoice] = {"best": ImageChoice(image_size=512, feature="multilevel")}


def find_image_encoder(choice: ImageChoice, weights: Path | None = None, folders: Sequence[Path] = ()) -> ImageEncoder:
    """Find an image encoder and its weights.

    Args:
        choice: What is asked for.
        weights: A file given by the user, which is then the only place looked at.
        folders: Folders that may hold `pretrained/`.

    Raises:
        EncoderError: No such encoder, or it cannot be used so.
        WeightsError: No weights; the message says which file, where it can be had and where to put it.
    """
    preset = image_preset(choice.encoder)
    preparation = preset.preparation(choice.prepare, choice.image_size)
    preset.feature_point(choice.feature or "pooled")
    views = choice.views or CENTRE_ONLY
    if views.count and preparation.crop not in ("center", "no"):
        raise EncoderError(f"{preset.name} prepares pictures by {preparation.crop!r}, which has no random crops: leave --views out")
    found = _image_weights(preset, weights, folders)
    return ImageEncoder(preset, found, preparation, choice.feature or "pooled", choice.precision or "fp32", views)


def find_text_encoder(
    name: str, weights: Path | None = None, folders: Sequence[Path] = (), precision: Precision | None = None
) -> TextEncoder:
    """Find a text encoder and its folder; the other arguments and errors are those of `find_image_encoder`."""
    preset = text_preset(name)
    return TextEncoder(preset, _text_weights(preset, weights, folders), precision or "fp32")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a feature in its last digits."""
    return {name: library_version(name) for name in ("tier4k", "torch", "torchvision", "timm", "transformers", "pillow")}


def library_version(name: str) -> str:
    """Version of an installed library; `UNKNOWN_VERSION` where it runs from a checkout that is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN_VERSION


def _image_weights(preset: ImagePreset, given: Path | None, folders: Sequence[Path]) -> Weights:
    if given is not None:
        return file_weights(given, "--image-weights")
    if found := find_file(_file_names(preset), folders):
        return file_weights(found, str(found))
    if preset.package and (path := preset.package.find()):
        return file_weights(path, f"package {preset.package.module}")
    if hub := from_hub(preset.hub, ("model.safetensors",)):
        return file_weights(hub / "model.safetensors", f"hub {preset.hub}")
    wanted = preset.files[0].replace(".*", ".pth")
    raise WeightsError(
        f"no weights for the image encoder {preset.name}: put {wanted} into {folders[0] if folders else Path.cwd()}/pretrained/ "
        f"(or a pretrained/ folder beside the data), or give --image-weights FILE.\nThey can be had from: {preset.download}"
    )


def _file_names(preset: ImagePreset) -> list[str]:
    """The names that weights may have, patterns spelled out, in the order of the preset."""
    names: list[str] = []
    for pattern in preset.files:
        stem = pattern.removesuffix(".*")
        names += [pattern] if stem == pattern else [stem + suffix for suffix in IMAGE_SUFFIXES]
    return names


def _text_weights(preset: TextPreset, given: Path | None, folders: Sequence[Path]) -> Weights:
    if given is not None:
        return folder_weights(given, "--text-weights")
    candidates = [folder / preset.folder for folder in folders]
    for path in candidates:
        if path.is_dir():
            return folder_weights(path, str(path))
    if preset.package and (packaged := preset.package.find()):
        return folder_weights(packaged, f"package {preset.package.module}")
    if hub := from_hub(preset.hub, TEXT_FILES):
        return folder_weights(hub, f"hub {preset.hub}")
    raise WeightsError(
        f"no weights for the text encoder {preset.name}: put a folder {preset.folder}/ (config.json, vocab.txt or tokenizer.json, and "
        f"model.safetensors or pytorch_model.bin) into {folders[0] if folders else Path.cwd()} or beside the data, or give "
        f"--text-weights DIR.\nIt can be had from: https://huggingface.co/{preset.hub}"
    )


def from_hub(repository: str, files: Sequence[str]) -> Path | None:
    """A folder with the repository's files, from the local hub cache or the network; None where neither has them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not repository or os.path.isabs(repository):
        return None
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), etag_timeout=5))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None
