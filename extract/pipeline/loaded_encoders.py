"""Encoders that stay loaded and return features of images and texts in memory. Nothing is stored.

The features are float32, rounded as in the store of the encoder, so that heads see what they were fitted on.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tier4k.cache.rounding import as_stored
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.pipeline.arithmetic import arithmetic
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.encode import ImageChunkEncoder, TextChunkEncoder
from tier4k.extract.pipeline.encoded_texts import EncodedTexts
from tier4k.extract.pipeline.given_images import ImageInput
from tier4k.extract.pipeline.image_reader import ImageVariant
from tier4k.extract.pipeline.live_images import Defects, LiveImages
from tier4k.extract.pipeline.load import load_for_encoding
from tier4k.extract.pipeline.once import Once

BATCH = 32

KEPT_TEXT_BYTES = 2**26  # of encoded texts for each encoder


class LiveEncoders:
    """Loads image and text encoders on first use, and encodes inputs in memory. Threads may share it.

    Features of the texts that were used last are kept.

    Args:
        images: Image encoders with their weights, by name.
        texts: Text encoders with their weights, by name.
        device: "auto", or a torch device such as "cuda:1".
        workers: Number of threads that read images ahead of the networks; with 0, the calling thread does it.
        batch_size: Number of images or texts that go through a network at once.

    Attributes:
        device: The torch device.

    Raises:
        ExtractionError: The device cannot be used.
    """

    def __init__(
        self,
        images: Mapping[str, ImageEncoder],
        texts: Mapping[str, TextEncoder],
        device: str = "auto",
        workers: int = 0,
        batch_size: int = BATCH,
    ) -> None:
        self._images = images
        self._texts = texts
        self.device = choose_device(device)
        self._batch_size = batch_size
        variants = [ImageVariant(encoder.preprocessing, encoder.crops) for encoder in images.values()]
        self._live_images = LiveImages(variants, self.device, workers, batch_size)
        self._image_encoders = Once(self._load_images)
        self._encoded_texts = Once(self._load_texts)
        self._encoding = threading.Lock()  # because networks may keep values of their last call

    def _load_images(self) -> dict[str, ImageChunkEncoder]:
        encoders = {}
        for (name, encoder), number in zip(self._images.items(), self._live_images.of_network, strict=True):
            network: ImageNetwork = load_for_encoding(encoder, self.device, compiled=False)
            size = BatchSize(self._batch_size, self.device.type)
            crop_count = 1 + encoder.crops.count
            encoders[name] = ImageChunkEncoder(network, number, crop_count, size, self.device)
        return encoders

    def _load_texts(self) -> dict[str, EncodedTexts]:
        encoded = {}
        for name, encoder in self._texts.items():
            network = load_for_encoding(encoder, self.device, compiled=False)
            size = BatchSize(self._batch_size, self.device.type)
            encode = partial(self._encode_texts, encoder, TextChunkEncoder(network, size, self.device))
            encoded[name] = EncodedTexts(encode, KEPT_TEXT_BYTES)
        return encoded

    def images(
        self,
        images: Sequence[ImageInput],
        defects: Defects | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the features of N images by the name of the encoder: (N, D), or (N, V, D) for V > 1 crops.

        Each image is decoded once for all encoders, and not at all if there is none; see `as_image`.

        Args:
            images: The images.
            defects: Receives the errors of images that cannot be used, by their number; their features are
                NaN (of width 0 if there is no other). None raises the first.

        Raises:
            ImageError: A value is not an image, and `defects` is None.
            ExtractionError: The device has too little memory.
            StoreError: A feature is too large for the type of the encoder's store.
        """
        if not self._images:
            return {}
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self._images}
        encoders = self._image_encoders()
        read: list[np.ndarray] = []
        for chunk in self._live_images.chunks(images, defects):
            read.append(chunk.numbers)
            for name, encoder in encoders.items():
                with self._encoding, arithmetic(self._images[name].precision, self.device):
                    parts[name].append(_features(encoder, chunk))
        if not read:
            return {name: np.full((len(images), 0), np.nan, np.float32) for name in parts}
        numbers = np.concatenate(read)
        features = {}
        for name, arrays in parts.items():
            rounded = _rounded(self._images[name], np.concatenate(arrays))
            features[name] = _in_order(rounded, numbers, len(images))
        return features

    def texts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the features (N, D) of N texts by the name of the encoder; equal texts are encoded once.

        Raises:
            StoreError: A feature is too large for the type of the encoder's store.
        """
        number_of: dict[str, int] = {}
        rows = [number_of.setdefault(text, len(number_of)) for text in texts]
        features = {}
        for name, encoded in self._encoded_texts().items():
            features[name] = _rounded(self._texts[name], encoded(list(number_of)).numpy())[rows]
        return features

    def _encode_texts(
        self,
        encoder: TextEncoder,
        chunk_encoder: TextChunkEncoder,
        texts: Sequence[str],
    ) -> Tensor:
        """Return the features (T, D) of distinct texts on the device."""
        chunk = Chunk(np.arange(len(texts)), texts=tuple(texts))
        with arithmetic(encoder.precision, self.device), torch.inference_mode():
            return chunk_encoder.features(chunk, np.ones(len(texts), bool))


@torch.inference_mode()
def _features(encoder: ImageChunkEncoder, chunk: Chunk) -> np.ndarray:
    """Return the features of all images of a chunk in the memory of the machine."""
    return encoder.features(chunk, np.ones(len(chunk.numbers), bool)).cpu().numpy()


def _in_order(
    features: np.ndarray,
    numbers: np.ndarray,
    count: int,
) -> np.ndarray:
    """Return features of `count` images in their order; images that are not among `numbers` have NaN."""
    if np.array_equal(numbers, np.arange(count)):
        return features
    ordered = np.full((count, *features.shape[1:]), np.nan, features.dtype)
    ordered[numbers] = features
    return ordered


def _rounded(encoder: ImageEncoder | TextEncoder, features: np.ndarray) -> np.ndarray:
    """Return features (N, ..., D), float32 with the values that a store would contain."""
    return as_stored(features, encoder.store_dtype).astype(np.float32, copy=False)
