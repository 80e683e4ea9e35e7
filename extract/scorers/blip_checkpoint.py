"""Reading checkpoints of BLIP and ImageReward: original files, or folders in Hugging Face's layout."""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import BlipConfig

from tier4k.extract.scorers.checkpoints import State, read_config, read_folder_state
from tier4k.extract.weights.checkpoints import read_state_dict
from tier4k.extract.weights.files import WeightsError

RewardSizes = dict[str, tuple[int, int]]

HEAD_WIDTH = 64  # of every attention head of ViT and BERT, whatever their size

# Layers of ViT and BERT by their width: a file without its last layers must not pass for a shorter network.
PUBLISHED_DEPTHS = {768: 12, 1024: 24}

REWARD_LAYERS = ("0", "2", "4", "6", "7")  # the numbers left out are dropout in training

VISION_NORM_EPS = 1e-6

TEXT_NORM_EPS = 1e-12

# Patterns of names in BLIP's published code, and the names of Hugging Face's modules.
BLOCK = r"^visual_encoder\.blocks\.(\d+)\."
LAYER = r"vision_model.encoder.layers.\1."
BLIP_NAMES = (
    (r"^blip\.", ""),
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (BLOCK + r"norm([12])\.", LAYER + r"layer_norm\2."),
    (BLOCK + r"attn\.qkv\.", LAYER + r"self_attn.qkv."),
    (BLOCK + r"attn\.proj\.", LAYER + r"self_attn.projection."),
    (BLOCK + r"mlp\.", LAYER + r"mlp."),
)

# Parts of BLIP's pre-training that no scorer reads: its caption decoder, matching head, momentum encoders and
# their queues. The positions are 0, 1, 2, …, which `load_all` computes.
UNUSED_TENSORS = re.compile(
    r"(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m|text_decoder|itm_head)\."
    r"|(image_queue|text_queue|idx_queue|queue_ptr|ptr_queue|temp)$"
    r"|.*\bposition_ids$"
)


def blip_checkpoint(path: Path, reward: bool) -> tuple[Any, RewardSizes, State]:
    """Configuration, sizes of the reward's layers and tensors of a BLIP.

    Args:
        path: An original checkpoint, whose configuration follows from the shapes of its tensors, or a folder.
        reward: Whether the checkpoint must hold ImageReward's layers.

    Raises:
        WeightsError: It cannot be read, or is not of a BLIP.
    """
    config: Any
    if path.is_dir():
        config = read_config(path, BlipConfig)
        state = _renamed(read_folder_state(path), path)
    else:
        state = _renamed(read_state_dict(path), path)
        config = _config_of_shapes(_Shapes(state, path, "a BLIP"))
    if not reward:
        return config, {}, state
    shapes = _Shapes(state, path, "an ImageReward")
    return config, _reward_sizes(shapes, config.text_config.hidden_size), state


def _renamed(published: State, path: Path) -> State:
    """A BLIP's tensors in Hugging Face's names, without the unused ones."""
    state: State = {}
    for name, tensor in published.items():
        renamed = _module_name(name)
        if renamed in state:
            raise WeightsError(
                f"{path} has several tensors for {renamed!r}, {name!r} among them: use the published file "
                "without changes"
            )
        state[renamed] = tensor
    return {name: tensor for name, tensor in state.items() if not UNUSED_TENSORS.match(name)}


def _module_name(name: str) -> str:
    for pattern, replacement in BLIP_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@dataclass(frozen=True)
class _Shapes:
    """Shapes of a checkpoint's tensors.

    Attributes:
        state: The tensors, in Hugging Face's names.
        path: The file, for messages.
        model: The expected model, for messages.
    """

    state: State
    path: Path
    model: str

    def of(self, name: str, dimensions: int) -> torch.Size:
        """Shape of a tensor, which must exist and have this number of dimensions, none of them empty."""
        if name not in self.state:
            first = ", ".join(map(repr, list(self.state)[:3])) or "none"
            raise WeightsError(
                f"{self.path} is not {self.model} checkpoint: it lacks the tensor {name!r}; "
                f"the first tensors of the file are {first}, in Hugging Face's naming"
            )
        shape = self.state[name].shape
        if len(shape) != dimensions or 0 in shape:
            raise WeightsError(
                f"{self.path} is not {self.model} checkpoint: the tensor {name!r} has the shape "
                f"{tuple(shape)} instead of {dimensions} dimensions"
            )
        return shape

    def depth(self, prefix: str, width: int) -> int:
        """Number of layers `prefix.0`, `prefix.1`, …, or the published one for this width."""
        pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
        matches = map(pattern.match, self.state)
        layers = {match[1] for match in matches if match}
        return PUBLISHED_DEPTHS.get(width, len(layers))


def _reward_sizes(shapes: _Shapes, text_width: int) -> RewardSizes:
    """Sizes of ImageReward's layers by their numbers, {number: (inputs, outputs)}.

    Each layer reads the one before; the last one gives a single number.
    """
    widths = [text_width]
    for number in REWARD_LAYERS[:-1]:
        outputs, _inputs = shapes.of(f"mlp.layers.{number}.weight", 2)
        widths.append(outputs)
    widths.append(1)
    return dict(zip(REWARD_LAYERS, pairwise(widths), strict=True))


def _config_of_shapes(shapes: _Shapes) -> BlipConfig:
    """Configuration of an original checkpoint; all published ones share the values that no shape shows."""
    vision = _vision_config(shapes)
    return BlipConfig(
        vision_config=vision,
        text_config=_text_config(shapes, vision["hidden_size"]),
        image_text_hidden_size=shapes.of("text_proj.weight", 2)[0],
    )


def _vision_config(shapes: _Shapes) -> dict[str, Any]:
    patch = shapes.of("vision_model.embeddings.patch_embedding.weight", 4)[-1]
    tokens = shapes.of("vision_model.embeddings.position_embedding", 3)[1]
    width = shapes.of("vision_model.embeddings.class_embedding", 3)[-1]
    patches_per_side = math.isqrt(tokens - 1)
    return {
        "hidden_size": width,
        "intermediate_size": shapes.of("vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": shapes.depth("vision_model.encoder.layers", width),
        "num_attention_heads": width // HEAD_WIDTH,
        "image_size": patches_per_side * patch,
        "patch_size": patch,
        "layer_norm_eps": VISION_NORM_EPS,
    }


def _text_config(shapes: _Shapes, vision_width: int) -> dict[str, Any]:
    words, width = shapes.of("text_encoder.embeddings.word_embeddings.weight", 2)
    return {
        "vocab_size": words,
        "hidden_size": width,
        "encoder_hidden_size": vision_width,
        "intermediate_size": shapes.of("text_encoder.encoder.layer.0.intermediate.dense.weight", 2)[0],
        "num_hidden_layers": shapes.depth("text_encoder.encoder.layer", width),
        "num_attention_heads": width // HEAD_WIDTH,
        "max_position_embeddings": shapes.of("text_encoder.embeddings.position_embeddings.weight", 2)[0],
        "layer_norm_eps": TEXT_NORM_EPS,
    }
