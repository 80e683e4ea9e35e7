"""Weights from the Hugging Face hub or its local cache."""

import os
from collections.abc import Sequence
from pathlib import Path


def from_hub(repository: str, files: Sequence[str]) -> Path | None:
    """Return a folder with files of a repository, from the network or the local cache.

    Args:
        repository: Name on the hub; "" and absolute paths name no repository.
        files: Names of the files.

    Returns:
        The folder; None if neither place has the files.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not repository or os.path.isabs(repository):
        return None
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), etag_timeout=5))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None
