"""Text encoders of transformers by family: class, limit of tokens, feature point."""

from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.sentence_modules import SentenceModules, sentence_modules
from tier4k.extract.encoders.transformers_config import CONFIG, read_config, refuse_unknown_type
from tier4k.extract.weights.files import (
    MODEL_FILES,
    TEXT_FILES,
    TOKENIZER_PARTS,
    WeightsError,
    folder_weights,
)

MAX_TOKENS = 512
UNLIMITED = 1_000_000  # tokenizers without a limit of their own state a number above this one
HASH_LENGTH = 16  # hexadecimal digits of the tokenizer's hash in a signature
MASKED_MEAN = "masked-mean"
AUTO = "AutoModel"
PASS_ANOTHER = "pass a text encoder, such as hf:FOLDER of a BERT, RoBERTa, T5, CLIP or SigLIP"


@dataclass(frozen=True)
class TextFamily:
    """How the text encoders of one family are built, read and named in a signature.

    Attributes:
        model: Name of the class in transformers.
        embedding: Field of the output with the model's own embedding of a text; "" where the states of the
            tokens are averaged.
        feature: Text of the feature point in a signature.
        positions: Number of positions of a config that states none.
        is_relative: Whether positions are relative, so that they do not limit the tokens.
        padding: Number of the padding token of a config that states none. Positions start behind it; None
            where they start at 0.
        states_limit: Whether the signature states the number of tokens that this model reads, and not just
            `MAX_TOKENS`.
        is_tower: Whether the model is the text tower of a model of images and texts. Its weights are those of
            the whole model, and the tokenizer is named apart.
        pads_to_limit: Whether every text is padded to the limit, as in the model's training.
        encoder_alone: Whether the network has an encoder and a decoder, of which the encoder is used.
    """

    model: str = AUTO
    embedding: str = ""
    feature: str = MASKED_MEAN
    positions: int = MAX_TOKENS
    is_relative: bool = False
    padding: int | None = None
    states_limit: bool = False
    is_tower: bool = False
    pads_to_limit: bool = False
    encoder_alone: bool = False


BERT_LIKE = TextFamily()
_ROBERTA = TextFamily(padding=1, states_limit=True)
_CLIP = TextFamily(
    "CLIPTextModelWithProjection", "text_embeds", "projection", positions=77, states_limit=True, is_tower=True
)
_CLIP_WITHOUT_PROJECTION = replace(_CLIP, model="CLIPTextModel", embedding="pooler_output", feature="pooled")
_SIGLIP = TextFamily(
    "SiglipTextModel",
    "pooler_output",
    "pooled",
    positions=64,
    states_limit=True,
    is_tower=True,
    pads_to_limit=True,
)
_SIGLIP2 = replace(_SIGLIP, model="Siglip2TextModel")
_BART = TextFamily(
    "BartModel",
    feature=f"{MASKED_MEAN} of the encoder",
    positions=1024,
    states_limit=True,
    encoder_alone=True,
)
# By the `model_type` in config.json. Models that are not listed are read like BERT if transformers has them
# with a head for masked words.
FAMILIES = {
    "bert": BERT_LIKE,
    "distilbert": BERT_LIKE,
    "electra": BERT_LIKE,
    "albert": BERT_LIKE,
    "deberta": BERT_LIKE,
    "deberta-v2": BERT_LIKE,
    "roberta": _ROBERTA,
    "roberta-prelayernorm": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "mpnet": _ROBERTA,
    "t5": TextFamily("T5EncoderModel", is_relative=True, states_limit=True),
    "mt5": TextFamily("MT5EncoderModel", is_relative=True, states_limit=True),
    "umt5": TextFamily("UMT5EncoderModel", is_relative=True, states_limit=True),
    "bart": _BART,
    "mbart": replace(_BART, model="MBartModel"),
    "clip": _CLIP,
    "clip_text_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_text_model": _SIGLIP,
    "siglip2": _SIGLIP2,
    "siglip2_text_model": _SIGLIP2,
}


@dataclass(frozen=True)
class TextModel:
    """The text encoder in a folder of Hugging Face, which is not loaded yet.

    Attributes:
        family: Its family.
        max_tokens: Number of tokens at which longer texts are truncated, as the signature states it.
        positions: Number of tokens that the positions of the network allow; None where they have no limit.
        modules: What follows the transformer in a folder of sentence-transformers.
        tokenizer: SHA-256, hexadecimal, of the files of the tokenizer, where `is_tower`.
    """

    family: TextFamily = BERT_LIKE
    max_tokens: int = MAX_TOKENS
    positions: int | None = None
    modules: SentenceModules | None = None
    tokenizer: str = ""

    @property
    def token_limit(self) -> int:
        """Number of tokens at which longer texts are truncated."""
        return min(self.max_tokens, self.positions or self.max_tokens)

    @property
    def preparation(self) -> str:
        """Text of the preparation in a signature."""
        tokenizer = f"its own tokenizer {self.tokenizer[:HASH_LENGTH]}".rstrip()
        padding = "padded or " if self.family.pads_to_limit else ""
        text = f"reference: {tokenizer}, {padding}truncated at {self.max_tokens} tokens"
        prompt = self.modules.prompt if self.modules else ""
        return f"{text}, after the prompt {prompt!r}" if prompt else text

    @property
    def feature(self) -> str:
        """Text of the feature point in a signature."""
        return self.modules.feature if self.modules else self.family.feature

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the files whose hash is the hash of the weights."""
        if self.family.is_tower:
            return MODEL_FILES
        return (*TEXT_FILES, *self.modules.weight_files) if self.modules else TEXT_FILES

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that a copy of the folder needs."""
        return (*TEXT_FILES, *self.modules.files) if self.modules else TEXT_FILES


