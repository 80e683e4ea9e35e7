"""Tokenizers of text encoders, which need no network: how long a text is, and which tokens it has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tier4k.cache.text import shortened, utf8_path
from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.token_numbers import require_token_numbers
from tier4k.extract.encoders.transformers_loading import explain_loading_errors
from tier4k.extract.weights.files import WeightsError

PROBE = "a red fox 🦊"  # the last letter is in few vocabularies

TOKENIZED_TEXTS = 1024  # per call: the tokenizer keeps kilobytes of each text until the call ends


@dataclass(frozen=True)
class TokenBatch:
    """Tokenized texts.

    Attributes:
        ids: (B, L) int64 token numbers, padded to the longest text of the batch.
        mask: (B, L) int64, 1 for tokens and 0 for padding.
        places: (2, T) int64 rows and columns of the T tokens that are no padding; None if they are unknown.
            They are found before the batch is copied to a device, because finding them there waits for it.
    """

    ids: Tensor
    mask: Tensor
    places: Tensor | None = None

    def to(self, device: torch.device) -> "TokenBatch":
        """Return the batch on another device; pinned memory is copied without waiting."""
        places = None if self.places is None else self.places.to(device, non_blocking=True)
        ids, mask = (tensor.to(device, non_blocking=True) for tensor in (self.ids, self.mask))
        return TokenBatch(ids, mask, places)

    def pin_memory(self) -> "TokenBatch":
        """Return the batch in pinned memory, from which a GPU copies by itself."""
        places = None if self.places is None else self.places.pin_memory()
        return TokenBatch(self.ids.pin_memory(), self.mask.pin_memory(), places)


class TextTokenizer:
    """Turns texts into tokens.

    Args:
        tokenizer: A tokenizer of transformers with a padding token.
        max_tokens: Number of tokens, special tokens included, at which longer texts are truncated.
        pads_to_limit: Whether every text is padded to `max_tokens`; a network with such texts also attends to
            padding, unless its tokenizer returns a mask.
        prompt: Text that is put before every text.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_tokens: int,
        pads_to_limit: bool = False,
        prompt: str = "",
    ) -> None:
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._pads_to_limit = pads_to_limit
        self._prompt = prompt

    @property
    def unknown_id(self) -> int | None:
        """Number of the token that stands for unknown characters and words; None if there is none.

        Some tokenizers, such as CLIP's, name the token at the end of every text here: it says nothing.

        Raises:
            EncoderError: The tokenizer fails, as its files name tokens that it lacks.
        """
        own = self._tokenizer
        with _tokenizer_errors(own):
            ends = (own.eos_token_id, own.bos_token_id, own.pad_token_id, own.cls_token_id, own.sep_token_id)
            return None if own.unk_token_id in ends else own.unk_token_id

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenize texts, truncated at `max_tokens` and padded to the longest, or to `max_tokens`.

        Raises:
            EncoderError: A text has no token, or the tokenizer fails.
        """
        with _tokenizer_errors(self._tokenizer):
            batch = self._tokenizer(
                [self._prompt + text for text in texts],
                truncation=True,
                max_length=self.max_tokens,
                padding="max_length" if self._pads_to_limit else True,
                return_attention_mask=None if self._pads_to_limit else True,
                return_tensors="pt",
            )
        ids = batch["input_ids"]
        mask = batch.get("attention_mask", torch.ones_like(ids))
        for text, length in zip(texts, mask.sum(1).tolist(), strict=True):
            if not length:
                raise EncoderError(
                    f"the tokenizer of the text encoder makes no token of the text {text!r}: change this "
                    "text, or pass another text encoder"
                )
        return TokenBatch(ids, mask, mask.nonzero().T)

    def untruncated_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of each text before truncation, special tokens included.

        Raises:
            EncoderError: The tokenizer fails.
        """
        ids: list[list[int]] = []
        for start in range(0, len(texts), TOKENIZED_TEXTS):
            part = [self._prompt + text for text in texts[start : start + TOKENIZED_TEXTS]]
            with _tokenizer_errors(self._tokenizer):
                ids.extend(self._tokenizer(part, truncation=False, verbose=False)["input_ids"])
        return ids


@contextmanager
def _tokenizer_errors(tokenizer: Any) -> Iterator[None]:
    """Turn the errors of a tokenizer into `EncoderError`."""
    try:
        yield
    except Exception as error:  # tokenizers of damaged files raise errors of many classes
        raise EncoderError(
            f"the tokenizer in {tokenizer.name_or_path} fails ({type(error).__name__}: {shortened(error)}): "
            "download the whole folder again, or pass another text encoder"
        ) from error


def load_text_tokenizer(encoder: TextEncoder) -> TextTokenizer:
    """Load the tokenizer of an encoder from local files; the network is not loaded.

    Code in the folder is not run.

    Raises:
        WeightsError: The files of the folder are damaged or do not match, or the tokenizer has no padding
            token or fails.
    """
    from transformers import AutoTokenizer

    path, model = encoder.weights.path, encoder.model
    require_token_numbers(path)
    with explain_loading_errors(path, "text"), utf8_path(path) as readable:
        tokenizer = AutoTokenizer.from_pretrained(readable, local_files_only=True, trust_remote_code=False)
        padding = tokenizer.pad_token_id
    if padding is None:
        raise WeightsError(
            f"the tokenizer in {path} has no padding token, which texts of one batch need: state the "
            "pad_token of the network's training in tokenizer_config.json there, or pass another encoder"
        )
    if not model.family.pads_to_limit:
        tokenizer.padding_side = "right"  # where positions are counted from the left, padding must not be
    prompt = model.modules.prompt if model.modules else ""
    loaded = TextTokenizer(tokenizer, model.token_limit, model.family.pads_to_limit, prompt)
    with explain_loading_errors(path, "text"):
        loaded([PROBE])
        loaded.untruncated_ids([PROBE, ""])
    return loaded
