"""Vision models of transformers by family: class, pooled embedding, tokens before the patches."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tier4k.cache.text import shortened
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.transformers_config import CONFIG, read_config, refuse_unknown_type, tower_config
from tier4k.extract.weights.files import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

CLASS_TOKEN = "class_token"


@dataclass(frozen=True)
class Family:
    """How the vision models of one family are built and read.

    Attributes:
        model: Name of the class in transformers.
        embedding: Field of the output with the pooled embedding, or `CLASS_TOKEN`: the first token after the
            last norm, because the pooler of these models is often untrained.
        class_token: Whether the first token is a class token.
        other_tokens: Tokens between the class token and the patches: a number, or a field of the config.
        feature: Text of pooled features in a signature.
        options: Options of the class's constructor.
        takes_patches: Whether the model takes a sequence of patches and its shape instead of images (NaFlex).
        has_patches: Whether hidden states are tokens, one for each patch of the image.
    """

    model: str
    embedding: str = "pooler_output"
    class_token: bool = False
    other_tokens: int | str = 0
    feature: str = "pooled"
    options: tuple[tuple[str, Any], ...] = ()
    takes_patches: bool = False
    has_patches: bool = True


_NO_POOLER = (("add_pooling_layer", False),)
_CLIP = Family("CLIPVisionModelWithProjection", "image_embeds", class_token=True, feature="projection")
_CLIP_WITHOUT_PROJECTION = Family("CLIPVisionModel", class_token=True)
_SIGLIP = Family("SiglipVisionModel")
_SIGLIP2 = Family("Siglip2VisionModel", takes_patches=True)
# By the `model_type` in config.json. Of models with a text tower, the vision tower is loaded alone.
FAMILIES = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_vision_model": _SIGLIP2,
    "dinov2": Family("Dinov2Model", class_token=True),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersModel", class_token=True, other_tokens="num_register_tokens"
    ),
    "dinov3_vit": Family("DINOv3ViTModel", class_token=True, other_tokens="num_register_tokens"),
    "vit": Family("ViTModel", CLASS_TOKEN, class_token=True, options=_NO_POOLER),
    "deit": Family("DeiTModel", CLASS_TOKEN, class_token=True, other_tokens=1, options=_NO_POOLER),
    "beit": Family("BeitModel", class_token=True),
    "dinov3_convnext": Family("DINOv3ConvNextModel", has_patches=False),
    "convnext": Family("ConvNextModel", has_patches=False),
    "convnextv2": Family("ConvNextV2Model", has_patches=False),
    "swin": Family("SwinModel", has_patches=False),
    "swinv2": Family("Swinv2Model", has_patches=False),
    "resnet": Family("ResNetModel", has_patches=False),
    "regnet": Family("RegNetModel", has_patches=False),
}


@dataclass(frozen=True)
class VisionModel:
    """The vision model in a folder of Hugging Face, which is not loaded yet.

    Attributes:
        family: Its family.
        config: Its configuration; of a model with a text tower, the one of the vision tower.
        known: Whether the family is one of `FAMILIES`; of others only the pooled output is read.
    """

    family: Family
    config: Any
    known: bool = True

    @property
    def model_class(self) -> Any:
        """The class in transformers."""
        import transformers

        return getattr(transformers, self.family.model)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels; 1 where images need not consist of whole patches."""
        if not self.family.has_patches:
            return 1
        patch = getattr(self.config, "patch_size", 1)
        return int(patch) if isinstance(patch, int) else int(max(patch))

    @property
    def has_windows(self) -> bool:
        """Whether transformers changes the windows of the network for good (see `keep_windows`)."""
        return self.family.model == "SwinModel"

    @property
    def tokens_before_patches(self) -> int:
        """Number of class, register and distillation tokens."""
        other = self.family.other_tokens
        count = getattr(self.config, other) if isinstance(other, str) else other
        return int(self.family.class_token) + int(count)

    def outputs(
        self,
        network: Any,
        images: "Tensor",
        levels: bool = False,
    ) -> Any:
        """Return the outputs of a network of this model for normalised images (B, 3, H, W).

        Args:
            network: An instance of `model_class`.
            images: Sides of images are multiples of `patch`.
            levels: Whether the outputs contain the hidden states.
        """
        options: dict[str, Any] = {"output_hidden_states": levels, "return_dict": True}
        if "interpolate_pos_encoding" in inspect.signature(type(network).forward).parameters:
            options["interpolate_pos_encoding"] = True
        if self.has_windows:
            options["always_partition"] = True  # see `keep_windows`
        if not self.family.takes_patches:
            return network(pixel_values=images, **options)
        return network(**_patches(images, self.patch), **options)

    def embedding(self, outputs: Any) -> "Tensor":
        """Return the pooled embedding (B, D)."""
        if self.family.embedding == CLASS_TOKEN:
            return outputs.last_hidden_state[:, 0]
        return getattr(outputs, self.family.embedding).flatten(1)

    def hidden_states(self, outputs: Any) -> "tuple[Tensor, ...]":
        """Return the output of each block (B, N, C) or stage (B, C, H, W), from input to output.

        transformers puts the input of the first block in front, which is left out.
        """
        maps = getattr(outputs, "reshaped_hidden_states", None)  # of stages that work on sequences
        return tuple(maps or outputs.hidden_states)[1:]


