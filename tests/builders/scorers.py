"""Small scorers with random weights, as their authors lay them out: CLIP folders, original BLIP checkpoints,
BLIP folders.
"""

import re
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BlipConfig, BlipForImageTextRetrieval, CLIPConfig, CLIPModel, CLIPTokenizer

SIDE = 32
WORDS = 30_524  # of bert-base-uncased, and BLIP's own two
WIDTH, TEXT_WIDTH = 128, 64


def write_clip(folder: Path, seed: int = 0, tokenizer: bool = True) -> Path:
    """A CLIP of squares of 32 pixels with a tokenizer of bytes, as a folder."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {
        token: number for number, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])
    }
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    last = len(vocabulary) - 1
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = sizes | {
        "vocab_size": len(vocabulary),
        "bos_token_id": last - 1,
        "eos_token_id": last,
        "pad_token_id": last,
    }
    config = CLIPConfig(
        text_config=text, vision_config=sizes | {"image_size": SIDE, "patch_size": 8}, projection_dim=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = shaken(CLIPModel(config))
    model.save_pretrained(folder)
    if tokenizer:
        CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return folder


def write_blip_folder(folder: Path, seed: int = 0) -> Path:
    """A BLIP of squares of 32 pixels in Hugging Face's layout; the vocabulary comes from elsewhere."""
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "layer_norm_eps": 1e-6,
    }
    text = {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "vocab_size": WORDS,
    }
    config = BlipConfig(
        vision_config=vision | {"image_size": SIDE, "patch_size": 16},
        text_config=text,
        image_text_hidden_size=24,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = shaken(BlipForImageTextRetrieval(config))
    model.save_pretrained(folder)
    return folder


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Fill parameters that are zeros or ones in new networks, so that tests notice how they are used."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def published_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of Hugging Face's BLIP in the names of its published code, without the matching head."""
    out = {"text_encoder.embeddings.position_ids": torch.arange(512)[None]}
    for name, tensor in state.items():
        if name.startswith("itm_head."):
            continue
        block = re.sub(r"vision_model\.encoder\.layers", "visual_encoder.blocks", name)
        block = (
            block.replace("layer_norm", "norm")
            .replace("self_attn.projection", "attn.proj")
            .replace("self_attn", "attn")
        )
        ends = {
            "vision_model.embeddings.class_embedding": "visual_encoder.cls_token",
            "vision_model.embeddings.position_embedding": "visual_encoder.pos_embed",
            "vision_model.embeddings.patch_embedding.weight": "visual_encoder.patch_embed.proj.weight",
            "vision_model.embeddings.patch_embedding.bias": "visual_encoder.patch_embed.proj.bias",
            "vision_model.post_layernorm.weight": "visual_encoder.norm.weight",
            "vision_model.post_layernorm.bias": "visual_encoder.norm.bias",
        }
        out[ends.get(name, block)] = tensor
    return out


def write_model_large(path: Path, folder: Path) -> Path:
    """The BLIP of a folder as the authors' pre-training checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = published_names(BlipForImageTextRetrieval.from_pretrained(folder).state_dict())
    torch.save({"model": state, "epoch": 19}, path)
    return path


def write_image_reward(path: Path, folder: Path, seed: int = 0) -> Path:
    """The BLIP of a folder with ImageReward's layers, as their authors' checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = published_names(BlipForImageTextRetrieval.from_pretrained(folder).state_dict())
    sizes = {"0": (TEXT_WIDTH, 40), "2": (40, 16), "4": (16, 8), "6": (8, 4), "7": (4, 1)}
    random = torch.Generator().manual_seed(seed)
    state = {f"blip.{name}": tensor for name, tensor in state.items()}
    for number, (inputs, outputs) in sizes.items():
        state[f"mlp.layers.{number}.weight"] = torch.randn(outputs, inputs, generator=random) / inputs**0.5
        state[f"mlp.layers.{number}.bias"] = 0.1 * torch.randn(outputs, generator=random)
    torch.save(state, path)
    return path
