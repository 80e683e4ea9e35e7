"""Pretrained weights: the files, and the hashes that identify them."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tier4k.cache.errors import TierError
from tier4k.cache.keys import file_key
from tier4k.cache.text import first_few, read_text
from tier4k.cache.zip_size import why_too_large
from tier4k.extract.weights.unusable import is_pointer, pointer_remedy, why_unusable

PRETRAINED = "pretrained"  # name of the folder in which weights are searched

IMAGE_SUFFIXES = (".pth", ".safetensors", ".npz", ".bin", ".pt", ".ckpt")

TEXT_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

INDEX_SUFFIX = ".index.json"  # of weights in several files, as Hugging Face saves large models

SHOWN_NAMES = 3  # of missing files, in a message

# Weights in a folder of Hugging Face, in the order in which `transformers` looks for them.
FOLDER_WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX_SUFFIX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX_SUFFIX}",
)

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
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

# Files in a folder of Hugging Face that describe the preprocessing of images.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

IMAGE_FILES = (*MODEL_FILES, *PROCESSOR_FILES)

# Patterns of the files in a folder of Hugging Face besides weights, also of sentence-transformers.
FOLDER_FILES = (
    "config.json",
    *TOKENIZER_PARTS,
    *PROCESSOR_FILES,
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "*_*/config.json",
    "*_Dense/model.safetensors",
    "*_Dense/pytorch_model.bin",
)

# Patterns of the weights in a folder of Hugging Face.
SAFETENSORS = ("model.safetensors", "model-*.safetensors", f"model.safetensors{INDEX_SUFFIX}")

PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin", f"pytorch_model.bin{INDEX_SUFFIX}")

SEEN_IMAGES = "tier4k.seen_images"  # in the metadata of a safetensors file: keys of images, with spaces


class WeightsError(TierError):
    """Weights are missing, damaged, unsafe, or of another network."""


@dataclass(frozen=True)
class Weights:
    """Weights on this machine.

    Attributes:
        path: A file, an index of sharded weights, or a folder of Hugging Face.
        sha256: SHA-256, hexadecimal, of the file; for an index or a folder, of all files that can change a
            feature.
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


def is_index(path: Path) -> bool:
    """Return whether a file is the index of sharded weights, by its name."""
    return path.name.endswith(INDEX_SUFFIX)


def shard_of_tensor(index: Path) -> dict[str, str]:
    """Read an index: the name of the file of every tensor.

    Raises:
        WeightsError: The file is no index, or names files outside of its folder.
    """
    try:
        files = json.loads(read_text(index))["weight_map"]
        if not files or not all(is_file_name(name) for name in files.values()):
            raise ValueError("its 'weight_map' does not name files of the same folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{index} is not an index of sharded weights ({error}): download the file again"
        ) from error
    return files


def shard_paths(index: Path) -> list[Path]:
    """Return the files of an index, each once, sorted by name.

    Raises:
        WeightsError: The index is damaged, or a file is missing.
    """
    names = sorted(set(shard_of_tensor(index).values()))
    paths = [index.parent / name for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise WeightsError(
            f"{index} needs {len(paths)} files, of which {first_few(missing, SHOWN_NAMES)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: download every file into {index.parent}"
        )
    return paths


def is_file_name(name: object) -> bool:
    """Return whether a text names a file in its own folder on every system, and no index of such files."""
    if not isinstance(name, str) or name in ("", ".", "..") or name.endswith(INDEX_SUFFIX):
        return False
    return PurePosixPath(name).name == name and PureWindowsPath(name).name == name


def file_weights(path: Path, source: str) -> Weights:
    """Return the weights of one file, or of the shards of an index, or those in a folder of Hugging Face.

    A name such as `resnet18-f37072fd.pth` contains the beginning of the file's hash, as on torchvision's
    download pages. This part of the hash is compared.

    Raises:
        WeightsError: The file is missing, is something else than weights, or its hash differs from its name.
    """
    if path.is_dir():
        path = folder_weights_file(path, source)
    if not path.is_file():
        raise WeightsError(f"{source}: there is no weights file {path}")
    parts = weight_parts(path)
    if len(parts) > 1:
        return Weights(path, _digest(parts), source)
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
        files: Names of the files that are hashed: `TEXT_FILES`, `MODEL_FILES` or `TOKENIZER_PARTS`. Of the
            weights among them, only the file that the loader reads is hashed, or its index and shards.

    Raises:
        WeightsError: A required file is missing, or a file is something else than it should be.
    """
    if not path.is_dir():
        remedy = "pass the folder of this file" if path.is_file() else "correct the path"
        raise WeightsError(f"{source}: there is no folder {path}: {remedy}")
    _require_files(path, source, files)
    present: list[Path] = []
    for name in files:
        if name == TEXT_WEIGHT_FILES[0]:
            present.extend(weight_parts(folder_weights_file(path, source)))
        elif name not in FOLDER_WEIGHTS and (path / name).is_file():
            present.append(_require_no_pointer(path / name))
    return Weights(path, _digest(present), source)


def folder_weights_file(folder: Path, source: str) -> Path:
    """Return the file, maybe an index, from which the loader reads the weights of a Hugging Face folder.

    Raises:
        WeightsError: The folder has none.
    """
    for name in FOLDER_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise _lacks(folder, source, TEXT_WEIGHT_FILES)


def weight_parts(file: Path) -> list[Path]:
    """Return the files that weights consist of: an index with its shards, or one file.

    Raises:
        WeightsError: A shard is missing, or a file is something else than weights.
    """
    if not is_index(file):
        return [_require_usable(file)]
    return [file, *map(_require_usable, shard_paths(_require_no_pointer(file)))]


def _require_usable(path: Path) -> Path:
    if reason := why_unusable(path):
        raise WeightsError(reason)
    if reason := why_too_large(path):
        raise WeightsError(f"{path} is not read: {reason}, as no weights do; download the file again")
    return path


def _require_no_pointer(path: Path) -> Path:
    if is_pointer(path):
        raise WeightsError(pointer_remedy(path))
    return path


def _digest(files: Iterable[Path]) -> str:
    """Return the SHA-256 of names and contents of several files, hexadecimal."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\n".encode() + file_key(path))
    return digest.hexdigest()


def _require_files(
    path: Path,
    source: str,
    files: Sequence[str],
) -> None:
    """Refuse a folder that has none of the alternatives of a required file."""
    for alternatives in (("config.json",), TOKENIZER_FILES):
        required = set(alternatives) <= set(files)
        if required and not any((path / name).is_file() for name in alternatives):
            raise _lacks(path, source, alternatives)


def _lacks(
    folder: Path,
    source: str,
    alternatives: Sequence[str],
) -> WeightsError:
    start = "" if source == str(folder) else f"{source}: "
    return WeightsError(
        f"{start}the folder {folder} lacks {' or '.join(alternatives)}: download the whole folder of the "
        "model, or pass another folder"
    )


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
            path = folder / PRETRAINED / name
            if path.is_file():
                return path
    return None
