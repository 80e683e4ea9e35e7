"""Scorers that stay loaded and score pairs of images and prompts in memory. Nothing is stored."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from tier4k.extract.images.crops import CENTRE_CROP
from tier4k.extract.pipeline.arithmetic import arithmetic
from tier4k.extract.pipeline.batch_size import BatchSize
from tier4k.extract.pipeline.chunks import Chunk
from tier4k.extract.pipeline.device import choose_device
from tier4k.extract.pipeline.encode import CalledChunkEncoder, ChunkEncoder, PairChunkEncoder
from tier4k.extract.pipeline.given_images import ImageInput
from tier4k.extract.pipeline.image_reader import ImageVariant
from tier4k.extract.pipeline.live_images import Defects, LiveImages
from tier4k.extract.pipeline.load import load_for_encoding
from tier4k.extract.pipeline.loaded_encoders import BATCH
from tier4k.extract.pipeline.once import Once
from tier4k.extract.scorers.called import CalledScorer
from tier4k.extract.scorers.find import AnyScorer


class LiveScorers:
    """Loads scorers on first use, and scores images with prompts. Threads may share it.

    The encoded texts that were used last are kept.

    Args:
        scorers: The S scorers, in the order of the columns of their scores.
        device: "auto", or a torch device such as "cuda:1".
        batch_size: Number of images, or of texts, that go through a network at once.

    Attributes:
        device: The torch device.

    Raises:
        ExtractionError: The device cannot be used.
    """

    def __init__(
        self,
        scorers: Sequence[AnyScorer],
        device: str = "auto",
        batch_size: int = BATCH,
    ) -> None:
        self._scorers = scorers
        self.device = choose_device(device)
        self._batch_size = batch_size
        self._loaded = Once(self._load)
        self._scoring = threading.Lock()  # because networks may keep values of their last call

    def notes(self) -> tuple[str, ...]:
        """Load the scorers; return what a user should know, such as that lower values are better."""
        return self._loaded()[2]

    def _load(self) -> tuple[LiveImages, list[ChunkEncoder], tuple[str, ...]]:
        encoders: list[ChunkEncoder] = []
        variants: list[ImageVariant] = []
        notes: list[str] = []
        for scorer in self._scorers:
            network = load_for_encoding(scorer, self.device, compiled=False)
            size = BatchSize(self._batch_size, self.device.type)
            if isinstance(scorer, CalledScorer):
                notes += network.notes
                encoders.append(CalledChunkEncoder(network, size, self.device))
            else:
                encoders.append(PairChunkEncoder(network, self._batch_size, size, self.device))
            variants.append(ImageVariant(scorer.preprocessing(network.side), CENTRE_CROP))
        return LiveImages(variants, self.device, 0, self._batch_size), encoders, tuple(notes)

    def scores(
        self,
        images: Sequence[ImageInput],
        prompts: Sequence[str],
        defects: Defects | None = None,
    ) -> np.ndarray | None:
        """Return the scores (N, S) float32 of N images with their prompts; None without scorers.

        Args:
            images: The images, as `as_image` takes them.
            prompts: Their N prompts.
            defects: Receives the errors of images that cannot be used, by number of the image; their
                scores are NaN. None raises the first error.

        Raises:
            ImageError: A value is not an image, and `defects` is None.
            ExtractionError: The device has too little memory.
            WeightsError: The weights do not fit a network.
        """
        if not self._scorers:
            return None
        live_images, encoders, _ = self._loaded()
        scores = np.full((len(images), len(self._scorers)), np.nan, np.float32)
        for chunk in live_images.chunks(images, defects):
            pairs = _pairs(chunk, [prompts[number] for number in chunk.numbers])
            for column, encoder in enumerate(encoders):
                read_pairs = replace(pairs, images=(pairs.images[live_images.of_network[column]],))
                precision = self._scorers[column].precision
                with self._scoring, arithmetic(precision, self.device), torch.inference_mode():
                    column_scores = encoder.features(read_pairs, np.ones(len(pairs.numbers), bool))
                    scores[pairs.numbers, column] = column_scores[:, 0].cpu().numpy()
        return scores


def _pairs(images: Chunk, prompts: Sequence[str]) -> Chunk:
    """Return a chunk of pairs: each image of a chunk with its prompt."""
    number_of: dict[str, int] = {}
    pair_texts = np.array([number_of.setdefault(text, len(number_of)) for text in prompts])
    return replace(
        images,
        texts=tuple(number_of),
        pair_images=np.arange(len(images.numbers)),
        pair_texts=pair_texts,
    )
