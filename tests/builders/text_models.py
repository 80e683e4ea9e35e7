"""Very small text encoders of transformers with random weights, in folders as Hugging Face lays them out."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tier4k.tests.builders.transformers_models import (
    BLOCKS,
    PROJECTION,
    SAMPLES,
    one_tower,
    two_towers,
    write_random_model,
)

TEXTS = [
    "a red fox in the snow",
    "dog",
    "a very detailed painting of a quiet harbour at dawn with fishing boats, warm light, in the style of "
    "an old master, as a child would draw it",
    "an astronaut on a horse",
]
BEGIN, PADDING, UNKNOWN, END = range(4)  # numbers of the special tokens
POSITIONS = 24
TOKENS: dict[str, Any] = {"bos_token_id": BEGIN, "pad_token_id": PADDING, "eos_token_id": END}
WORDS = 400  # more than the tokenizer has
TEXT_TOWER: dict[str, Any] = BLOCKS | TOKENS | {"vocab_size": WORDS, "max_position_embeddings": POSITIONS}


@cache
def _bytes() -> Tokenizer:
    """A byte-pair tokenizer that puts a text between two special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "<unk>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BEGIN), ("</s>", END)]
    )
    return tokenizer


def text_tokenizer(**options: Any) -> Any:
    """A tokenizer of transformers with these options."""
    specials = {"bos_token": "<s>", "pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=_bytes(), **(specials | options))


def encoder(kind: str, head: str = "Model", **options: Any) -> Callable[[], Any]:
    """Makes a model of texts alone."""
    return one_tower(kind, head, **(TEXT_TOWER | options))


def sequence_model(kind: str, head: str = "Model", **options: Any) -> Callable[[], Any]:
    """Makes a model of an encoder and a decoder, or its encoder alone."""
    shape = {"vocab_size": WORDS, "d_model": 32, "decoder_start_token_id": PADDING} | TOKENS
    return one_tower(kind, head, **(shape | options))


_T5 = {"d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
_BART = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": POSITIONS,
}
MODELS: dict[str, Callable[[], Any]] = {
    "bert": encoder("Bert"),
    "distilbert": encoder("DistilBert", dim=32, hidden_dim=48, n_layers=2, n_heads=2),
    "electra": encoder("Electra", embedding_size=16),
    "albert": encoder("Albert", embedding_size=16),
    "deberta": encoder("Deberta", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "deberta-v2": encoder(
        "DebertaV2", relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False
    ),
    "roberta": encoder("Roberta"),
    "xlm-roberta": encoder("XLMRoberta", "ForMaskedLM"),
    "mpnet": encoder("MPNet"),
    "t5": sequence_model("T5", **_T5),
    "t5-encoder": sequence_model("T5", "EncoderModel", **_T5),
    "mt5": sequence_model("MT5", "ForConditionalGeneration", **_T5),
    "umt5": sequence_model("UMT5", "EncoderModel", **_T5),
    "bart": sequence_model("Bart", **_BART),
    "mbart": sequence_model("MBart", "ForConditionalGeneration", **_BART),
    "clip": two_towers("CLIP", TEXT_TOWER),
    "siglip": two_towers("Siglip", TEXT_TOWER),
    "siglip2": two_towers("Siglip2", TEXT_TOWER),
    "clip-text": encoder("CLIPText"),
    "clip-text-projection": encoder("CLIPText", "ModelWithProjection", projection_dim=PROJECTION),
    "siglip-text": encoder("SiglipText"),
    "siglip2-text": encoder("Siglip2Text"),
}


def write_text_folder(
    folder: Path,
    name: str,
    seed: int = 0,
    **tokenizer: Any,
) -> Path:
    """Write a model and its tokenizer; of a model of images and texts also the image processor."""
    write_random_model(MODELS[name], folder, seed)
    # As SigLIP is published: its network attends to padding, since its tokenizer gives no mask.
    inputs = {"model_input_names": ["input_ids"]} if name in ("siglip", "siglip-text") else {}
    text_tokenizer(**(inputs | tokenizer)).save_pretrained(folder)
    if name in ("clip", "siglip", "siglip2"):
        SAMPLES[name].processor.save_pretrained(folder)
    return folder


def library_inputs(
    folder: Path,
    kind: str,
    texts: Sequence[str],
    images: Sequence[Path],
) -> tuple[Any, Any]:
    """Return the tensors of texts and of images that the library's own model of both takes, by name."""
    processor: Any = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=[Image.open(path).convert("RGB") for path in images], return_tensors="pt")
    tokens = hf.AutoTokenizer.from_pretrained(folder)(
        list(texts),
        padding=True if kind == "clip" else "max_length",
        truncation=True,
        max_length=POSITIONS,
        return_tensors="pt",
    )
    return tokens, pixels


def write_sentence_folder(
    folder: Path,
    poolings: Sequence[str] = ("mean",),
    layers: Sequence[str] = (),
    base: str = "bert",
    max_tokens: int | None = None,
    dense_width: int = 12,
) -> Path:
    """Write a folder as sentence-transformers does: a model, a pooling, layers "Dense" and "Normalize"."""
    write_text_folder(folder, base)
    names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    switches = {f"pooling_mode_{names.get(name, name)}": name in poolings for name in {*names, *poolings}}
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32} | switches)
    for number, layer in enumerate(layers, start=2):
        place = f"{number}_{layer}"
        modules.append((layer, place))
        (folder / place).mkdir()
        if layer == "Dense":
            _write_dense(folder / place, 32 * len(poolings), dense_width)
    entries = []
    for number, (kind, place) in enumerate(modules):
        entries.append(
            {
                "idx": number,
                "name": str(number),
                "path": place,
                "type": f"sentence_transformers.models.{kind}",
            }
        )
    _write(folder / "modules.json", entries)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    return folder


def _write_dense(
    folder: Path,
    width: int,
    new_width: int,
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        tensors = {"linear.weight": torch.randn(new_width, width), "linear.bias": torch.randn(new_width)}
    save_file(tensors, folder / "model.safetensors")
    activation = "torch.nn.modules.activation.Tanh"
    _write(
        folder / "config.json",
        {"in_features": width, "out_features": new_width, "bias": True, "activation_function": activation},
    )


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
