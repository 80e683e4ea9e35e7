"""Any model of timm as an image encoder."""

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from tier4k.extract.encoders.levels import Levels
from tier4k.extract.encoders.names import EncoderError, nearest

if TYPE_CHECKING:
    from timm.models import PretrainedCfg


TOKEN_STATISTICS = ("class", "mean", "sd")


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
        return Levels(
            tuple(f"block{number}" for number in blocks),
            tuple(channels[number - 1] for number in blocks),
            TOKEN_STATISTICS,
        )
    with torch.no_grad():
        maps = model.forward_intermediates(
            torch.zeros(1, *model.pretrained_cfg["input_size"], device="meta"), intermediates_only=True
        )
    if not all(isinstance(one, torch.Tensor) for one in maps):
        raise EncoderError(f"{architecture!r} has several maps at each stage: use --feature pooled")
    names = tuple(f"stage{number}" for number in range(1, len(channels) + 1))
    if model.num_features == channels[-1]:
        return Levels(names, tuple(channels))
    return Levels((*names, "head"), (*channels, model.num_features))
