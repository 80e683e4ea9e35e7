"""Very small vision models of transformers with random weights, in folders as Hugging Face lays them out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

BLOCKS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}
PROJECTION = 24  # width of the joint space of two towers
TEXT: dict[str, Any] = BLOCKS | {"vocab_size": 60, "max_position_embeddings": 16}
GRID: dict[str, Any] = {"image_size": 32, "patch_size": 8}
STAGES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
WINDOWS: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 2, 2, 2],
    "num_heads": [1, 2, 2, 4],
    "window_size": 4,
}
HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
SQUARE = {"size": {"height": 32, "width": 32}, **HALF}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, **HALF}


@dataclass(frozen=True)
class Sample:
    """A family of models.

    Attributes:
        model: Makes a model with random weights, with its text tower if there is one.
        processor: Image processor of the model.
    """

    model: Callable[[], Any]
    processor: Any


def two_towers(kind: str, text: Mapping[str, Any] = TEXT) -> Callable[[], Any]:
    """Makes a model of a vision tower and a text tower, which has these options."""

    def make() -> Any:
        vision = BLOCKS | GRID | {"projection_dim": PROJECTION}
        if kind == "Siglip2":
            vision = BLOCKS | {"patch_size": 8, "num_patches": 16}
        config = getattr(hf, f"{kind}Config")(
            text_config={**text, "projection_dim": PROJECTION},
            vision_config=vision,
            projection_dim=PROJECTION,
        )
        return getattr(hf, f"{kind}Model")(config)

    return make


def one_tower(kind: str, head: str = "Model", **options: Any) -> Callable[[], Any]:
    """Makes a model of images alone, or of texts alone."""

    def make() -> Any:
        return getattr(hf, kind + head)(getattr(hf, f"{kind}Config")(**options))

    return make


SAMPLES = {
    "clip": Sample(two_towers("CLIP"), hf.CLIPImageProcessor(**CROPPED)),
    "siglip": Sample(two_towers("Siglip"), hf.SiglipImageProcessor(**SQUARE)),
    "siglip2": Sample(
        two_towers("Siglip2"), hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=20, **HALF)
    ),
    "dinov2": Sample(one_tower("Dinov2", **BLOCKS, **GRID), hf.BitImageProcessor(**CROPPED)),
    "dinov2_with_registers": Sample(
        one_tower("Dinov2WithRegisters", num_register_tokens=3, **BLOCKS, **GRID),
        hf.BitImageProcessor(**CROPPED),
    ),
    "dinov3_vit": Sample(
        one_tower("DINOv3ViT", num_register_tokens=3, **BLOCKS, **GRID), hf.DINOv3ViTImageProcessor(**SQUARE)
    ),
    "vit": Sample(one_tower("ViT", **BLOCKS, **GRID), hf.ViTImageProcessor(**SQUARE)),
    "deit": Sample(
        one_tower("DeiT", **BLOCKS, **GRID),
        hf.DeiTImageProcessor(
            size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}, **HALF
        ),
    ),
    "beit": Sample(
        one_tower("Beit", use_relative_position_bias=True, use_mean_pooling=True, **BLOCKS, **GRID),
        hf.BeitImageProcessor(**SQUARE),
    ),
    "dinov3_convnext": Sample(one_tower("DINOv3ConvNext", **STAGES), hf.DINOv3ViTImageProcessor(**SQUARE)),
    "convnext": Sample(
        one_tower("ConvNext", "ForImageClassification", **STAGES),
        hf.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875, **HALF),
    ),
    "convnextv2": Sample(
        one_tower("ConvNextV2", **STAGES), hf.ConvNextImageProcessor(size={"shortest_edge": 384}, **HALF)
    ),
    "swin": Sample(
        one_tower("Swin", **WINDOWS), hf.ViTImageProcessor(size={"height": 64, "width": 64}, **HALF)
    ),
    "swinv2": Sample(
        one_tower("Swinv2", **WINDOWS), hf.ViTImageProcessor(size={"height": 64, "width": 64}, **HALF)
    ),
    "resnet": Sample(
        one_tower("ResNet", "ForImageClassification", embedding_size=8, layer_type="basic", **STAGES),
        hf.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.9, **HALF),
    ),
    "regnet": Sample(
        one_tower("RegNet", embedding_size=8, groups_width=8, **STAGES),
        hf.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.9, **HALF),
    ),
}


def few_fast(*fast: str, names: Iterable[str] = tuple(SAMPLES)) -> list[Any]:
    """Parameters of a test: names of families, of which all but a few are slow tests."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def write_vision_folder(
    folder: Path,
    name: str,
    seed: int = 0,
    max_shard_size: str = "1GB",
) -> Path:
    """Write a model of a family and its image processor."""
    write_random_model(SAMPLES[name].model, folder, seed, max_shard_size)
    SAMPLES[name].processor.save_pretrained(folder)
    return folder


def write_random_model(
    make: Callable[[], Any],
    folder: Path,
    seed: int = 0,
    max_shard_size: str = "1GB",
) -> None:
    """Write a model with random weights.

    A new network has many zeros and ones, which hide how they are used: every weight is changed.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for tensor in {value.data_ptr(): value for value in model.state_dict().values()}.values():
            if tensor.is_floating_point():
                tensor.copy_(tensor + 0.2 * torch.rand(tensor.shape))
    model.save_pretrained(folder, max_shard_size=max_shard_size)
