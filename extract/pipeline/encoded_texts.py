"""Encoded texts. The texts that were used last are kept, because prompts occur again and again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class EncodedTexts:
    """Encodes texts that are not kept from an earlier call. Threads may share it.

    One thread at a time encodes, because tokenizers keep the length of their last batch.

    Args:
        encode: Returns the encoded texts (T, ...) of T distinct texts, on any device.
        kept_bytes: Most bytes of encoded texts that are kept, in the memory of the machine: encoded texts of
            many prompts would fill a device.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], kept_bytes: int) -> None:
        self._encode = encode
        self._kept_bytes = kept_bytes
        self._encoded: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return encoded texts (T, ...) in the memory of the machine, given T > 0 texts."""
        with self._lock:
            new_texts = [text for text in dict.fromkeys(texts) if text not in self._encoded]
            if new_texts:
                encoded = self._encode(new_texts).cpu()
                for text, vector in zip(new_texts, encoded, strict=True):
                    # A clone, because a view would keep the memory of the whole batch.
                    self._encoded[text] = vector.clone()
            for text in texts:
                self._encoded.move_to_end(text)
            result = torch.stack([self._encoded[text] for text in texts])
            while self._encoded and len(self._encoded) * result[0].nbytes > self._kept_bytes:
                self._encoded.popitem(last=False)
            return result
