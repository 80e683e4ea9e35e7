"""Copying of images to the device, and their preprocessing there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tier4k.extract.images.resize_tensor import resize_tensor
from tier4k.extract.pipeline.chunks import Chunk, CropStack, DecodedStack, select_rows
from tier4k.extract.pipeline.image_reader import ImageVariants


class Uploader:
    """Copies the images of chunks to the device and preprocesses those that the readers only decoded.

    On CUDA a stream of its own copies and resizes, while the network encodes earlier images.

    Args:
        device: The device.
        variants: Preprocessing and crops.
    """

    def __init__(self, device: torch.device, variants: ImageVariants) -> None:
        self._device = device
        self._variants = variants.variants
        self._on_device = variants.on_device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return a chunk on the device, with the crops of all variants."""
        if self._stream is None:
            return self._preprocessed(chunk)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            uploaded = self._preprocessed(chunk)
        computing.wait_stream(self._stream)
        for stacks in uploaded.images:
            for stack in stacks:
                # Its memory is not reused before the network has read it.
                stack.pixels.record_stream(computing)
        return uploaded

    def _preprocessed(self, chunk: Chunk) -> Chunk:
        decoded = [replace(stack, pixels=self._copied(stack.pixels)) for stack in chunk.decoded]
        images: list[tuple[CropStack, ...]] = []
        for variant, stacks in enumerate(chunk.images):
            if self._on_device[variant]:
                images.append(self._crops(variant, decoded))
            else:
                images.append(tuple(replace(stack, pixels=self._copied(stack.pixels)) for stack in stacks))
        return replace(chunk, images=tuple(images), decoded=())

    def _crops(self, variant: int, decoded: Sequence[DecodedStack]) -> tuple[CropStack, ...]:
        """Return the centre crops of the images that a variant needs."""
        preprocessing = self._variants[variant].preprocessing
        stacks: list[CropStack] = []
        for stack in decoded:
            needed = np.flatnonzero(stack.needed[variant])
            if not len(needed):
                continue
            pixels = select_rows(stack.pixels, needed)
            height, width = pixels.shape[1:3]
            geometry = preprocessing.geometry(width, height)
            crops = resize_tensor(pixels, geometry, preprocessing.interpolation)
            stacks.append(CropStack(stack.rows[needed], np.zeros(len(needed), np.int64), crops))
        return tuple(stacks)

    def _copied(self, pixels: Tensor) -> Tensor:
        return pixels.to(self._device, non_blocking=True)
