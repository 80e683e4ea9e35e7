"""The inputs of end-to-end training: rows, decoded images, and the features of frozen encoders."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from accelerate import Accelerator
from joblib import cpu_count
from torch import Tensor

from tier4k.extract.datasets.choices import Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.image_network import ImageNetwork
from tier4k.extract.encoders.load import load_image_network
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.heads.data.choices import Method
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.finetuning.batches import InputRows
from tier4k.heads.finetuning.features import image_features, text_features
from tier4k.heads.finetuning.shared_file import SharedFile

Progress = Callable[[str, int, int], None]
"""Called with (description of the work, amount done, amount in all)."""

Note = Callable[[str], None]
"""Called with what the user should know about weights, each time that they are loaded."""


@dataclass(frozen=True)
class TrainingInputs:
    """The rows' inputs, decoded or encoded on first use.

    Attributes:
        manifest: The rows that the run uses.
        encoders: Encoders that training starts from.
        method: The fusion; inputs that the fusion does not use are not encoded.
        streams: The streams of the method that the head uses; an empty tuple for all.
        accelerator: The accelerator of this process.
        progress: Called while images are decoded.
        note: Called with notes about the weights of the image encoder.
    """

    manifest: Manifest
    encoders: EncoderPair
    method: Method
    streams: tuple[Stream, ...]
    accelerator: Accelerator
    progress: Progress
    note: Note = lambda _: None

    def image_network(self) -> ImageNetwork:
        """Return a new network of the image encoder with its weights.

        Raises:
            WeightsError: The weights do not fit.
        """
        assert self.encoders.image is not None
        network = load_image_network(self.encoders.image)
        for note in network.notes:
            self.note(note)
        return network

    def text_network(self) -> TextNetwork:
        """Return a new network of the text encoder with its weights.

        Raises:
            WeightsError: The weights do not fit.
        """
        assert self.encoders.text is not None
        return TextNetwork.of(self.encoders.text)

    @cached_property
    def rows(self) -> InputRows:
        """The rows by the numbers of their inputs."""
        return InputRows.of(self.manifest)

    @cached_property
    def decoded(self) -> DecodedImages:
        """Every image, decoded by one process of each machine."""
        assert self.encoders.image is not None
        return DecodedImages(
            self.manifest.images(),
            self.encoders.image.preprocessing,
            cpu_count(),
            lambda done, total: self.progress("decode images", done, total),
            SharedFile(self.accelerator),
        )

    @cached_property
    def image_features(self) -> Tensor | None:
        """Features (P, D) of all images by the encoder before training; None without an image encoder."""
        if self.encoders.image is None:
            return None
        images = self.image_network().frozen("fp32").to(self.accelerator.device)
        return image_features(images, self.decoded, self._used_images(), self.accelerator)

    @cached_property
    def text_features(self) -> Tensor | None:
        """Features (T, D) of all prompts by the encoder before training; None without a text encoder."""
        if self.encoders.text is None:
            return None
        device = self.accelerator.device
        texts = self.text_network().frozen("fp32").to(device)
        prompts = self.rows.texts
        return text_features(texts, texts, prompts, np.arange(len(prompts)), device)

    def _used_images(self) -> np.ndarray:
        if self.method == "nr":
            return np.unique(self.rows.image)
        used = np.unique(np.append(self.rows.image, self.rows.image_prompt))
        return used[used >= 0]
