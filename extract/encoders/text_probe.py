"""A probe of every text network: a text has one vector, however long it is, and whatever is beside it."""

from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

import torch
from torch import Tensor

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.text_families import PASS_ANOTHER
from tier4k.extract.encoders.text_tokenizer import TextTokenizer, TokenBatch

SHORT = "a red fox"
LONGER = "a painting of a quiet harbour at dawn, with fishing boats"
TOLERANCE = 1e-4  # of the largest value: fp32 rounds to about 1e-6
# CLIP's models of this end token take the state of the token with the largest number instead.
OLD_CLIP_END = 2


class ProbedNetwork(Protocol):
    """What the probe needs of a `TextNetwork`."""

    backbone: Any
    tokenizer: TextTokenizer

    def features(self, batch: TokenBatch) -> Tensor:
        """Return the features (B, D) of tokenized texts."""


@torch.no_grad()  # not inference mode: what a layer keeps could not be trained on
def require_sound(network: ProbedNetwork, folder: Path) -> None:
    """Refuse a network whose features depend on the other texts of a batch, or which fails at its limit.

    Args:
        network: A network in float32 and in evaluation mode.
        folder: Its folder, for messages.

    Raises:
        EncoderError: The network fails, or its features are no property of the text alone.
    """
    _require_end_token(network, folder)
    singles = torch.cat([_features(network, folder, [text]) for text in (SHORT, LONGER)])
    together = _features(network, folder, [SHORT, LONGER])
    overlong = _features(network, folder, [_overlong(network)])
    if singles.ndim != 2 or not all(map(_is_finite, (singles, together, overlong))):
        raise EncoderError(
            f"{_name(network)} in {folder} gives no finite vector for a text: the weights are damaged, or "
            f"the model is no text encoder; download the folder again, or {PASS_ANOTHER}"
        )
    difference = float((singles - together).abs().max() / singles.abs().max().clamp(min=1e-12))
    if difference > TOLERANCE:
        raise EncoderError(
            f"{_name(network)} in {folder} gives a text other features beside a longer text than alone "
            f"(largest difference {difference:.1g} of the largest value): it does not leave out padding, so "
            f"that features would depend on the batch; {PASS_ANOTHER}"
        )


@torch.no_grad()  # not inference mode: what a layer keeps could not be trained on
def require_finite(network: ProbedNetwork, precision: Precision) -> None:
    """Refuse a network that was cast to a precision in which its features overflow.

    Raises:
        EncoderError: A feature is infinite or undefined.
    """
    for text in (SHORT, _overlong(network)):
        if not _is_finite(network.features(network.tokenizer([text]))):
            raise EncoderError(
                f"{_name(network)} gives infinite or undefined features in {precision}: pass "
                "--precision bf16 or fp32"
            )


def _require_end_token(network: ProbedNetwork, folder: Path) -> None:
    """Refuse a CLIP whose tokenizer does not end texts with the token whose state is the embedding."""
    end = getattr(network.backbone.config, "eos_token_id", None)
    if not network.backbone.config.model_type.startswith("clip") or end == OLD_CLIP_END:
        return
    if end not in network.tokenizer([SHORT]).ids:
        raise EncoderError(
            f"the tokenizer in {folder} does not end a text with the token {end}, whose state is the "
            "embedding of the text (eos_token_id in config.json): take tokenizer and config from one download"
        )


def _features(
    network: ProbedNetwork,
    folder: Path,
    texts: list[str],
) -> Tensor:
    tokens: TokenBatch = network.tokenizer(texts)
    try:
        return network.features(tokens)
    except Exception as error:  # models of any kind fail in any way
        raise EncoderError(
            f"{_name(network)} in {folder} cannot encode {len(texts)} texts of {tokens.ids.shape[1]} tokens "
            f"({type(error).__name__}: {shorten(str(error), 300)}): {PASS_ANOTHER}"
        ) from error


def _overlong(network: ProbedNetwork) -> str:
    """Return a text of more tokens than the network reads."""
    return " ".join([SHORT] * network.tokenizer.max_tokens)


def _is_finite(features: Tensor) -> bool:
    return bool(features.isfinite().all())


def _name(network: ProbedNetwork) -> str:
    return type(network.backbone).__name__
