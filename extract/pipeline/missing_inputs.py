"""Missing inputs: the inputs of a data set that an encoder's store does not contain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import SIGNATURE_FILE, Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.inputs.dataset import NO_INPUTS, DatasetInputs
from tier4k.extract.inputs.inputs import Inputs, Pairs, values_of
from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.scorers.find import AnyScorer

Encoder = ImageEncoder | TextEncoder | AnyScorer


@dataclass(frozen=True)
class InputChoice:
    """The inputs of a data set that encoders encode, and further texts.

    Attributes:
        streams: Image encoders encode the images of these streams, text encoders the prompts if "text" is
            among them.
        templates: Texts that text encoders encode besides the prompts, by the signature of the encoder.
    """

    streams: tuple[Stream, ...] = STREAMS
    templates: Mapping[Signature, tuple[str, ...]] = field(default_factory=dict)

    @property
    def template_texts(self) -> tuple[str, ...]:
        """The distinct texts of all encoders."""
        texts: dict[str, None] = {}
        for texts_of_encoder in self.templates.values():
            texts.update(dict.fromkeys(texts_of_encoder))
        return tuple(texts)

    def inputs(self, dataset: DatasetInputs, encoder: Encoder) -> Inputs | Pairs:
        """Return the distinct inputs of an encoder.

        Raises:
            ExtractionError: The data set has no image of the streams.
        """
        if isinstance(encoder, ImageEncoder):
            return self._images(dataset)
        if isinstance(encoder, TextEncoder):
            prompts = dataset.prompts if "text" in self.streams else NO_INPUTS
            return _with_texts(prompts, self.templates.get(encoder.signature, ()))
        return dataset.pairs

    def _images(self, dataset: DatasetInputs) -> Inputs:
        images = dataset.images_of(self.streams)
        if not len(images):
            raise ExtractionError(
                f"{dataset.name} has no image prompts, the only images of --streams "
                f"{'+'.join(self.streams)}: add image to the streams"
            )
        return images


def _with_texts(prompts: Inputs, texts: tuple[str, ...]) -> Inputs:
    """Return prompts, then further texts that are no prompts."""
    if not texts:
        return prompts
    return prompts.with_others(Inputs(key_array(map(text_key, texts)), values_of(texts)))


@dataclass(frozen=True)
class Work:
    """One encoder with its inputs, and which of the inputs its store does not contain yet.

    Attributes:
        encoder: An image encoder, a text encoder or a scorer.
        inputs: N distinct inputs: images, texts, or pairs for a scorer.
        missing: (N,) bool: the inputs to encode.
    """

    encoder: Encoder
    inputs: Inputs | Pairs
    missing: np.ndarray

    @classmethod
    def of(
        cls,
        dataset: DatasetInputs,
        encoder: Encoder,
        root: Path,
        part: tuple[int, int],
        choice: InputChoice,
    ) -> "Work":
        """Return the work of an encoder on a part of its inputs; see `ExtractionOptions` for `part`.

        Raises:
            ExtractionError: The data set has no image of the chosen streams.
        """
        inputs = _part(choice.inputs(dataset, encoder), part)
        store = root / encoder.signature.folder_name
        missing = np.ones(len(inputs), dtype=bool)
        # A process that was killed while it created the store leaves a folder without a signature.
        if (store / SIGNATURE_FILE).exists():
            missing = ~FeatureStore.open(store).holds(inputs.keys)
        return cls(encoder, inputs, missing)

    @property
    def reads_images(self) -> bool:
        """Whether the encoder encodes images alone."""
        return isinstance(self.encoder, ImageEncoder)


def _part(inputs: Inputs | Pairs, part: tuple[int, int]) -> Inputs | Pairs:
    """Return the i-th of n parts of the inputs. All pairs of an image belong to one part."""
    number, parts = part
    if parts == 1:
        return inputs
    keys = inputs.images.keys[inputs.image] if isinstance(inputs, Pairs) else inputs.keys
    first_bytes = np.ascontiguousarray(keys[:, :4]).view(">u4").reshape(-1)
    return inputs.select(first_bytes % parts == number - 1)
