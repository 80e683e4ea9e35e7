"""Folders of Hugging Face with an image encoder: where they are searched."""

from collections.abc import Sequence
from pathlib import Path

from tier4k.extract.weights.files import (
    INDEX_SUFFIX,
    MODEL_FILES,
    PROCESSOR_FILES,
    Weights,
    WeightsError,
    folder_weights,
)
from tier4k.extract.weights.hub import from_hub

CONFIG_FILES = ("config.json", *PROCESSOR_FILES)
SAFETENSORS = ("model.safetensors", "model-*.safetensors", f"model.safetensors{INDEX_SUFFIX}")


def find_image_folder(
    repository: str,
    user_folder: Path | None = None,
    folders: Sequence[Path] = (),
) -> Weights:
    """Find the folder of an image encoder and hash its weights.

    Args:
        repository: Path of the folder, or name on the hub.
        user_folder: A folder that the user passes; if set, no other place is searched.
        folders: Folders that a relative path may start from.

    Raises:
        WeightsError: The folder is nowhere, or lacks a file; the message names its source and where to put
            it.
    """
    if user_folder is not None:
        return folder_weights(user_folder, "--image-weights", MODEL_FILES)
    for folder in folders:
        path = folder / repository
        if path.is_dir():
            return folder_weights(path, str(path), MODEL_FILES)
    if hub_folder := _on_hub(repository):
        return folder_weights(hub_folder, f"hub {repository}", MODEL_FILES)
    if Path(repository).is_absolute():
        raise WeightsError(f"there is no folder {repository}: correct the path, or pass --image-weights DIR")
    folder = folders[0] if folders else Path.cwd()
    raise WeightsError(
        f"there is no image encoder hf:{repository}: put a folder {repository}/ (config.json, "
        f"preprocessor_config.json and model.safetensors) into {folder} or beside the data, or pass "
        f"--image-weights DIR.\nDownload the folder from: https://huggingface.co/{repository}"
    )


def _on_hub(repository: str) -> Path | None:
    """Return the repository's folder in the hub's cache, with pickled weights only if there are no others."""
    folder = from_hub(repository, (*CONFIG_FILES, *SAFETENSORS))
    if folder is None or any(folder.glob("*.safetensors")):
        return folder
    return from_hub(repository, (*CONFIG_FILES, *MODEL_FILES))
