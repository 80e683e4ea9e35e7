"""The networks behind the zero-shot scorers: Hugging Face's CLIP and BLIP, each read as the published scorer reads it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertTokenizer, BlipTextModel, BlipVisionModel, CLIPModel, CLIPTokenizer

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.cpu import with_onednn
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.encoders.weights import WeightsError
from tier4k.extract.images.preprocessing import CLIP_MEAN, CLIP_STD
from tier4k.extract.scorers.checkpoints import blip_checkpoint, clip_checkpoint, load_all, without_memory
from tier4k.extract.scorers.choices import ScorerName
from tier4k.extract.scorers.scorer import Scorer

CLIP_TOKENS = 77

CLIP_TOKENS_UNMERGED = (
    2 * 256 + 2
)  # of its vocabulary: every byte, inside a word and at its end, and two marks

BLIP_TOKENS = 35

BLIP_TOKENS_OF_ITS_OWN = (
    "[DEC]",
    "[ENC]",
)  # after the vocabulary of bert-base-uncased, numbers 30522 and 30523

REWARD_MEAN, REWARD_STD = (
    0.16717362830052426,
    1.0333394966054072,
)  # of ImageReward's training rewards, in its published code


class PairNetwork(nn.Module, ABC):
    """Scores pairs of a picture and a text. What can be encoded of each alone is encoded once, however many pairs it is in.

    Args:
        backbone: The network.
        tokenizer: Of its texts.
        side: Pixels of the square pictures that it takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, tokenizer: Any, side: int) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.tokenizer = tokenizer
        self.side = side
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1) * 255, persistent=False)

    @classmethod
    @abstractmethod
    def of(cls, scorer: Scorer) -> Self:
        """Build and load, in evaluation mode."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """What is known of texts without a picture, (T, ...)."""

    @abstractmethod
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """What is known of prepared pictures (P, 3, side, side) uint8 without a text, (P, ...)."""

    @abstractmethod
    def score(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Scores (N,) float32 of N pairs, from encoded pictures and encoded texts, N of each."""

    def frozen(self, precision: Precision) -> Self:
        """This network made ready for scoring only: its weights are cast once to `precision`."""
        self.backbone.to(DTYPES[precision])
        return with_onednn(self).requires_grad_(False)

    def _normalised(self, pictures: Tensor) -> Tensor:
        return ((pictures.float() - self.mean) / self.std).to(next(self.backbone.parameters()).dtype)

    def _tokens(self, texts: Sequence[str], most: int, padding: str) -> Tensor:
        """Token numbers and attention mask of texts, (T, 2, L) int64."""
        batch = self.tokenizer(
            list(texts), truncation=True, max_length=most, padding=padding, return_tensors="pt"
        )
        return torch.stack([batch["input_ids"], batch["attention_mask"]], dim=1).to(self.mean.device)


