"""Rounded weights of CLIP, read from an ONNX file, give what the network with these weights computes."""

import pytest
import timm
import torch
from torch import Tensor

from tier4k.extract.weights.clip_onnx import clip_image_tower, timm_tensors, transformers_tensors
from tier4k.extract.weights.files import WeightsError
from tier4k.tests.builders.clip import IMAGE_SIZE, LAYERS, PROJECTION, WIDTH, rounded_clip

NORM = "vision_model.post_layernorm.bias"


def timm_network() -> torch.nn.Module:
    """timm's network of the preset `clip`, with the small sizes of the test's CLIP."""
    return timm.create_model(
        "vit_base_patch16_clip_quickgelu_224",
        img_size=IMAGE_SIZE,
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=2,
        num_classes=PROJECTION,
    ).eval()


def embeddings_by_timm(onnx: bytes, images: Tensor) -> Tensor:
    arrays = timm_tensors(transformers_tensors(onnx), LAYERS)
    network = timm_network()
    network.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, strict=True)
    return network(images)


def test_the_file_has_the_tensors_of_transformers_under_their_names() -> None:
    clip = rounded_clip()
    expected = clip.network.state_dict()
    found = transformers_tensors(clip.onnx)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), tensor, rtol=1e-6, atol=1e-7)


def test_timms_network_with_the_renamed_tensors_gives_the_image_embeddings_of_transformers() -> None:
    clip = rounded_clip()
    images = torch.randn(3, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = clip.network(images).image_embeds
        found = embeddings_by_timm(clip.onnx, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_tensor_that_is_missing_or_left_over_is_named() -> None:
    with pytest.raises(WeightsError, match=f"lacks the tensor '{NORM}'"):
        timm_tensors(transformers_tensors(rounded_clip(left_out=NORM).onnx), LAYERS)
    with pytest.raises(WeightsError, match="do not belong to .* CLIP, first 'text_projection'"):
        timm_tensors(transformers_tensors(rounded_clip(added="text_projection").onnx), LAYERS)
    with pytest.raises(WeightsError, match="lacks the tensor 'vision_model.encoder.layers.2"):
        clip_image_tower(rounded_clip().onnx)  # which has 2 layers instead of the 12 of ViT-B


def test_bytes_that_are_no_onnx_file_are_refused() -> None:
    with pytest.raises(WeightsError, match="no ONNX file"):
        transformers_tensors(b"<!doctype html>")
