"""Weights from the Hugging Face hub or its local cache."""

import os
from collections.abc import Sequence
from pathlib import Path


def from_hub(repository: str, files: Sequence[str]) -> Path | None:
    """Return a folder with files of a repository, from the local cache or the network; None where neither has
    them.

    Args:
        repository: Name on the hub; "" and absolute paths are none.
        files: Names of the files.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not repository or os.path.isabs(repository):
        return None
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), etag_timeout=5))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None