class ClipNetwork(PairNetwork):
    """Cosine of CLIP's embeddings of picture and text, times exp(logit_scale) where `scaled`."""

    def __init__(self, backbone: Any, tokenizer: Any, scaled: bool) -> None:
        super().__init__(backbone, tokenizer, int(backbone.config.vision_config.image_size))
        self.scale = float(backbone.logit_scale.detach().exp()) if scaled else 1.0

    @classmethod
    def of(cls, scorer: Scorer) -> Self:
        """Build and load from a folder as Hugging Face lays it out."""
        config, state = clip_checkpoint(scorer.weights.path)
        with without_memory(scorer.weights.path):
            model: Any = CLIPModel(config)
        load_all(model, state, scorer.weights.path)
        tokenizer = _clip_tokenizer(scorer.tokenizer.path)
        _require_vocabulary(tokenizer, model.config.text_config.vocab_size, scorer)
        return cls(model, tokenizer, scorer.preset.scaled).eval()

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (T, D) of length 1."""
        # Attention is causal and the end-of-text token is read, so that padding changes nothing.
        ids, mask = self._tokens(texts, CLIP_TOKENS, "longest").unbind(1)
        pooled = self.backbone.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return normalize(self.backbone.text_projection(pooled).float(), dim=-1)

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Embeddings (P, D) of length 1."""
        pooled = self.backbone.vision_model(pixel_values=self._normalised(pictures)).pooler_output
        return normalize(self.backbone.visual_projection(pooled).float(), dim=-1)

    def score(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Their cosines, scaled."""
        return self.scale * (pictures * texts).sum(dim=-1)


class Blip(nn.Module):
    """The parts of BLIP's pre-training that scorers read, in Hugging Face's names; ImageReward adds its layers.

    Args:
        config: Of both transformers.
        reward_sizes: Sizes of ImageReward's linear layers by their numbers, {number: (inputs, outputs)}; empty for BLIP itself.
    """

    def __init__(self, config: Any, reward_sizes: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.vision_model = BlipVisionModel(config.vision_config)
        self.text_encoder = BlipTextModel(config.text_config, add_pooling_layer=False)
        self.vision_proj = nn.Linear(config.vision_config.hidden_size, config.image_text_hidden_size)
        self.text_proj = nn.Linear(config.text_config.hidden_size, config.image_text_hidden_size)
        # No activations in between, as published.
        layers = nn.Sequential()
        for number, (inputs, outputs) in reward_sizes.items():
            layers.add_module(number, nn.Linear(inputs, outputs))
        self.mlp = nn.ModuleDict({"layers": layers})


class BlipNetwork(PairNetwork):
    """What BLIPScore and ImageReward have in common."""

    @classmethod
    def of(cls, scorer: Scorer) -> Self:
        """Build and load from an original checkpoint, or from a folder as Hugging Face lays it out."""
        config, reward_sizes, state = blip_checkpoint(scorer.weights.path, scorer.preset.reward)
        with without_memory(scorer.weights.path):
            model = Blip(config, reward_sizes)
        load_all(model, state, scorer.weights.path)
        tokenizer = BertTokenizer(str(scorer.tokenizer.path), do_lower_case=True)
        tokenizer.add_special_tokens({"additional_special_tokens": list(BLIP_TOKENS_OF_ITS_OWN)})
        _require_vocabulary(tokenizer, config.text_config.vocab_size, scorer)
        return cls(model, tokenizer, config.vision_config.image_size).eval()

    def _patches(self, pictures: Tensor) -> Tensor:
        """All tokens of pictures, (P, L, D), the class token first."""
        return self.backbone.vision_model(pixel_values=self._normalised(pictures)).last_hidden_state

    def _first_token(self, tokens: Tensor, patches: Tensor | None = None) -> Tensor:
        """The first token (T, D) of texts, which attend to the patches of a picture where they are given."""
        ids, mask = tokens.unbind(1)
        encoder = self.backbone.text_encoder
        return encoder(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=patches, is_decoder=False
        ).last_hidden_state[:, 0]


class BlipScoreNetwork(BlipNetwork):
    """Cosine of BLIP's projections of the class token and of the text's first token."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (T, D) of length 1; the text encoder sees no picture."""
        tokens = self._tokens(texts, BLIP_TOKENS, "max_length")
        return normalize(self.backbone.text_proj(self._first_token(tokens)).float(), dim=-1)

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Embeddings (P, D) of length 1."""
        return normalize(self.backbone.vision_proj(self._patches(pictures)[:, 0]).float(), dim=-1)

    def score(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Their cosines."""
        return (pictures * texts).sum(dim=-1)


class ImageRewardNetwork(BlipNetwork):
    """ImageReward (Xu et al., NeurIPS 2023): the text attends to the picture's tokens; its first token is mapped to a reward."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Token numbers and masks (T, 2, 35): every layer of the text encoder needs the picture."""
        return self._tokens(texts, BLIP_TOKENS, "max_length")

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Tokens (P, L, D)."""
        return self._patches(pictures)

    def score(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Rewards, of mean 0 and standard deviation 1 on ImageReward's own data."""
        reward = self.backbone.mlp["layers"](self._first_token(texts, pictures)).float()
        return (reward[:, 0] - REWARD_MEAN) / REWARD_STD


NETWORKS: dict[ScorerName, type[PairNetwork]] = {
    "clipscore": ClipNetwork,
    "pickscore": ClipNetwork,
    "blipscore": BlipScoreNetwork,
    "imagereward": ImageRewardNetwork,
}


def load_scorer_network(scorer: Scorer) -> PairNetwork:
    """Build the network of a scorer and load its weights, in evaluation mode.

    Raises:
        WeightsError: The weights do not fit.
    """
    return NETWORKS[scorer.preset.name].of(scorer)


def _clip_tokenizer(folder: Path) -> Any:
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of a damaged file, tokenizers raises no narrower one
        raise WeightsError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    merges = len(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"])
    if (
        merges < len(tokenizer) - CLIP_TOKENS_UNMERGED
    ):  # merges.txt is lines of text: a part of it loads, and makes other tokens
        raise WeightsError(
            f"the tokenizer in {folder} has {merges:,} merges for {len(tokenizer):,} tokens: merges.txt is damaged or half downloaded; "
            "download it again"
        )
    return tokenizer


def _require_vocabulary(tokenizer: Any, size: int, scorer: Scorer) -> None:
    if len(tokenizer) != size:
        raise WeightsError(
            f"the tokenizer in {scorer.tokenizer.path} knows {len(tokenizer):,} tokens, the network in {scorer.weights.path} {size:,}: "
            "take both from one download"
        )
