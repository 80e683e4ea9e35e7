"""Very small checkpoints of an image encoder and a text encoder with random weights."""

from pathlib import Path

import torch
import transformers as hf
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from tier4k.tests.builders.scorers import SIDE, shaken, write_clip

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
BLOCKS = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
LETTERS = ["<pad>", "<eos>", "<unk>", *" abcdefghijklmnopqrstuvwxyz,.0123456789"]


def write_two_towers(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a checkpoint of the kind "clip", "siglip" or "siglip2"."""
    square = {"height": SIDE, "width": SIDE}
    if kind == "clip":
        write_clip(folder, seed)
        processor = hf.CLIPImageProcessor(
            size={"shortest_edge": SIDE + 4}, crop_size=square, image_mean=MEAN, image_std=STD
        )
    else:
        name = kind.capitalize()
        text = BLOCKS | {"vocab_size": len(LETTERS), "max_position_embeddings": 24, "pad_token_id": 0}
        vision = BLOCKS | {"patch_size": 8, "image_size": SIDE, "num_patches": (SIDE // 8) ** 2}
        if kind == "siglip2":
            del vision["image_size"]
        config = getattr(hf, f"{name}Config")(text_config=text, vision_config=vision)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            shaken(getattr(hf, f"{name}Model")(config)).save_pretrained(folder)
        _letters_tokenizer(has_mask=kind == "siglip2").save_pretrained(folder)
        processor = hf.SiglipImageProcessor(size=square, image_mean=MEAN, image_std=STD)
        if kind == "siglip2":
            processor = hf.Siglip2ImageProcessor(
                patch_size=8, max_num_patches=16, image_mean=MEAN, image_std=STD
            )
    processor.save_pretrained(folder)
    return folder


def _letters_tokenizer(has_mask: bool) -> hf.PreTrainedTokenizerFast:
    """A tokenizer of lower-case letters that ends every text with <eos>, and may return an attention mask."""
    numbers = {letter: number for number, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(numbers, "<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"] if has_mask else ["input_ids"],
    )
