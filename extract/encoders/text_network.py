"""Text encoders as torch modules, which encode for a store or, unfrozen, are trained end to end."""

import re
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModel

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.text_tokenizer import TextTokenizer, TokenBatch, load_text_tokenizer
from tier4k.extract.encoders.transformers_loading import load_transformer, recompute_activations

PACKED_TOKENS = 512  # with more, attention between texts costs more than padding


class TextNetwork(nn.Module):
    """Computes features (B, D) float32 of texts: the last hidden state averaged over the attention mask.

    Args:
        backbone: A transformer of Hugging Face.
        tokenizer: The tokenizer of the transformer.
    """

    backbone: Any
    notes: tuple[str, ...] = ()

    def __init__(self, backbone: nn.Module, tokenizer: TextTokenizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, encoder: TextEncoder) -> "TextNetwork":
        """Build the network of an encoder from local files only, in evaluation mode.

        Code in the folder is not run.

        Raises:
            WeightsError: The files of the folder are damaged or do not match.
        """
        tokenizer = load_text_tokenizer(encoder)
        # The pooler's output is unused.
        backbone = load_transformer(AutoModel, encoder.weights.path, "text", unused=("pooler.",))
        return cls(backbone, tokenizer).eval()

    def frozen(self, precision: Precision) -> Self:
        """Prepare this network for encoding only: cast weights to `precision`."""
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embeddings, then of each block, without the unused pooler."""
        groups: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.backbone.named_parameters():
            if name.startswith("pooler."):
                continue
            block = re.search(r"(?:^|\.)(?:layer|layers|block|h)\.(\d+)\.", name)
            number = int(block.group(1)) + 1 if block else 0
            groups.setdefault(number, []).append(parameter)
        return [groups[number] for number in sorted(groups)]

    def recompute_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        recompute_activations(self.backbone)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation, special tokens included."""
        return [len(ids) for ids in self.tokenizer.untruncated_ids(texts)]

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenize texts, truncated and padded."""
        return self.tokenizer(texts)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Return the features (B, D) of tokenized texts."""
        hidden = self._hidden_states(batch).float()
        mask = batch.mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    def _hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the last hidden states (B, L, D)."""
        if self._packs(batch):
            return self._packed_hidden_states(batch)
        return self.backbone(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state

    def _packs(self, batch: TokenBatch) -> bool:
        """Return whether to pack a batch: in training, half of the tokens of short batches are padding.

        Batches for stored features are never packed, so that the features do not change.
        """
        if not torch.is_grad_enabled():
            return False
        config = self.backbone.config
        packable = (
            config.model_type == "bert" and not config.is_decoder and config._attn_implementation == "sdpa"
        )
        tokens = int(batch.mask.sum())
        return packable and tokens < batch.mask.numel() and tokens <= PACKED_TOKENS

    def _packed_hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the hidden states of the texts, concatenated so that tokens attend only to the same text."""
        is_token = batch.mask.bool()
        text, position = is_token.nonzero(as_tuple=True)
        same_text = (text[:, None] == text)[None, None]
        packed = self.backbone(
            input_ids=batch.ids[is_token][None],
            position_ids=position[None],
            attention_mask=same_text,
        ).last_hidden_state[0]
        padded = packed.new_zeros(*is_token.shape, packed.shape[1])
        return padded.index_put((text, position), packed)
