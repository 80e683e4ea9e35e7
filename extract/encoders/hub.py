"""Weights from the local cache of the Hugging Face hub."""

import os
from collections.abc import Sequence
from pathlib import Path


def from_hub(repository: str, files: Sequence[str]) -> Path | None:
    """A folder with the repository's files, from the local hub cache or the network; None where neither has them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not repository or os.path.isabs(repository):
        return None
    try:
        return Path(snapshot_download(repository, allow_patterns=list(files), etag_timeout=5))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
        return None
