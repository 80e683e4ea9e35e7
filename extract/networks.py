"""The networks behind the encoders, as torch modules: the same ones encode for the store and, unfrozen, train end to end."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import timm
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from extract.pictures import Preparation
from extract.presets import timm_config
from extract.weights import WeightsError, load_into

if TYPE_CHECKING:
    from extract.encoders import ImageEncoder, TextEncoder

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class ImageNetwork(nn.Module):
    """Prepared pictures (B, 3, H, W) uint8 -> features (B, D)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, preparation: Preparation) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(preparation.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(preparation.std).view(1, 3, 1, 1) * 255, persistent=False)

    @classmethod
    def of(cls, encoder: "ImageEncoder") -> "ImageNetwork":
        """Build and load, in evaluation mode."""
        preset = encoder.preset
        backbone = timm.create_model(preset.architecture, pretrained=False, num_classes=0)
        classifier = str(timm_config(preset.architecture).classifier)
        by_order = preset.package is not None and encoder.weights.sha256 == preset.package.sha256
        load_into(backbone, encoder.weights.path, classifier, by_order)
        if preset.feature == "class-token-before-norm":
            # timm's vision transformers apply `norm` to all tokens and then take the class token; without it, that token is raw.
            backbone.norm = nn.Identity()
        # Convolutions run faster with the channels innermost; the numbers stay the same up to rounding.
        return cls(backbone.to(memory_format=torch.channels_last), encoder.preparation).eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of prepared pictures: normalised here, so that only bytes travel to the device."""
        normalised = (pictures.float() - self.mean) / self.std
        return self.backbone(normalised.contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class TokenBatch:
    """Token numbers and attention mask, both (B, L) int64, padded to the longest text of the batch."""

    ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "TokenBatch":
        """The same on another device."""
        return TokenBatch(self.ids.to(device), self.mask.to(device))


class TextNetwork(nn.Module):
    """Texts -> features (B, D): the last hidden state averaged over the attention mask."""

    def __init__(self, backbone: nn.Module, tokenizer: Any, max_tokens: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @classmethod
    def of(cls, encoder: "TextEncoder") -> "TextNetwork":
        """Build and load from local files only, in evaluation mode; no code from the folder is run."""
        path = encoder.weights.path
        try:
            tokenizer = load_tokenizer(encoder)
            backbone, loading = AutoModel.from_pretrained(path, local_files_only=True, output_loading_info=True, dtype=torch.float32)
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

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text before truncation, with the special ones."""
        return [len(ids) for ids in self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]

    def tokenize(self, texts: Sequence[str]) -> TokenBatch:
        """Token numbers of texts, truncated at `max_tokens` and padded to the longest."""
        batch = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens, padding=True, return_tensors="pt")
        return TokenBatch(batch["input_ids"], batch["attention_mask"])

    def forward(self, batch: TokenBatch) -> Tensor:
        """Features of tokenized texts."""
        hidden = self.backbone(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        mask = batch.mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)


def load_tokenizer(encoder: "TextEncoder") -> Any:
    """The tokenizer alone, from local files."""
    return AutoTokenizer.from_pretrained(encoder.weights.path, local_files_only=True)
