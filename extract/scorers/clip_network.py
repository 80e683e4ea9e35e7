"""CLIPScore and PickScore: cosines of Hugging Face's CLIP."""

import json
from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPModel, CLIPTokenizer

from tier4k.cache.text import utf8_path
from tier4k.extract.encoders.precision import at_least_float32
from tier4k.extract.encoders.text_tokenizer import TextTokenizer
from tier4k.extract.encoders.token_numbers import require_token_numbers
from tier4k.extract.scorers.checkpoints import clip_checkpoint, load_all, without_memory
from tier4k.extract.scorers.pair_network import PairNetwork, require_vocabulary
from tier4k.extract.scorers.scorer import Scorer
from tier4k.extract.weights.files import WeightsError

# Tokens of its vocabulary that no merge makes: every byte, inside a word and at its end, and two marks.
UNMERGED_TOKENS = 2 * 256 + 2


class ClipNetwork(PairNetwork):
    """Cosine of CLIP's embeddings of image and text, times exp(logit_scale) where `scaled`.

    Args:
        backbone: Hugging Face's CLIP.
        tokenizer: Of its texts, which truncates them.
        scaled: Whether cosines are multiplied by exp(logit_scale), as PickScore does.
    """

    def __init__(
        self,
        backbone: Any,
        tokenizer: TextTokenizer,
        scaled: bool,
    ) -> None:
        super().__init__(backbone, tokenizer, int(backbone.config.vision_config.image_size))
        self.scale = float(backbone.logit_scale.detach().exp()) if scaled else 1.0

    @classmethod
    def of(cls, scorer: Scorer) -> Self:
        """Build the network and load its weights from a folder in Hugging Face's layout."""
        folder = scorer.weights.path
        config, state = clip_checkpoint(folder)
        with without_memory(folder):
            model: Any = CLIPModel(config)
        load_all(model, state, folder)
        tokenizer = cls.load_tokenizer(scorer)
        require_vocabulary(tokenizer, model.config.text_config.vocab_size, scorer)
        return cls(model, cls.truncating(tokenizer, scorer), scorer.preset.scaled).eval()

    @staticmethod
    def load_tokenizer(scorer: Scorer) -> Any:
        """Load CLIP's tokenizer, whose merges must be complete."""
        folder = scorer.tokenizer.path
        require_token_numbers(folder)
        try:
            with utf8_path(folder) as readable:
                tokenizer = CLIPTokenizer.from_pretrained(readable, local_files_only=True)
        except Exception as error:  # tokenizers raises plain exceptions on damaged files
            raise WeightsError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
        # merges.txt is lines of text: half of it loads without an error, and makes other tokens.
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        merges = len(content["model"]["merges"])
        if merges < len(tokenizer) - UNMERGED_TOKENS:
            raise WeightsError(
                f"the tokenizer in {folder} has {merges:,} merges for {len(tokenizer):,} tokens: merges.txt "
                "is damaged or half downloaded; download the file again"
            )
        return tokenizer

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (T, D) of length 1."""
        # Attention is causal and the end-of-text token is read, so padding changes nothing.
        ids, mask = self._tokens(texts).unbind(1)
        pooled = self.backbone.text_model(input_ids=ids, attention_mask=mask).pooler_output
        return normalize(at_least_float32(self.backbone.text_projection(pooled)), dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embeddings (P, D) of length 1."""
        pooled = self.backbone.vision_model(pixel_values=self._normalised(images)).pooler_output
        return normalize(at_least_float32(self.backbone.visual_projection(pooled)), dim=-1)

    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        """Their cosines, scaled."""
        return self.scale * (images * texts).sum(dim=-1)
