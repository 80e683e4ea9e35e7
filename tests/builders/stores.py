"""Stores whose features follow from their keys, and processes that write them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.keys import key_array, text_key
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.cache.writer import SHARD_ROWS
from tier4k.heads.data.stores import FeatureStores

SIGNATURE = Signature("image", "resnet18", "resnet18", "ab" * 32, "reference: 224", "pooled")
REPOSITORY = Path(__file__).parents[2]


def create_store(root: Path) -> FeatureStore:
    """Return the store of SIGNATURE under `root`."""
    return FeatureStore.create(root, SIGNATURE, {})


def stores_of(
    images: FeatureStore,
    texts: FeatureStore,
    *zero_shot: FeatureStore,
) -> FeatureStores:
    """Return the stores of one image encoder, one text encoder, and scorers."""
    return FeatureStores.of([images], [texts], zero_shot)


def text_keys(*texts: str) -> np.ndarray:
    """Return the keys (N, 32) of texts."""
    return key_array(map(text_key, texts))


def number_keys(numbers: Sequence[int]) -> np.ndarray:
    """Return the keys (N, 32) of numbers, as texts."""
    return text_keys(*map(str, numbers))


def hexadecimal_keys(store: FeatureStore) -> set[str]:
    """Return the distinct keys of a store, each as 64 hexadecimal digits."""
    return {bytes(key).hex() for key in store.keys}


def file_contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start_program(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python program in the repository, and wait until it prints "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def let_run(process: subprocess.Popen[str]) -> None:
    """Let a started program continue, which reads one line after "ready"."""
    process.stdin.write("go\n")
    process.stdin.flush()


def features_of(keys: np.ndarray) -> np.ndarray:
    """Return features (N, 2, 3) that follow from keys (N, 32)."""
    return keys[:, :6].astype(np.float32).reshape(-1, 2, 3)


def write_rows(store: FeatureStore, numbers: Sequence[int], shard_rows: int = SHARD_ROWS) -> None:
    """Add the keys of numbers and their features to a store, one row at a time."""
    with store.writer(shard_rows) as writer:
        for number in numbers:
            keys = number_keys([number])
            writer.add(keys, features_of(keys))


def assert_features_follow_from_keys(store: FeatureStore) -> None:
    """Compare every stored feature with its key."""
    keys = store.keys
    np.testing.assert_array_equal(store.read(keys), features_of(keys))
