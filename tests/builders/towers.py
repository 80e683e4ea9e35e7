"""A small data set with stores of the two towers of a checkpoint, filled with random numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.keys import text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.tests.builders.stores import text_keys

ROWS, WITH_IMAGE_PROMPT, WIDTH = 32, 20, 6
TARGET = "MOS"
CLIP = "hf:clip"
IMAGE_TOWER = Signature("image", CLIP, "CLIPVisionModel", "ab" * 32, "native: 224", "projection")
TEXT_TOWER = Signature("text", CLIP, "CLIPTextModel", "ab" * 32, "CLIP: 77 tokens", "projection")
RESNET = Signature("image", "resnet18", "resnet18", "cd" * 32, "reference: 224", "pooled")
BERT = Signature("text", "bert-base-uncased", "bert", "ef" * 32, "wordpiece", "pooled")


def towers_manifest() -> Manifest:
    """Pictures, two for each prompt, the first ones with an image prompt; their texts stand for them."""
    pair = [row // 2 for row in range(ROWS)]
    guided = [row < WITH_IMAGE_PROMPT for row in range(ROWS)]
    names = [f"picture {row}" for row in range(ROWS)]
    table = pd.DataFrame(
        {
            "row": range(ROWS),
            "name": names,
            "image": names,
            "prompt": [f"prompt {number}" for number in pair],
            "image_prompt": [f"image prompt {n}" if has else "" for n, has in zip(pair, guided, strict=True)],
            "generator": [f"generator {row % 3}" for row in range(ROWS)],
            "group": [f"group {number:02d}" for number in pair],
            "benchmark": ["I2I" if has else "T2I" for has in guided],
            "position": range(ROWS),
            "dataset": "towers",
            TARGET: np.random.default_rng(0).uniform(0, 5, ROWS),
        }
    )
    for column in ("image", "prompt", "image_prompt"):
        table[f"{column}_key"] = [text_key(text).hex() if text else "" for text in table[column]]
    return Manifest("towers", (Path(),), table, (TARGET,))


def vector(text: str, signature: Signature, shape: Sequence[int] = (WIDTH,)) -> np.ndarray:
    """The random features of an input, which follow from it and from the signature."""
    seed = int.from_bytes(text_key(text + signature.digest)[:8], "big")
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tower_store(
    root: Path,
    signature: Signature,
    templates: Sequence[str] = (),
    shape: Sequence[int] = (WIDTH,),
) -> FeatureStore:
    """A store with `vector` of every image or every prompt, and of templates."""
    table = towers_manifest().table
    columns = ["prompt"] if signature.stream == "text" else ["image", "image_prompt"]
    texts = {text for column in columns for text in table[column] if text} | set(templates)
    opened = FeatureStore.create(root, signature, {})
    with opened.writer() as writer:
        for text in sorted(texts):
            writer.add(text_keys(text), vector(text, signature, shape)[None])
    return FeatureStore.open(opened.path)
