"""Refuse test images that finetuned encoders have seen in training."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder, TextEncoder
from tier4k.extract.encoders.from_signature import split_run_mark
from tier4k.extract.pipeline.seen_images import seen_file
from tier4k.heads.data.splits import Split
from tier4k.heads.results.json_files import read_json
from tier4k.heads.results.layout import described


class FinetunedError(TierError):
    """A run has no such finetuned encoders, or their features must not be used."""


def require_unseen(
    manifest: Manifest,
    splits: Sequence[Split],
    *sources: FeatureStore | ImageEncoder | TextEncoder,
) -> None:
    """Refuse test rows that encoders were finetuned on: those of stores, or those that training starts from.

    A test image that is also in the training part is not refused: it is a leak of the split and is reported
    with the metrics.

    Raises:
        FinetunedError: There are test rows that the encoders were finetuned on, or the record of seen images
            is missing or damaged.
        WeightsError: The weights of an encoder are damaged.
    """
    seen: set[str] = set()
    for source in sources:
        if isinstance(source, FeatureStore):
            seen.update(seen_by_weights(source.path.parent, source.signature))
        else:
            seen.update(source.weights.seen_images())
    _require_no_test_rows(manifest, splits, seen)


def seen_by_weights(root: Path, signature: Signature) -> tuple[str, ...]:
    """Return the keys (hexadecimal) of the images that the encoder of a store was finetuned on.

    The record is found by the hash of the encoder's weights, whatever the encoder's name.

    Args:
        root: Folder of stores.
        signature: Signature of the store.

    Raises:
        FinetunedError: The record is missing although the encoder's name is that of a finetuned one, or it is
            damaged.
    """
    path = seen_file(root, signature.weights)
    if not split_run_mark(signature.encoder)[1] and not path.exists():
        return ()
    try:
        return read_json(path, tuple[str, ...])
    except (OSError, ValueError, RecursionError) as error:
        raise FinetunedError(
            f"{path} cannot be read ({described(error)}), so the images that the encoder of "
            f"{signature.folder_name} was finetuned on are unknown: run `tier extract DATA --finetuned RUN` "
            "again"
        ) from error


def _require_no_test_rows(
    manifest: Manifest,
    splits: Sequence[Split],
    seen: Collection[str],
) -> None:
    images = manifest.table["image_key"]
    for split in splits:
        fitted_images = images.iloc[np.concatenate([split.train, split.validation])]
        test_images = images.iloc[split.test]
        count = int((test_images.isin(seen) & ~test_images.isin(fitted_images)).sum())
        if count:
            raise FinetunedError(
                f"the encoders were finetuned on {count} of the {len(split.test)} test images of the split "
                f"with seed {split.seed}, so the metrics would be far too good: pass the --benchmark of the "
                "run RUN that finetuned the encoders, and --split RUN/splits.json:N with the repeat N of the "
                "encoders"
            )
