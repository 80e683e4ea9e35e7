"""Record the images that encoders were finetuned on beside the stores, and refuse them as test images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.atomic import publish
from tier4k.cache.errors import TierError
from tier4k.cache.store import FeatureStore
from tier4k.cache.write_errors import explain_write_errors
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import RUN_MARK
from tier4k.heads.data.splits import Split
from tier4k.heads.results.json_files import read_json, write_json
from tier4k.heads.results.layout import described

SEEN_FOLDER = "finetuned"  # name of a folder inside the folder of stores


class FinetunedError(TierError):
    """A run has no such finetuned encoders, or their features must not be used."""


def record_seen(
    features: Path,
    encoder: ImageEncoder | TextEncoder,
    seen: Sequence[str],
) -> None:
    """Record beside the stores which images an encoder has seen, for `require_unseen`.

    Args:
        features: Folder of stores.
        encoder: The finetuned encoder.
        seen: Keys (hexadecimal) of the images.

    Raises:
        StoreError: The record cannot be written.
    """
    path = features / SEEN_FOLDER / f"{encoder.signature.weights}.json"
    with explain_write_errors(features):
        publish(path, lambda temporary: write_json(temporary, list(seen)))


def require_unseen(manifest: Manifest, splits: Sequence[Split], *stores: FeatureStore) -> None:
    """Refuse test rows that the encoders of a store were finetuned on.

    An image that is also in the training part, under another prompt, is a leak of the split and is reported
    with the metrics.

    Raises:
        FinetunedError: There are test rows that the encoders were finetuned on, or the record of seen images
            is missing or damaged.
    """
    seen = set(_seen_by_encoders(stores))
    images = manifest.table["image_key"]
    for split in splits:
        fitted_images = images.iloc[np.concatenate([split.train, split.validation])]
        test_images = images.iloc[split.test]
        count = int((test_images.isin(seen) & ~test_images.isin(fitted_images)).sum())
        if count:
            raise FinetunedError(
                f"the encoders of these features were finetuned on {count} of the {len(split.test)} test "
                f"images of the split with seed {split.seed}, so the metrics would be worth nothing: "
                "pass the --benchmark of the run RUN that finetuned the encoders, and --split "
                "RUN/splits.json:N with the repeat N of the encoders"
            )


def _seen_by_encoders(stores: Sequence[FeatureStore]) -> Iterator[str]:
    for store in stores:
        if RUN_MARK not in store.signature.encoder:
            continue
        path = store.path.parent / SEEN_FOLDER / f"{store.signature.weights}.json"
        try:
            yield from read_json(path, tuple[str, ...])
        except (OSError, ValueError, RecursionError) as error:
            raise FinetunedError(
                f"{path} cannot be read ({described(error)}), so the images that the encoder of "
                f"{store.path.name} was finetuned on are unknown: run `tier extract DATA --finetuned RUN` "
                "again"
            ) from error
