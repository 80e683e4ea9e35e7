"""A small data set for golden values: its rows, scores and features come from formulas."""

from pathlib import Path

import numpy as np
import pandas as pd

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.features import FeatureSet, load_features
from tier4k.tests.builders.stores import stores_of

ROWS, WITH_IMAGE_PROMPT, ROWS_PER_PROMPT = 72, 40, 4
TEXT_WIDTH, IMAGE_WIDTH = 6, 10
TARGETS = ("MOS_quality", "MOS_alignment")
GENERATORS = ("DALLE", "MJ", "SD")
IMAGE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: by formula", "pooled")
TEXT = Signature("text", "bert", "bert", "cd" * 32, "wordpiece", "masked-mean")
SCORE = Signature(
    "score", "pickscore", "transformers CLIPModel", "ef" * 32, "native: by formula", "logit: of both"
)


def manifest() -> Manifest:
    """72 rows of 18 prompts, two images of a prompt by each of two generators; 40 rows have an image prompt.

    The scores follow the features of image and prompt and the generator, so that every head has something to
    learn and no choice between two options is a close one.
    """
    table = pd.DataFrame([_row(number) for number in range(ROWS)]).assign(dataset="golden")
    for column in ("image", "prompt", "image_prompt"):
        table[f"{column}_key"] = table[column].map(_key)
    scores = _scores(table)
    for number, target in enumerate(TARGETS):
        table[target] = scores[:, number]
    return Manifest("golden", (Path("golden.csv"),), table, TARGETS)


def _row(number: int) -> dict[str, object]:
    prompt, guided = number // ROWS_PER_PROMPT, number < WITH_IMAGE_PROMPT
    return {
        "row": number,
        "name": f"{number:02d}.png",
        "image": f"image {number}",
        "prompt": f"prompt {prompt}",
        "image_prompt": f"image prompt {prompt}" if guided else "",
        "generator": GENERATORS[(number // 2 % 2 + prompt) % 3],
        "group": f"group {prompt:02d}",
        "benchmark": "I2I" if guided else "T2I",
        "position": number if guided else number - WITH_IMAGE_PROMPT,
    }


def _key(text: object) -> str:
    return text_key(str(text)).hex() if text else ""


def vectors(texts: pd.Series, width: int) -> np.ndarray:
    """A vector (N, width) for each text, equal for equal texts, float32 as stores hold them."""
    out = np.empty((len(texts), width), np.float32)
    for number, text in enumerate(texts):
        out[number] = np.random.default_rng(list(str(text).encode())).normal(size=width)
    return out


def _scores(table: pd.DataFrame) -> np.ndarray:
    random = np.random.default_rng(17)
    image, text = vectors(table["image"], IMAGE_WIDTH), vectors(table["prompt"], TEXT_WIDTH)
    generator = table["generator"].map(GENERATORS.index).to_numpy()
    scores = np.empty((len(table), len(TARGETS)))
    for number in range(len(TARGETS)):
        known = image @ random.normal(size=IMAGE_WIDTH) + text @ random.normal(size=TEXT_WIDTH)
        scores[:, number] = 2.5 + 0.2 * known + 0.3 * generator + 0.2 * random.normal(size=len(table))
    return scores


def write_stores(root: Path) -> tuple[FeatureStore, FeatureStore, FeatureStore]:
    """Stores of the images' and the prompts' features, and of the scores of a zero-shot scorer."""
    rows = manifest()
    table = rows.table
    guided = table["image_prompt"] != ""
    pictures = pd.concat([table["image"], table["image_prompt"][guided]]).drop_duplicates()
    prompts = table["prompt"].drop_duplicates()
    pairs = key_array(map(bytes.fromhex, rows.pair_keys()))
    return (
        write_store(root, IMAGE, key_array(map(text_key, pictures)), vectors(pictures, IMAGE_WIDTH)),
        write_store(root, TEXT, key_array(map(text_key, prompts)), vectors(prompts, TEXT_WIDTH)),
        write_store(root, SCORE, pairs, zero_shot_scores()[:, None]),
    )


def write_store(root: Path, signature: Signature, keys: np.ndarray, features: np.ndarray) -> FeatureStore:
    """Write the features (N, …) of keys (N, 32) into a new store."""
    store = FeatureStore.create(root, signature, {})
    with store.writer() as writer:
        writer.add(keys, features)
    return FeatureStore.open(store.path)


def zero_shot_scores() -> np.ndarray:
    """Scores (N,) that know something of the first target, in other units."""
    noise = np.random.default_rng(18).normal(size=ROWS)
    return 20 + 3 * manifest().table[TARGETS[0]].to_numpy() + noise


def features(root: Path, benchmark: str = "all") -> FeatureSet:
    """Features and scores of the rows of a benchmark, read from stores under `root`."""
    images, texts, _ = write_stores(root)
    return load_features(manifest().select(benchmark), stores_of(images, texts))
