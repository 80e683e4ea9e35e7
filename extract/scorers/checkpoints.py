"""From a scorer's checkpoint, an original file or a folder as Hugging Face lays it out, to a configuration and tensors with our names."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import BlipConfig, CLIPConfig

from tier4k.extract.encoders.state_dicts import read_state_dict, require_fit
from tier4k.extract.encoders.weights import TEXT_WEIGHT_FILES, WeightsError

State = dict[str, Tensor]

HEAD_WIDTH = 64  # of every attention head of ViT and BERT, whatever their size

# Of ViT and BERT, by their width. A file without its last layers would else pass for a shorter network.
PUBLISHED_DEPTHS = {768: 12, 1024: 24}

REWARD_LAYERS = ("0", "2", "4", "6", "7")  # the numbers left out are dropout in training

# From the names of BLIP's published code to those of Hugging Face's modules.
BLIP_NAMES = (
    (r"^blip\.", ""),
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (
        r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.",
        r"vision_model.encoder.layers.\1.self_attn.projection.",
    ),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)

# What BLIP's pre-training keeps beside the parts that a scorer reads: its caption decoder, matching head, momentum encoders and their
# queues. The positions are the numbers from 0 on, which Hugging Face's modules make themselves.
LEFT_OUT = re.compile(
    r"(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m|text_decoder|itm_head)\."
    r"|(image_queue|text_queue|idx_queue|queue_ptr|ptr_queue|temp)$"
    r"|.*\bposition_ids$"
)


def clip_checkpoint(folder: Path) -> tuple[Any, State]:
    """Configuration and tensors of a CLIP folder.

    Raises:
        WeightsError: They cannot be read, or are not of a CLIP.
    """
    config = _config(folder, CLIPConfig)
    return config, {
        name: tensor for name, tensor in _state(folder).items() if not name.endswith(".position_ids")
    }


def blip_checkpoint(path: Path, reward: bool) -> tuple[Any, dict[str, tuple[int, int]], State]:
    """Configuration, sizes of the reward's layers and tensors of a BLIP.

    Args:
        path: An original checkpoint, whose configuration follows from the shapes of its tensors, or a folder.
        reward: Whether ImageReward's layers are wanted beside it.

    Raises:
        WeightsError: It cannot be read, or is not of a BLIP.
    """
    config: Any = _config(path, BlipConfig) if path.is_dir() else None
    state = _renamed(_state(path) if path.is_dir() else read_state_dict(path), path)
    config = config or _blip_config(state, path)
    return config, _reward_sizes(state, config.text_config.hidden_size, path) if reward else {}, state


@contextmanager
def without_memory(path: Path) -> Iterator[None]:
    """Inside, a model is built without memory, as no random weights are to be drawn only to be overwritten.

    Raises:
        WeightsError: No model has the sizes that `path` asks for.
    """
    try:
        with torch.device("meta"):
            yield
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise WeightsError(
            f"no network has the sizes that {path} asks for ({error}): take the files as published"
        ) from error


def load_all(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Give every parameter of a model made without memory its tensor in float32; none may be missing or left over.

    Raises:
        WeightsError: A tensor is missing, left over or of another shape.
    """
    require_fit(model.state_dict(), state, path)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids"), name
        owner, _, own = name.rpartition(".")
        setattr(model.get_submodule(owner), own, torch.arange(buffer.shape[-1]).expand(1, -1))


def _config(folder: Path, kind: type[BlipConfig] | type[CLIPConfig]) -> Any:
    path = folder / "config.json"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["model_type"] != kind.model_type:
            raise ValueError(f"the model type is {values['model_type']!r}, not {kind.model_type!r}")
        return kind.from_dict(values)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        StrictDataclassError,
    ) as error:
        raise WeightsError(
            f"{path} is not the configuration of a {kind.model_type.upper()} model ({error})"
        ) from error


def _state(folder: Path) -> State:
    return read_state_dict(next(folder / name for name in TEXT_WEIGHT_FILES if (folder / name).is_file()))


def _blip_name(name: str) -> str:
    for pattern, replacement in BLIP_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _renamed(published: State, path: Path) -> State:
    """A BLIP's tensors in Hugging Face's names, without those that no scorer reads."""
    state: State = {}
    for name, tensor in published.items():
        renamed = _blip_name(name)
        if renamed in state:
            raise WeightsError(
                f"{path} has several tensors for {renamed!r}, one of them {name!r}: take the file as published"
            )
        state[renamed] = tensor
    return {name: tensor for name, tensor in state.items() if not LEFT_OUT.match(name)}


def _reward_sizes(state: State, text_width: int, path: Path) -> dict[str, tuple[int, int]]:
    """Sizes of ImageReward's layers, {number: (inputs, outputs)}, each of which reads the one before and the last of which is a number."""
    outputs = [
        _shape(state, f"mlp.layers.{number}.weight", 2, path, "an ImageReward")[0]
        for number in REWARD_LAYERS[:-1]
    ]
    return dict(zip(REWARD_LAYERS, pairwise((text_width, *outputs, 1)), strict=True))


def _shape(state: State, name: str, dimensions: int, path: Path, what: str) -> torch.Size:
    if name not in state:
        raise WeightsError(
            f"{path} is not {what} checkpoint: it lacks the tensor {name!r}{_beginning(state)}"
        )
    shape = state[name].shape
    if len(shape) != dimensions or 0 in shape:
        raise WeightsError(
            f"{path} is not {what} checkpoint: the tensor {name!r} is {tuple(shape)}, where {dimensions} sizes are expected"
        )
    return shape


def _beginning(state: State) -> str:
    return (
        f"; its first tensors are {', '.join(map(repr, list(state)[:3])) or 'none'}, in Hugging Face's naming"
    )


def _blip_config(state: State, path: Path) -> BlipConfig:
    """What the shapes of an original checkpoint say; what they do not say is the same in all of BLIP's configurations."""

    def shape(name: str, dimensions: int) -> torch.Size:
        return _shape(state, name, dimensions, path, "a BLIP")

    def layers(prefix: str, width: int) -> int:
        there = {match[1] for name in state if (match := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
        return PUBLISHED_DEPTHS.get(width, len(there))

    patch = shape("vision_model.embeddings.patch_embedding.weight", 4)[-1]
    grid = math.isqrt(shape("vision_model.embeddings.position_embedding", 3)[1] - 1)
    vision_width = shape("vision_model.embeddings.class_embedding", 3)[-1]
    words, text_width = shape("text_encoder.embeddings.word_embeddings.weight", 2)
    vision = {
        "hidden_size": vision_width,
        "intermediate_size": shape("vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": layers("vision_model.encoder.layers", vision_width),
        "num_attention_heads": vision_width // HEAD_WIDTH,
        "image_size": grid * patch,
        "patch_size": patch,
        "layer_norm_eps": 1e-6,
    }
    text = {
        "vocab_size": words,
        "hidden_size": text_width,
        "encoder_hidden_size": vision_width,
        "intermediate_size": shape("text_encoder.encoder.layer.0.intermediate.dense.weight", 2)[0],
        "num_hidden_layers": layers("text_encoder.encoder.layer", text_width),
        "num_attention_heads": text_width // HEAD_WIDTH,
        "max_position_embeddings": shape("text_encoder.embeddings.position_embeddings.weight", 2)[0],
        "layer_norm_eps": 1e-12,
    }
    return BlipConfig(
        vision_config=vision, text_config=text, image_text_hidden_size=shape("text_proj.weight", 2)[0]
    )
