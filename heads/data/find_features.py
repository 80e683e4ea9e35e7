"""Find stored features by the names of encoders."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tier4k.extract.stores.find import find_score_stores, find_stores
from tier4k.heads.data.encoder_choice import EncoderChoice, ImageEncoders
from tier4k.heads.data.stores import FeatureStores

_log = logging.getLogger("tier4k")


def find_features(
    features: str | Path = "features",
    image_encoder: ImageEncoders | None = None,
    text_encoder: str | Sequence[str] | None = None,
    *,
    encoder: str | None = None,
    scorers: Sequence[str] = (),
) -> FeatureStores:
    """Return the stores of features that were extracted before; neither networks nor weights are needed.

    An option that is not passed stands for its default. A store with the default is preferred; where there is
    none, another store is taken if it is the only one, and a warning is logged.

    Args:
        features: Folder of stores.
        image_encoder: Image encoders: names, such as "clip", folder names of stores, or an `ImageChoice` with
            options of the features, where several stores of one encoder exist. By default, the default
            encoder of `tier extract`.
        text_encoder: Text encoders, likewise.
        encoder: A checkpoint with both, `hf:NAME_OR_PATH`.
        scorers: Zero-shot scorers whose stored scores are inputs of heads.

    Raises:
        EncoderError: An encoder does not exist.
        StoreError: No store or several stores match; the message lists the stores and the remedy.
    """
    choice = EncoderChoice.of(image_encoder, text_encoder, encoder)
    return find_chosen(Path(features), choice, scorers)


def find_chosen(
    features: Path,
    choice: EncoderChoice,
    scorers: Sequence[str] = (),
    note: Callable[[str], None] = _log.warning,
) -> FeatureStores:
    """Return the stores of chosen encoders and scorers, as `find_features` does.

    Args:
        features: Folder of stores.
        choice: The encoders.
        scorers: The scorers.
        note: Called with a sentence about every store that is taken for want of one with the defaults.
    """
    scores = find_score_stores(features, scorers)
    images, texts = find_stores(features, choice.images, choice.texts, note)
    return FeatureStores.of(images, texts, scores)
