"""Weights from the Hugging Face hub or its local cache."""

import os
import re
from collections.abc import Sequence
from pathlib import Path


def from_hub(
    repository: str,
    files: Sequence[str],
    cached_only: bool = False,
) -> Path | None:
    """Return a folder with files of a repository, from the network or the local cache.

    Args:
        repository: Name on the hub; "" and absolute paths name no repository.
        files: Names of the files.
        cached_only: Whether only the local cache is searched.

    Returns:
        The folder; None if neither place has the files.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not repository or os.path.isabs(repository):
        return None
    try:
        folder = snapshot_download(
            repository,
            allow_patterns=list(files),
            etag_timeout=5,
            local_files_only=cached_only,
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None
    return Path(folder)


def blob_digest(path: Path) -> str | None:
    """Return the SHA-256 in the name of a large file in the hub's cache; None for every other file.

    A file of the cache is a link to a blob, which is named by the hash that the hub states.
    """
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name
    return None
