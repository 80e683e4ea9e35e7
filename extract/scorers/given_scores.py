"""A store of scores that another program computed, used like the stores of scores that tier4k computes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tier4k.cache.keys import sortable
from tier4k.cache.signature import GIVEN_SCORES, Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.inputs.dataset import DatasetInputs
from tier4k.extract.inputs.record import write_record
from tier4k.extract.scorers.presets import SCORERS

# These texts are hashed in signatures: they are data.
COLUMN: Final = "column "
NEGATED: Final = "negated: "
SCORE: Final = "score: "

RESERVED: Final = ("image", "text", "score")  # names of signatures in the configuration of a run

LONGEST_NAME: Final = 100  # bytes of UTF-8; the name is part of the name of a folder


@dataclass(frozen=True)
class GivenScores:
    """Scores that another program computed, by pair of image and prompt. Make them with `of`.

    Attributes:
        signature: Signature of the scores; other scores have another signature.
        keys: (P, 32) uint8 keys of the pairs with a score, distinct and sorted.
        scores: (P,) float32 scores of the pairs; higher is better.
    """

    signature: Signature
    keys: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(
        cls,
        name: str,
        column: str,
        pairs: np.ndarray,
        values: np.ndarray,
        lower_is_better: bool = False,
    ) -> "GivenScores":
        """Return the scores of the rows that have one.

        Args:
            name: Name of the metric.
            column: Column of the file with the scores.
            pairs: (N, 32) keys of the pairs of image and prompt of all rows.
            values: (N,) float32 scores, NaN for a row without one.
            lower_is_better: Whether the sign is changed, so that higher is better.

        Raises:
            DataError: As for `require_name`.
        """
        require_name(name)
        has_score = np.isfinite(values)
        order = np.unique(sortable(pairs[has_score]), return_index=True)[1]
        keys = pairs[has_score][order]
        scores = values[has_score][order].astype(np.float32) * np.float32(-1 if lower_is_better else 1)
        digest = hashlib.sha256(keys.tobytes() + scores.astype("<f4").tobytes()).hexdigest()
        feature = f"{NEGATED if lower_is_better else SCORE}{COLUMN}{column}"
        signature = Signature("score", name, GIVEN_SCORES, digest, "given: by the name of the image", feature)
        return cls(signature, keys, scores)

    def store(self, root: Path, dataset: DatasetInputs) -> FeatureStore:
        """Write the scores that their store under `root` does not contain, and the record of the data set.

        Raises:
            StoreError: The store cannot be written.
        """
        opened = FeatureStore.create(root, self.signature, {})
        is_new = ~opened.holds(self.keys)
        if is_new.any():
            with opened.writer() as writer:
                writer.add(self.keys[is_new], self.scores[is_new, None])
        write_record(root, dataset, pairs=dataset.pairs)
        return FeatureStore.open(opened.path)


def is_listable(name: str) -> bool:
    """Return whether lists such as "imagereward,MUSIQ" and names of folders can contain a name of scores."""
    is_short = 0 < len(name.encode()) <= LONGEST_NAME
    return is_short and name.isprintable() and "," not in name and name == name.strip()


def require_name(name: str) -> None:
    """Refuse a name of scores that lists cannot contain, or that tier4k uses itself.

    Raises:
        DataError: The name is such a name.
    """
    if not is_listable(name):
        raise DataError(
            f"--name {name[:LONGEST_NAME]!r} is empty, is longer than {LONGEST_NAME} bytes or one line, or "
            "has a comma or spaces at its ends: pass a name such as MUSIQ"
        )
    if name in SCORERS or name.startswith("pyiqa:") or name in RESERVED:
        raise DataError(
            f"--name {name} is used by tier4k itself: pass another name, such as {name}-elsewhere"
        )


def is_given(signature: Signature) -> bool:
    """Return whether the scores of a signature come from another program."""
    return signature.architecture == GIVEN_SCORES


def given_column(signature: Signature) -> str:
    """Return the column of the file from which given scores were read."""
    return signature.feature.partition(COLUMN)[2]


def is_negated(signature: Signature) -> bool:
    """Return whether the sign of the scores was changed, because lower is better in the metric."""
    return signature.feature.startswith(NEGATED)
