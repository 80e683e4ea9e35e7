"""Text encoders as torch modules, which encode for a store or, unfrozen, are trained end to end."""

import re
from collections.abc import Sequence
from typing import Any, Self

import torch
import transformers
from torch import Tensor, nn

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.encoder import TextEncoder
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.text_families import AUTO, TextFamily
from tier4k.extract.encoders.text_pooling import TextPooling, load_pooling
from tier4k.extract.encoders.text_probe import SHORT, require_finite, require_sound
from tier4k.extract.encoders.text_tokenizer import TextTokenizer, TokenBatch, load_text_tokenizer
from tier4k.extract.encoders.transformers_config import tower_config
from tier4k.extract.encoders.transformers_loading import (
    explain_loading_errors,
    load_transformer,
    recompute_activations,
)

# Models, by `model_type`, whose attention takes a mask of pairs of tokens as it is.
MASKED_BY_PAIRS = ("albert", "bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
PACKED_TOKENS = 512  # with more, attention between texts costs more than padding
BLOCK = re.compile(r"(?:^|\.)(?:layer|layers|block|h)\.(\d+)\.")
AFTER_BLOCKS = re.compile(r"(?:^|\.)(?:final_layer_norm|encoder\.layer_norm|text_projection|head)\.")


class TextNetwork(nn.Module):
    """Computes features (B, D) float32 of texts: the model's own embedding, or its tokens' states pooled.

    Args:
        backbone: A transformer of Hugging Face.
        tokenizer: The tokenizer of the transformer.
        family: How the outputs of the transformer are read.
        pooling: Pools the states of the tokens, where the model has no embedding of its own.
    """

    backbone: Any
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: TextTokenizer,
        family: TextFamily,
        pooling: TextPooling,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.family = family
        self.pooling = pooling

    @classmethod
    def of(cls, encoder: TextEncoder) -> "TextNetwork":
        """Build the network of an encoder from local files only, in evaluation mode.

        Code in the folder is not run. The network is probed with a few texts.

        Raises:
            EncoderError: The network does not give every text one vector, whatever it is encoded with.
            WeightsError: The files of the folder are damaged or do not match.
        """
        path, model = encoder.weights.path, encoder.model
        tokenizer = load_text_tokenizer(encoder)
        pooling = load_pooling(path, model.modules)
        network = cls(_load_backbone(encoder), tokenizer, model.family, pooling).eval()
        require_sound(network, path)
        return network

    def frozen(self, precision: Precision) -> Self:
        """Prepare this network for encoding only: cast weights to `precision`.

        Raises:
            EncoderError: The network gives infinite or undefined features in this precision.
        """
        if DTYPES[precision] != torch.float32:
            _cast(self.backbone, DTYPES[precision])
            require_finite(self, precision)
        return with_onednn(self).requires_grad_(False)

    @property
    @torch.inference_mode()
    def width(self) -> int:
        """Length D of the features, for which the network encodes a text."""
        device = next(self.backbone.parameters()).device
        return self.features(self.tokenizer([SHORT]).to(device)).shape[1]

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embeddings, then of each block, without the unused pooler.

        The last block comes with what follows the blocks. Dense layers of sentence-transformers are not
        trained.
        """
        groups: dict[int, list[nn.Parameter]] = {}
        after: list[nn.Parameter] = []
        for name, parameter in self.backbone.named_parameters():
            if name.startswith("pooler."):
                continue
            block = BLOCK.search(name)
            if block is None and AFTER_BLOCKS.search(name):
                after.append(parameter)
                continue
            groups.setdefault(int(block.group(1)) + 1 if block else 0, []).append(parameter)
        groups[max(groups)].extend(after)
        return [groups[number] for number in sorted(groups)]

    def recompute_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them.

        Raises:
            AttributeError, ValueError: transformers cannot do so for this network.
        """
        if self.family.encoder_alone:
            # Their layers draw dropout themselves, and would do so in the mode in which they recompute.
            raise ValueError(f"layers of {self.family.model} have dropout of their own")
        recompute_activations(self.backbone)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text before truncation, special tokens included.

        Raises:
            EncoderError: A text has a token that the network lacks.
        """
        ids = self.tokenizer.untruncated_ids(texts)
        read = [tokens[: self.tokenizer.max_tokens] for tokens in ids]
        self._require_embedded(texts, [max(tokens, default=0) for tokens in read])
        return list(map(len, ids))

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenize texts, truncated and padded.

        Raises:
            EncoderError: A text has no token, or one that the network lacks.
        """
        batch = self.tokenizer(texts)
        self._require_embedded(texts, batch.ids.amax(1).tolist())
        return batch

    def _require_embedded(self, texts: Sequence[str], largest_ids: Sequence[int]) -> None:
        """Refuse texts whose largest token number is beyond the network's embeddings."""
        embeddings = self.backbone.get_input_embeddings().weight.shape[0]
        for text, largest in zip(texts, largest_ids, strict=True):
            if largest >= embeddings:
                raise EncoderError(
                    f"the tokenizer of the text encoder makes the token {largest} of the text {text!r}, and "
                    f"the network has embeddings of {embeddings} tokens: take tokenizer and weights from one "
                    "download, or pass another text encoder"
                )

    def forward(self, batch: TokenBatch) -> Tensor:
        """Return the features (B, D) of tokenized texts."""
        return self.features(batch)

    def features(self, batch: TokenBatch) -> Tensor:
        """Return the features (B, D) of tokenized texts; the probe asks for them before the first call."""
        if self.family.embedding:
            outputs = self.backbone(input_ids=batch.ids, attention_mask=batch.mask)
            return getattr(outputs, self.family.embedding).float()
        return self.pooling(self._hidden_states(batch).float(), batch.mask)

    def _hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the last hidden states (B, L, D)."""
        if self._packs(batch):
            return self._packed_hidden_states(batch)
        network = self.backbone.encoder if self.family.encoder_alone else self.backbone
        return network(input_ids=batch.ids, attention_mask=self._attention_mask(batch)).last_hidden_state

    def _attention_mask(self, batch: TokenBatch) -> Tensor | None:
        """Return the mask (B, L), or that (B, 1, L, L) which transformers makes of it; None without padding.

        transformers asks the device whether there is padding, and would wait for all its work. Here the
        tokenizer knows.
        """
        config = self.backbone.config
        is_known = batch.places is not None and config.model_type in MASKED_BY_PAIRS
        if not is_known or config._attn_implementation != "sdpa":
            return batch.mask
        assert batch.places is not None
        if batch.places.shape[1] == batch.mask.numel():
            return None
        return batch.mask.bool()[:, None, None].expand(-1, 1, batch.mask.shape[1], -1)

    def _packs(self, batch: TokenBatch) -> bool:
        """Return whether to pack a batch: in training, half of the tokens of short batches are padding.

        Batches for stored features are never packed, so that the features do not change.
        """
        if not torch.is_grad_enabled() or batch.places is None:
            return False
        config = self.backbone.config
        packable = (
            config.model_type == "bert" and not config.is_decoder and config._attn_implementation == "sdpa"
        )
        tokens = batch.places.shape[1]
        return packable and tokens < batch.mask.numel() and tokens <= PACKED_TOKENS

    def _packed_hidden_states(self, batch: TokenBatch) -> Tensor:
        """Return the hidden states of the texts, concatenated so that tokens attend only to the same text."""
        assert batch.places is not None
        text, position = batch.places
        same_text = (text[:, None] == text)[None, None]
        packed = self.backbone(
            input_ids=batch.ids[text, position][None],
            position_ids=position[None],
            attention_mask=same_text,
        ).last_hidden_state[0]
        padded = packed.new_zeros(*batch.mask.shape, packed.shape[1])
        return padded.index_put((text, position), packed)


def _load_backbone(encoder: TextEncoder) -> Any:
    """Load the transformer of an encoder, of a model of images and texts only the text tower."""
    path, family = encoder.weights.path, encoder.model.family
    if family.model == AUTO:
        # The pooler's output is unused.
        return load_transformer(
            transformers.AutoModel, path, "text", unused=("pooler.",), trust_remote_code=False
        )
    options: dict[str, Any] = {}
    if family.is_tower:
        with explain_loading_errors(path, "text"):
            config = transformers.AutoConfig.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
        options["config"] = tower_config(config, "text_config")
    unused = ("decoder.",) if family.encoder_alone else ()
    backbone = load_transformer(getattr(transformers, family.model), path, "text", unused, **options)
    if family.encoder_alone:
        backbone.decoder = None
    return backbone


def _cast(backbone: Any, dtype: torch.dtype) -> None:
    """Cast a network, except for the layers that transformers keeps in float32 because float16 overflows."""
    names = set(getattr(backbone, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else set()
    kept: dict[nn.Parameter, Tensor] = {}
    for name, parameter in backbone.named_parameters():
        if names & set(name.split(".")):
            kept[parameter] = parameter.data
    backbone.to(dtype)
    for parameter, values in kept.items():
        parameter.data = values
