"""timm's descriptions of its models: configuration and levels."""

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError, nearest

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

TOKEN_STATISTICS = ("class", "mean", "sd")


def timm_config(architecture: str) -> "PretrainedCfg":
    """Return timm's description of an architecture, such as its input size and the source of its weights.

    Raises:
        EncoderError: timm does not have the model, or has no description of the model.
    """
    import timm

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    if config is None:
        raise EncoderError(f"timm has no model {architecture!r}{nearest(architecture, timm.list_models())}")
    return config


@cache  # called for every signature
def timm_levels(architecture: str) -> Levels:
    """Return the levels of a timm model.

    The levels of a CNN are its stages, and the map before the classifier if it differs from the last stage.
    The levels of a transformer are four of its blocks.

    Raises:
        EncoderError: timm cannot return the intermediate features of this model.
    """
    import timm
    import torch

    with torch.device("meta"):  # shapes without weights
        model: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
        raise EncoderError(f"timm gives no intermediate features of {architecture!r}: pass --feature pooled")
    info = getattr(model.feature_info, "info", model.feature_info)  # a list, in older models
    channels = [stage["num_chs"] for stage in info]
    if _has_class_token(model):
        return _block_levels(channels)
    with torch.no_grad():
        image = torch.zeros(1, *model.pretrained_cfg["input_size"], device="meta")
        maps = model.forward_intermediates(image, intermediates_only=True)
    if not all(isinstance(stage_map, torch.Tensor) for stage_map in maps):
        raise EncoderError(f"{architecture!r} has several maps at each stage: pass --feature pooled")
    return _stage_levels(channels, model.num_features)


def _has_class_token(model: Any) -> bool:
    """Return whether a model returns the class token with intermediate features.

    Some transformers have no class token, or do not return it.
    """
    import torch

    options = inspect.signature(model.forward_intermediates).parameters
    token = getattr(model, "cls_token", None)
    return isinstance(token, torch.nn.Parameter) and "return_prefix_tokens" in options


def _block_levels(channels: list[int]) -> Levels:
    names = []
    widths = []
    for quarter in (1, 2, 3, 4):
        block = len(channels) * quarter // 4
        names.append(f"block{block}")
        widths.append(channels[block - 1])
    return Levels(tuple(names), tuple(widths), TOKEN_STATISTICS)


def _stage_levels(channels: list[int], head_width: int) -> Levels:
    names = tuple(f"stage{number}" for number in range(1, len(channels) + 1))
    if head_width == channels[-1]:
        return Levels(names, tuple(channels))
    return Levels((*names, "head"), (*channels, head_width))
