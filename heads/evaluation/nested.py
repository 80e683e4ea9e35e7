"""Nested selection: each repeat chooses among candidates without its test rows, then the choice is tested.

A test value is optimistic where its test rows had a part in the choice (Cawley & Talbot, Journal of Machine
Learning Research 11, 2010). Here the candidates of a repeat are compared on its selection part, which is cut
out of its training rows, and the choice is fitted again on all of its training rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import Fused
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import Split
from tier4k.heads.evaluation.alignment import scored_rows
from tier4k.heads.evaluation.run_trials import predict_test_rows
from tier4k.heads.metrics.correlation import srcc


@dataclass(frozen=True)
class FusedCandidate:
    """A head with its options, and the fused vectors that it learns from.

    Attributes:
        fused: Fused vectors of all rows, and their streams.
        estimator: Name of the head.
        head: Every option of the head, as `tier4k.heads.regressors.registry.resolve_options` returns them.
    """

    fused: Fused
    estimator: str
    head: dict[str, Any]

    @property
    def validation(self) -> float:
        """Share of the training part that the head holds out."""
        return self.head.get("validation_fraction", 0.0)


@dataclass(frozen=True)
class NestedResult:
    """What each of R repeats chose among C candidates, and the test SRCC of the choice.

    Attributes:
        selection_srcc: (C, R) SRCC of every candidate on the selection part of every repeat.
        chosen: (R,) number of the candidate that each repeat chose.
        test_srcc: (R,) SRCC of the chosen candidate on the test part.
    """

    selection_srcc: np.ndarray
    chosen: np.ndarray
    test_srcc: np.ndarray


def choose(selection_srcc: np.ndarray) -> np.ndarray:
    """Return for each of R repeats the number (R,) of the candidate with the highest selection SRCC.

    Args:
        selection_srcc: (C, R) SRCC of C candidates. NaN is never chosen, unless all are NaN. Among equal
            candidates, the first is chosen.
    """
    comparable = np.where(np.isnan(selection_srcc), -np.inf, selection_srcc)
    return comparable.argmax(axis=0)


def nested_selection(
    features: FeatureSet,
    candidates: Sequence[FusedCandidate],
    target: str,
    request: SplitRequest,
    device: str = "cpu",
) -> NestedResult:
    """Choose among candidates in memory, as `tier4k.heads.sweeps.search.search` does with runs on disk.

    Args:
        features: Scores and prompts of the rows.
        candidates: The candidates, in the order in which ties are resolved.
        target: Name of the target.
        request: The splits whose test parts the choices are evaluated on.
        device: Device on which networks are fitted, by torch's name; other heads are fitted on the CPU.

    Raises:
        SplitError: Too few rows remain in a part, or too few of them have a score.
        HeadError: An option of a candidate is not valid.
    """
    inner = replace(request, selection=True)

    @cache  # many candidates share their splits
    def splits_of(request: SplitRequest, validation: float) -> list[Split]:
        """Return the splits for a share of validation rows."""
        return request.splits(features, validation)

    rows = []
    for candidate in candidates:
        rows.append(_srcc(features, candidate, target, splits_of(inner, candidate.validation), device))
    selection_srcc = np.array(rows)
    chosen = choose(selection_srcc)
    test_srcc = np.empty(len(chosen))
    for number in np.unique(chosen):
        candidate = candidates[number]
        repeats = np.flatnonzero(chosen == number)
        splits = splits_of(request, candidate.validation)
        test_srcc[repeats] = _srcc(
            features, candidate, target, [splits[repeat] for repeat in repeats], device
        )
    return NestedResult(selection_srcc, chosen, test_srcc)


def _srcc(
    features: FeatureSet,
    candidate: FusedCandidate,
    target: str,
    splits: Sequence[Split],
    device: str,
) -> list[float]:
    """Return the SRCC of a candidate on the test part of each split."""
    predictions = predict_test_rows(
        features, candidate.fused, target, splits, candidate.estimator, candidate.head, device
    )
    values = []
    for split, predicted in zip(splits, predictions, strict=True):
        rows = scored_rows(features, target, split)
        values.append(srcc(rows.scores[rows.split.test], predicted))
    return values
