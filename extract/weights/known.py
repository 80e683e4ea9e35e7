"""Published weights known by name: the files, the licence, and the places where they are searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.weights.files import (
    FOLDER_FILES,
    FOLDER_WEIGHTS,
    IMAGE_FILES,
    IMAGE_SUFFIXES,
    PICKLED,
    PRETRAINED,
    PROCESSOR_FILES,
    SAFETENSORS,
    TEXT_FILES,
    TOKENIZER_FILES,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)
from tier4k.extract.weights.hub import from_hub
from tier4k.extract.weights.package import Package
from tier4k.extract.weights.wheel import Wheel

HUB = "https://huggingface.co"
HUB_FILE = "model.safetensors"  # timm's repositories keep the weights in this file
# What a folder of Hugging Face must hold besides config.json and weights, by stream.
OTHER_FILES = {"image": "preprocessor_config.json", "text": "vocab.txt or tokenizer.json"}


@dataclass(frozen=True)
class FoundWeights:
    """Weights that were found on this machine and not read yet.

    Attributes:
        path: A file, or a folder of Hugging Face.
        source: Origin of the weights, for messages.
    """

    path: Path
    source: str

    def weights(self) -> Weights:
        """Read and hash the weights.

        Raises:
            WeightsError: A file is missing, or its hash differs from its name.
        """
        if not self.path.is_dir():
            return file_weights(self.path, self.source)
        has_tokenizer = any((self.path / name).is_file() for name in TOKENIZER_FILES)
        has_processor = any((self.path / name).is_file() for name in PROCESSOR_FILES)
        files = IMAGE_FILES if has_processor and not has_tokenizer else TEXT_FILES
        return folder_weights(self.path, self.source, files)


@dataclass(frozen=True)
class KnownWeights:
    """Published weights of an encoder: a file, or a folder of Hugging Face.

    Attributes:
        name: Name in `tier weights`.
        licence: The licence, and who declares it.
        files: File names searched in `pretrained/`, in this order; "resnet18.*" stands for every suffix of
            weights. Empty for a folder.
        folder: Name or path of a folder of Hugging Face, searched beside `pretrained/`; "" for a file.
        hub: Hugging Face repository with the same weights; "" for none.
        page: Web page or command for the user, shown when the weights are missing.
        url: Address of the file itself; its last part is the file's name and contains the file's hash.
        package: Python package that contains the weights.
        wheel: Wheel of the package index whose weights are converted.
        stream: What the encoder encodes, for messages: "image" or "text".
    """

    name: str
    licence: str
    files: tuple[str, ...] = ()
    folder: str = ""
    hub: str = ""
    page: str = ""
    url: str = ""
    package: Package | None = None
    wheel: Wheel | None = None
    stream: str = "image"

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names of `files`, in their order, with every suffix of a pattern."""
        names: list[str] = []
        for pattern in self.files:
            stem = pattern.removesuffix(".*")
            if stem == pattern:
                names.append(pattern)
            else:
                names.extend(stem + suffix for suffix in IMAGE_SUFFIXES)
        return tuple(names)

    @property
    def usual_folder(self) -> Path:
        """The folder below the working directory in which the weights are searched first."""
        return Path() if self.folder else Path(PRETRAINED)

    def note(self, sha256: str) -> str:
        """Return what was done to weights with a hash, such as "weights rounded to 8 bits"; "" for nothing.

        Args:
            sha256: Hash of the weights, hexadecimal.
        """
        if self.wheel and sha256 == self.wheel.file_sha256:
            return self.wheel.note
        return ""

    def local(self, folders: Sequence[Path]) -> FoundWeights | None:
        """Return the weights in the folders or in the installed package; None if there are none.

        Args:
            folders: Folders that may contain `pretrained/` or the encoder's folder.

        Raises:
            WeightsError: The hash of the package's file differs from the pinned hash.
        """
        if path := self.in_folders(folders):
            return FoundWeights(path, str(path))
        return self.in_package()

    def in_folders(self, folders: Sequence[Path]) -> Path | None:
        """Return the path of the weights in the folders; None if there are none."""
        if not self.folder:
            return find_file(self.file_names, folders)
        for folder in folders:
            if (folder / self.folder).is_dir():
                return folder / self.folder
        return None

    def in_package(self) -> FoundWeights | None:
        """Return the weights in the installed package; None if there is none.

        Raises:
            WeightsError: The hash of the package's file differs from the pinned hash.
        """
        if self.package and (path := self.package.find()):
            return FoundWeights(path, f"package {self.package.module}")
        return None

    def on_hub(self, cached_only: bool = False) -> FoundWeights | None:
        """Return the weights of the hub, downloaded into its cache.

        Args:
            cached_only: Whether only the cache is searched, without the network.

        Returns:
            The weights; None if neither the hub nor its cache gives them.
        """
        if self.folder:
            folder = self._folder_on_hub(cached_only)
            return FoundWeights(folder, f"hub {self.hub}") if folder else None
        folder = from_hub(self.hub, (HUB_FILE,), cached_only)
        # Offline, the cache may hold only other files of the repository.
        if folder is None or not (folder / HUB_FILE).is_file():
            return None
        return FoundWeights(folder / HUB_FILE, f"hub {self.hub}")

    def _folder_on_hub(self, cached_only: bool) -> Path | None:
        """Return the folder in the hub's cache, with pickled weights only if there are no others."""
        for weights in (SAFETENSORS, PICKLED):
            folder = from_hub(self.hub, (*FOLDER_FILES, *weights), cached_only)
            if folder is None:
                return None
            # Offline, the cache may hold only other files of the repository, such as a tokenizer.
            if any((folder / name).is_file() for name in FOLDER_WEIGHTS):
                return folder
        return None

    def find(self, encoder: str, folders: Sequence[Path]) -> FoundWeights:
        """Find the weights in folders, in the installed package, or on the hub.

        Args:
            encoder: Name of the encoder, for messages.
            folders: Folders that may contain `pretrained/` or the encoder's folder.

        Raises:
            WeightsError: The weights are nowhere or damaged; the message names their source and where to put
                them.
        """
        found = self.local(folders) or self.on_hub()
        if found is None:
            raise self._missing_error(encoder, folders[0] if folders else Path.cwd())
        return found

    def _missing_error(self, encoder: str, folder: Path) -> WeightsError:
        if Path(self.folder).is_absolute():
            return WeightsError(
                f"there is no folder {self.folder}: correct the path, or pass --{self.stream}-weights DIR"
            )
        start = (
            f"there are no weights for the {self.stream} encoder {encoder}: run `tier weights get {encoder}`"
        )
        if self.folder:
            return WeightsError(
                f"{start}, put a folder {self.folder}/ (config.json, {OTHER_FILES[self.stream]}, and "
                f"model.safetensors or pytorch_model.bin) into {folder} or beside the data, or pass "
                f"--{self.stream}-weights DIR.\nDownload the folder from: {self.page}"
            )
        file = self.files[0].replace(".*", ".pth")
        return WeightsError(
            f"{start}, put {file} into {folder}/{PRETRAINED}/ (or a {PRETRAINED}/ folder beside the data), "
            f"or pass --image-weights FILE.\nDownload the file from: {self.page}"
        )


def hugging_face_weights(
    encoder: str,
    repository: str,
    stream: str,
) -> KnownWeights:
    """Return the weights of an encoder `hf:NAME_OR_PATH`.

    Args:
        encoder: Name of the encoder.
        repository: Path of the folder, or name on the hub.
        stream: "image" or "text", for messages.
    """
    return KnownWeights(
        name=encoder,
        licence="declared by its authors",
        folder=repository,
        hub=repository,
        page=f"{HUB}/{repository}",
        stream=stream,
    )
