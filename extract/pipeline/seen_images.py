"""Record beside the stores which images the weights of finetuned encoders have seen in training."""

import json
from pathlib import Path

from tier4k.cache.atomic import publish_text
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.weights.files import Weights

SEEN_FOLDER = "finetuned"  # name of a folder inside the folder of stores


def seen_file(root: Path, sha256: str) -> Path:
    """Return the path of the record of weights, by their hash, beside the stores in `root`."""
    return root / SEEN_FOLDER / f"{sha256}.json"


def record_seen_images(root: Path, weights: Weights) -> None:
    """Record which images weights have seen; weights that were not finetuned leave no record.

    Args:
        root: Folder of stores.
        weights: Weights of an encoder that fills a store there.

    Raises:
        WeightsError: The weights are damaged.
        StoreError: The record cannot be written.
    """
    images = weights.seen_images()
    if images:
        with explain_write_errors(root):
            publish_text(seen_file(root, weights.sha256), json.dumps(images, indent=1) + "\n")
