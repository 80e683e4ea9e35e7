"""Tokenizers of text encoders, which need no network: how long a text is, and which tokens it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.transformers_loading import explain_loading_errors

TOKENIZED_TEXTS = 1024  # per call: the tokenizer keeps kilobytes of each text until the call ends


@dataclass(frozen=True)
class TokenBatch:
    """Tokenized texts.

    Attributes:
        ids: (B, L) int64 token numbers, padded to the longest text of the batch.
        mask: (B, L) int64, 1 for tokens and 0 for padding.
    """

    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """Return the batch on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device))


class TextTokenizer:
    """Turns texts into tokens.

    Args:
        tokenizer: A tokenizer of transformers.
        max_tokens: Number of tokens, special tokens included, at which longer texts are truncated.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens

    @property
    def unknown_id(self) -> int | None:
        """Number of the token that stands for unknown characters and words; None if there is none.

        Some tokenizers, such as CLIP's, name the token at the end of every text here: it says nothing.
        """
        own = self._tokenizer
        ends = (own.eos_token_id, own.bos_token_id, own.pad_token_id, own.cls_token_id, own.sep_token_id)
        return None if own.unk_token_id in ends else own.unk_token_id

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenize texts, truncated at `max_tokens` and padded to the longest."""
        batch = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_tokens,
            padding=True,
            return_tensors="pt",
        )
        return TokenBatch(batch["input_ids"], batch["attention_mask"])

    def untruncated_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of each text before truncation, special tokens included."""
        ids: list[list[int]] = []
        for start in range(0, len(texts), TOKENIZED_TEXTS):
            part = list(texts[start : start + TOKENIZED_TEXTS])
            ids.extend(self._tokenizer(part, truncation=False, verbose=False)["input_ids"])
        return ids


def load_text_tokenizer(encoder: TextEncoder) -> TextTokenizer:
    """Load the tokenizer of an encoder from local files; the network is not loaded.

    Code in the folder is not run.

    Raises:
        WeightsError: The files of the folder are damaged or do not match.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = encoder.weights.path
    with explain_loading_errors(path, "text"):
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    positions = getattr(config, "max_position_embeddings", encoder.max_tokens)
    return TextTokenizer(tokenizer, min(encoder.max_tokens, positions))