def vision_model(folder: Path) -> VisionModel:
    """Read which vision model a folder of Hugging Face holds.

    Code in the folder is never run.

    Raises:
        EncoderError: transformers does not have the model, or it is not a vision model.
        WeightsError: config.json is missing or damaged.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    content = read_config(folder)
    kind = str(content.get("model_type"))
    if kind not in CONFIG_MAPPING:
        refuse_unknown_type(folder, content)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # checks of many kinds of values raise errors of many classes
        reason = shortened(error, 300)
        raise WeightsError(f"{folder / CONFIG} cannot be read ({reason}): download it again") from error
    family = FAMILIES.get(kind)
    if _CLIP_WITHOUT_PROJECTION.model in (content.get("architectures") or ()):
        family = _CLIP_WITHOUT_PROJECTION
    if family is not None:
        model = VisionModel(family, tower_config(config, "vision_config"))
        _require_token_counts(model, folder)
        return model
    return VisionModel(_unlisted_family(folder, kind, config), config, known=False)


def _require_token_counts(model: VisionModel, folder: Path) -> None:
    """Require numbers from which the tokens of an image can be counted.

    Raises:
        WeightsError: The side of a patch, or the number of other tokens, is no number that is possible.
    """
    patch = getattr(model.config, "patch_size", 1)
    sides = patch if isinstance(patch, list | tuple) else [patch]
    if model.family.has_patches and not (sides and all(type(side) is int and side > 0 for side in sides)):
        raise WeightsError(_impossible(folder, "patch_size", patch, 1))
    other = model.family.other_tokens
    if isinstance(other, str):
        count = getattr(model.config, other)
        if type(count) is not int or count < 0:
            raise WeightsError(_impossible(folder, other, count, 0))


def _impossible(
    folder: Path,
    name: str,
    value: object,
    smallest: int,
) -> str:
    return (
        f"{folder / CONFIG} states {name} = {shortened(value, 60)}, and it is a whole number from "
        f"{smallest}: download the folder again"
    )


def keep_windows(network: Any) -> None:
    """Make the outputs of a Swin network independent of the images that it has seen before.

    transformers lets a layer of Swin shrink its windows for good at the first small image, so that later
    images would get other features, and fails where an image is smaller than a window. Here windows keep
    their size, smaller images are padded, and only the shift depends on the image: as in a new network of
    transformers, windows that cover the whole height or width are not shifted.
    """
    from transformers.models.swin.modeling_swin import SwinLayer

    for layer in network.modules():
        if isinstance(layer, SwinLayer):
            layer.register_forward_pre_hook(_Shift(layer.window_size, layer.shift_size))


class _Shift:
    """Sets the shift of a layer of Swin from the size (H, W) of its input, before each call."""

    def __init__(self, window: int, shift: int) -> None:
        self._window = window
        self._shift = shift

    def __call__(self, layer: Any, inputs: tuple[Any, ...]) -> None:
        layer.shift_size = 0 if min(inputs[1]) <= self._window else self._shift


def _patches(images: "Tensor", patch: int) -> "dict[str, Tensor | None]":
    """Return images (B, 3, H, W) as sequences of patches (B, N, patch * patch * 3), with their shapes."""
    import torch

    batch, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    grid = images.reshape(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
    # transformers looks at the values of the shapes, which tensors on the meta device do not have.
    device = "cpu" if images.device.type == "meta" else images.device
    return {
        "pixel_values": grid.reshape(batch, rows * columns, -1),
        "pixel_attention_mask": None,  # images of a batch have one shape, so no patch is padding
        "spatial_shapes": torch.tensor([[rows, columns]] * batch, device=device),
    }


def _unlisted_family(
    folder: Path,
    kind: str,
    config: Any,
) -> Family:
    """Return the family of a model that is not listed, if it takes images alone."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    model_class: Any = MODEL_MAPPING.get(type(config), None)
    if isinstance(model_class, tuple):
        model_class = model_class[0]
    if getattr(model_class, "main_input_name", None) != "pixel_values" or hasattr(config, "text_config"):
        raise EncoderError(
            f"the model in {folder} (model_type {kind!r}) is no image encoder that tier4k reads: pass a "
            f"vision model, or a model with a vision tower, such as {', '.join(FAMILIES)}"
        )
    return Family(model_class.__name__, has_patches=False)
