"""BLIPScore and ImageReward: Hugging Face's BLIP, read as the published scorers read it."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import BertTokenizer, BlipTextModel, BlipVisionModel

from tier4k.extract.encoders.precision import at_least_float32
from tier4k.extract.encoders.text_tokenizer import TextTokenizer
from tier4k.extract.scorers.blip_checkpoint import RewardSizes, blip_checkpoint
from tier4k.extract.scorers.checkpoints import load_all, without_memory
from tier4k.extract.scorers.pair_network import PairNetwork, require_vocabulary
from tier4k.extract.scorers.scorer import Scorer

# Numbers 30522 and 30523, after the vocabulary of bert-base-uncased.
ADDED_TOKENS = ("[DEC]", "[ENC]")

# Of ImageReward's training rewards, from its published code.
REWARD_MEAN = 0.16717362830052426
REWARD_STD = 1.0333394966054072


class Blip(nn.Module):
    """The parts of BLIP's pre-training that scorers read, in Hugging Face's names, and ImageReward's layers.

    Args:
        config: Of both transformers.
        reward_sizes: Sizes of ImageReward's linear layers by their numbers, {number: (inputs, outputs)};
            empty for BLIP itself.
    """

    def __init__(self, config: Any, reward_sizes: RewardSizes) -> None:
        super().__init__()
        width = config.image_text_hidden_size
        self.vision_model = BlipVisionModel(config.vision_config)
        self.text_encoder = BlipTextModel(config.text_config, add_pooling_layer=False)
        self.vision_proj = nn.Linear(config.vision_config.hidden_size, width)
        self.text_proj = nn.Linear(config.text_config.hidden_size, width)
        # No activations in between, as published.
        layers = nn.Sequential()
        for number, (inputs, outputs) in reward_sizes.items():
            layers.add_module(number, nn.Linear(inputs, outputs))
        self.mlp = nn.ModuleDict({"layers": layers})


class BlipNetwork(PairNetwork):
    """The common part of BLIPScore and ImageReward."""

    @classmethod
    def of(cls, scorer: Scorer) -> Self:
        """Build the network and load an original checkpoint, or a folder in Hugging Face's layout."""
        path = scorer.weights.path
        config, reward_sizes, state = blip_checkpoint(path, scorer.preset.reward)
        with without_memory(path):
            model = Blip(config, reward_sizes)
        load_all(model, state, path)
        tokenizer = cls.load_tokenizer(scorer)
        require_vocabulary(tokenizer, config.text_config.vocab_size, scorer)
        return cls(model, cls.truncating(tokenizer, scorer), config.vision_config.image_size).eval()

    @staticmethod
    def load_tokenizer(scorer: Scorer) -> Any:
        """Load BERT's tokenizer with BLIP's own tokens."""
        tokenizer = BertTokenizer(str(scorer.tokenizer.path), do_lower_case=True)
        tokenizer.add_special_tokens({"additional_special_tokens": list(ADDED_TOKENS)})
        return tokenizer

    @staticmethod
    def truncating(tokenizer: Any, scorer: Scorer) -> TextTokenizer:
        """Return a tokenizer that also pads every text to the limit: tokens of all texts are stacked."""
        return TextTokenizer(tokenizer, scorer.preset.tokens, pads_to_limit=True)

    def _patches(self, images: Tensor) -> Tensor:
        """All tokens of images, (P, L, D), the class token first."""
        return self.backbone.vision_model(pixel_values=self._normalised(images)).last_hidden_state

    def _first_token(self, tokens: Tensor, patches: Tensor | None = None) -> Tensor:
        """Return the output (T, D) at the first token of T texts; they attend to `patches` if given."""
        ids, mask = tokens.unbind(1)
        output = self.backbone.text_encoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=patches,
            is_decoder=False,
        )
        return output.last_hidden_state[:, 0]


class BlipScoreNetwork(BlipNetwork):
    """Cosine of BLIP's projections of the class token and of the text's first token."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (T, D) of length 1; the text encoder reads no image."""
        tokens = self._tokens(texts)
        projected = self.backbone.text_proj(self._first_token(tokens))
        return normalize(at_least_float32(projected), dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeddings (P, D) of length 1."""
        projected = self.backbone.vision_proj(self._patches(images)[:, 0])
        return normalize(at_least_float32(projected), dim=-1)

    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        """Their cosines."""
        return (images * texts).sum(dim=-1)


class ImageRewardNetwork(BlipNetwork):
    """ImageReward (Xu et al., NeurIPS 2023): a reward of the text's first token.

    The text attends to the image's tokens.
    """

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Token numbers and masks (T, 2, 35): every layer of the text encoder needs the image."""
        return self._tokens(texts)

    def encode_images(self, images: Tensor) -> Tensor:
        """Tokens (P, L, D)."""
        return self._patches(images)

    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        """Rewards, of mean 0 and standard deviation 1 on ImageReward's own data."""
        first_token = self._first_token(texts, images)
        reward = at_least_float32(self.backbone.mlp["layers"](first_token))
        return (reward[:, 0] - REWARD_MEAN) / REWARD_STD