PLAIN_BERT = TextModel()


def text_model(
    folder: Path,
    source: str,
    reads_modules: bool,
) -> TextModel:
    """Read which text encoder a folder of Hugging Face holds. Code in the folder is never run.

    Args:
        folder: A folder with config.json.
        source: Origin of the folder, for messages.
        reads_modules: Whether features are pooled as a folder of sentence-transformers says.

    Raises:
        EncoderError: The folder holds no text encoder that this program reads.
        WeightsError: A file is missing or damaged.
    """
    content = read_config(folder)
    family, content = _family(folder, content)
    if content.get("is_decoder"):
        _refuse_language_model(folder, str(content.get("model_type")))
    modules = sentence_modules(folder) if reads_modules else None
    if modules and family.embedding:
        raise EncoderError(
            f"{folder} is a folder of sentence-transformers with a model of images and texts, which tier4k "
            "reads without its modules.json: remove this file, or pass another encoder"
        )
    positions = _positions(folder, family, content)
    stated = _stated_limit(folder, family, modules, positions)
    tokenizer = folder_weights(folder, source, TOKENIZER_PARTS).sha256 if family.is_tower else ""
    return TextModel(family, stated, positions, modules, tokenizer)


def _family(folder: Path, content: dict[str, Any]) -> tuple[TextFamily, dict[str, Any]]:
    """Return the family, and the configuration of the text encoder alone."""
    kind = str(content.get("model_type"))
    family = FAMILIES.get(kind)
    if family is None:
        return _unlisted_family(folder, content)
    if family is _CLIP and _CLIP_WITHOUT_PROJECTION.model in (content.get("architectures") or ()):
        family = _CLIP_WITHOUT_PROJECTION
    if family.is_tower:
        content = content.get("text_config") or content
    return family, content


def _unlisted_family(folder: Path, content: dict[str, Any]) -> tuple[TextFamily, dict[str, Any]]:
    """Return the family of a model that is not listed, if it is an encoder of texts."""
    from transformers import CONFIG_MAPPING, AutoConfig
    from transformers.models.auto import modeling_auto as auto

    kind = str(content.get("model_type"))
    if kind not in CONFIG_MAPPING:
        refuse_unknown_type(folder, content)
    if kind in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise EncoderError(
            f"the model in {folder} (model_type {kind!r}) has an encoder and a decoder, and tier4k reads the "
            f"encoders of T5, mT5, UMT5, BART and mBART alone: {PASS_ANOTHER}"
        )
    if kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            _refuse_language_model(folder, kind)
        raise EncoderError(
            f"the model in {folder} (model_type {kind!r}) is no text encoder that tier4k reads: "
            f"{PASS_ANOTHER}"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # checks of many kinds of values raise errors of many classes
        reason = shorten(str(error), 300)
        raise WeightsError(f"{folder / CONFIG} cannot be read ({reason}): download it again") from error
    positions = getattr(config, "max_position_embeddings", None)
    return BERT_LIKE, content | {"max_position_embeddings": positions}


def _refuse_language_model(folder: Path, kind: str) -> None:
    raise EncoderError(
        f"the model in {folder} (model_type {kind!r}) is a language model that continues texts; the states "
        f"of its tokens are no embedding of a text: {PASS_ANOTHER}"
    )


def _positions(
    folder: Path,
    family: TextFamily,
    content: dict[str, Any],
) -> int | None:
    """Return the number of tokens that the positions of the network allow; None where they have no limit."""
    if family.is_relative:
        return None
    stated = content.get("max_position_embeddings", family.positions)
    if not isinstance(stated, int) or stated < 1:
        raise EncoderError(
            f"{folder / CONFIG} (model_type {content.get('model_type')!r}) states no limit of tokens "
            f"(max_position_embeddings): {PASS_ANOTHER}"
        )
    if family.padding is None:
        return stated
    padding = content.get("pad_token_id", family.padding)
    limit = stated - (padding if isinstance(padding, int) else family.padding) - 1
    if limit < 1:
        raise EncoderError(
            f"{folder / CONFIG} leaves no position for a token (max_position_embeddings {stated}, "
            f"pad_token_id {padding}): download this file again, or {PASS_ANOTHER}"
        )
    return limit


def _stated_limit(
    folder: Path,
    family: TextFamily,
    modules: SentenceModules | None,
    positions: int | None,
) -> int:
    """Return the number of tokens that the signature states."""
    if modules:
        limit = modules.max_tokens or _tokenizer_limit(folder) or MAX_TOKENS
        return min(limit, positions or limit)
    if not family.states_limit:
        return MAX_TOKENS
    if positions is None:
        return _tokenizer_limit(folder) or MAX_TOKENS
    return min(MAX_TOKENS, positions)


def _tokenizer_limit(folder: Path) -> int | None:
    """Return the `model_max_length` of a folder's tokenizer; None where it states none."""
    name = "tokenizer_config.json"
    if not (folder / name).is_file():
        return None
    stated = read_config(folder, name).get("model_max_length")
    return stated if isinstance(stated, int) and 0 < stated < UNLIMITED else None
