"""Text encoders as torch modules."""

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.weights import WeightsError

TEXTS_AT_ONCE = 1024  # that are tokenized together

PACKED_TOKENS = 512  # with more, what is saved on padding is lost on attention between texts


@dataclass(frozen=True)
class TokenBatch:
    """Token numbers and attention mask, both (B, L) int64, padded to the longest text of the batch."""

    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device))


class TextNetwork(nn.Module):
    """Texts -> features (B, D) float32: the last hidden state averaged over the attention mask."""

    backbone: Any

    def __init__(self, backbone: nn.Module, tokenizer: Any, max_tokens: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def of(cls, encoder: TextEncoder) -> "TextNetwork":
        """Build and load from local files only, in evaluation mode; no code from the folder is run."""
        path = encoder.weights.path
        try:
            tokenizer = load_tokenizer(encoder)
            backbone, loading = AutoModel.from_pretrained(
                path, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"the weights in {path} hold pickled Python objects besides tensors, which could run code, or are damaged; they were not "
                "loaded. Take the files from their authors again, or save the model as safetensors."
            ) from error
        except (SafetensorError, OSError, EOFError, ValueError, RuntimeError, KeyError, ImportError) as error:
            raise WeightsError(f"the text encoder in {path} cannot be loaded: {error}") from error
        # A masked mean reads no pooler; published BERT files bring pre-training heads besides.
        missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
        if missing or loading["mismatched_keys"]:
            first = missing[0] if missing else sorted(map(str, loading["mismatched_keys"]))[0]
            count = len(missing) + len(loading["mismatched_keys"])
            raise WeightsError(
                f"the weights in {path} do not fit its config.json: {count} tensors are missing or of another shape, first "
                f"{first!r}; take both files from one download"
            )
        positions = getattr(backbone.config, "max_position_embeddings", encoder.max_tokens)
        return cls(backbone, tokenizer, min(encoder.max_tokens, positions)).eval()

    def frozen(self, precision: Precision) -> Self:
        """This network made ready for encoding only: its weights are cast once to `precision`."""
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def layers(self) -> list[list[nn.Parameter]]:
        """The parameters of the embeddings, then of each block. Not those of a pooler, which a masked mean does not read."""
        groups: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.backbone.named_parameters():
            block = re.search(r"(?:^|\.)(?:layer|layers|block|h)\.(\d+)\.", name)
            if not name.startswith("pooler."):
                groups.setdefault(int(block.group(1)) + 1 if block else 0, []).append(parameter)
        return [groups[number] for number in sorted(groups)]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text before truncation, with the special ones."""
        # In parts: besides its numbers, the tokenizer keeps kilobytes of each text until the call ends.
        parts = (list(texts[start : start + TEXTS_AT_ONCE]) for start in range(0, len(texts), TEXTS_AT_ONCE))
        return [
            len(ids)
            for part in parts
            for ids in self.tokenizer(part, truncation=False, verbose=False)["input_ids"]
        ]

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Token numbers of texts, truncated at `max_tokens` and padded to the longest."""
        batch = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_tokens, padding=True, return_tensors="pt"
        )
        return TokenBatch(batch["input_ids"], batch["attention_mask"])

    def forward(self, batch: TokenBatch) -> Tensor:
        """Features of tokenized texts."""
        hidden = self._hidden_states(batch).float()
        mask = batch.mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    def _hidden_states(self, batch: TokenBatch) -> Tensor:
        """The last hidden states (B, L, D) of texts.

        In training BERT is given the texts of a batch end to end as one, each of whose tokens attends to its own text only: a batch has
        few texts, of unlike lengths, and half of what is computed would be padding. What is stored is computed as it always was.
        """
        real, config = batch.mask.bool(), self.backbone.config
        plain = (
            config.model_type == "bert" and not config.is_decoder and config._attn_implementation == "sdpa"
        )
        if not plain or not torch.is_grad_enabled() or real.all() or real.sum() > PACKED_TOKENS:
            return self.backbone(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        text, position = real.nonzero(as_tuple=True)
        same = (text[:, None] == text)[None, None]
        packed = self.backbone(
            input_ids=batch.ids[real][None], position_ids=position[None], attention_mask=same
        ).last_hidden_state[0]
        return packed.new_zeros(*real.shape, packed.shape[1]).index_put((text, position), packed)


def load_tokenizer(encoder: TextEncoder) -> Any:
    """The tokenizer alone, from local files."""
    return AutoTokenizer.from_pretrained(encoder.weights.path, local_files_only=True)
