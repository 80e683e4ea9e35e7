"""timm's models without weights: configuration, accepted image sizes and levels."""

import inspect
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tier4k.cache.text import nearest
from tier4k.extract.encoders.levels import TOKEN_STATISTICS, Levels, block_levels
from tier4k.extract.encoders.names import EncoderError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

# Modules of timm.models whose networks have a level that is the output of a convolution before its batch
# normalisation. Folding changes this output. Signatures of these levels state that nothing is folded, so that
# older stores, whose levels were changed by folding, are not found.
UNFOLDED_MODULES = ("ghostnet", "repghost")
# Multiples of pixels that networks may need for patches, halvings or both, in the order of trials.
MULTIPLES = (1, 8, 14, 16, 28, 32, 42, 48, 64)


def timm_config(architecture: str) -> "PretrainedCfg":
    """Return timm's description of an architecture, such as its input size and the source of its weights.

    Raises:
        EncoderError: timm does not have the model, its tag, or a description of the model.
    """
    import timm

    try:
        config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    except RuntimeError as error:  # timm knows the model, but not the tag after the dot
        model, _, tag = architecture.partition(".")
        known = ", ".join(timm.list_models(f"{model}.*", pretrained=True))
        raise EncoderError(f"timm has no weights {tag!r} of {model}. Known: {known or model}") from error
    if config is None:
        raise EncoderError(f"timm has no model {architecture!r}{nearest(architecture, timm.list_models())}")
    return config


def create_network(
    architecture: str,
    uncropped: bool,
    projects: bool = False,
) -> Any:
    """Create a timm model without classifier and weights.

    Args:
        architecture: timm's name of the model.
        uncropped: Whether the model encodes images of any shape. Transformers then interpolate their
            positions to the patches of each image.
        projects: Whether the model keeps CLIP's projection, which is the classifier of timm's model.

    Raises:
        EncoderError: `projects` is set and timm has no description of the model.
    """
    import timm

    classes = timm_config(architecture).num_classes if projects else 0
    if uncropped:
        try:
            return timm.create_model(architecture, num_classes=classes, dynamic_img_size=True)
        except TypeError:  # most classes of timm do not have this option
            pass
    return timm.create_model(architecture, num_classes=classes)


@cache  # called for every signature
def side_multiple(architecture: str) -> int | None:
    """Return the number of pixels of which both sides of a whole image must be multiples.

    For a transformer with one grid of patches, this is the side of a patch; for other models, the first of
    `MULTIPLES` that the model accepts. None: the model accepts images of one size only.
    """
    import torch

    with torch.device("meta"):  # shapes without weights
        model = create_network(architecture, uncropped=True).eval()
    if _has_one_patch_grid(model):
        return int(model.patch_embed.feat_ratio())
    if timm_config(architecture).fixed_input_size:
        return None
    for multiple in MULTIPLES:
        if _accepts(model, multiple):
            return multiple
    return None


def _has_one_patch_grid(model: Any) -> bool:
    """Return whether a model takes patches in a grid of any shape, and keeps this grid in all blocks.

    Hierarchical transformers, such as Swin, do not: their windows fit the grids of one image size, although
    timm offers `dynamic_img_size` for them too.
    """
    if not getattr(model, "dynamic_img_size", False):
        return False
    reductions = {level["reduction"] for level in _feature_info(model)}
    return len(reductions) == 1


def _accepts(model: Any, multiple: int) -> bool:
    """Return whether a model on the meta device accepts an image with two different odd multiples as sides.

    An even multiple would also be a multiple of twice the number.
    """
    import torch

    sides = [(length // multiple // 2 * 2 + 1) * multiple for length in (300, 236)]
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, *sides, device="meta"))
    except Exception:  # networks raise any error for images that they cannot take
        return False
    return True


@cache  # called for every signature
def timm_levels(architecture: str) -> Levels:
    """Return the levels of a timm model.

    The levels of a CNN are its stages, and the map before the classifier if it differs from the last stage.
    The levels of a transformer are four of its blocks.

    Raises:
        EncoderError: timm cannot return the intermediate features of this model.
    """
    import torch

    with torch.device("meta"):  # shapes without weights
        model = create_network(architecture, uncropped=False).eval()
    if not hasattr(model, "forward_intermediates") or not hasattr(model, "feature_info"):
        raise EncoderError(f"timm gives no intermediate features of {architecture!r}: pass --feature pooled")
    levels = _levels(model, architecture)
    module = type(model).__module__.rpartition(".")[2]
    return replace(levels, folded=module not in UNFOLDED_MODULES)


def _levels(model: Any, architecture: str) -> Levels:
    import torch

    channels = [stage["num_chs"] for stage in _feature_info(model)]
    if _has_class_token(model):
        return block_levels(channels, TOKEN_STATISTICS)
    last, maps = _intermediates(model, architecture)
    if not all(isinstance(stage_map, torch.Tensor) for stage_map in maps):
        raise EncoderError(f"{architecture!r} has several maps at each stage: pass --feature pooled")
    head_width = model.num_features
    # The last output may also be a list, or tokens.
    has_head = isinstance(last, torch.Tensor) and last.ndim == 4 and last.shape[1] == head_width
    return _stage_levels(channels, head_width if has_head else channels[-1])


def _intermediates(model: Any, architecture: str) -> Any:
    """Return the last output and the stage maps of a model on the meta device, as timm returns them."""
    import torch

    image = torch.zeros(1, *model.pretrained_cfg["input_size"], device="meta")
    try:
        with torch.no_grad():
            return model.forward_intermediates(image)
    except Exception as error:  # networks raise any error where timm does not support them
        raise EncoderError(
            f"timm cannot compute the intermediate features of {architecture!r} ({error}): "
            "pass --feature pooled"
        ) from error


def _feature_info(model: Any) -> list[dict[str, Any]]:
    return list(getattr(model.feature_info, "info", model.feature_info))  # a list, in older models


def _has_class_token(model: Any) -> bool:
    """Return whether a model returns the class token with intermediate features.

    Some transformers have no class token, or do not return it.
    """
    import torch

    options = inspect.signature(model.forward_intermediates).parameters
    token = getattr(model, "cls_token", None)
    return isinstance(token, torch.nn.Parameter) and "return_prefix_tokens" in options


def _stage_levels(channels: list[int], head_width: int) -> Levels:
    names = tuple(f"stage{number}" for number in range(1, len(channels) + 1))
    if head_width == channels[-1]:
        return Levels(names, tuple(channels))
    return Levels((*names, "head"), (*channels, head_width))
