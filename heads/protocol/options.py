"""What a user asks to be fitted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tier4k.cache.errors import TierError
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.data.choices import Method, SplitRule
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.stored_splits import StoredSplits
from tier4k.heads.regressors.choices import HeadName, RecipeName
from tier4k.heads.results.choices import KeptModels


class ProtocolError(TierError):
    """Options that contradict each other, the data or the run that they name."""


@dataclass(frozen=True)
class FitOptions:
    """What to fit and how.

    Attributes:
        method: "nr", "fr" or "pr".
        benchmark: Rows that take part.
        targets: Names of targets; ("all",) for every one.
        stages: Levels of multilevel features by name or number; none keeps all.
        split, repeats, folds, seed: The splits, as in `SplitRequest`.
        seeds: Heads fitted on each split, each with a seed of its own.
        recipe: "cached" or "published".
        estimator: Name of the head.
        head: Options of the head that differ from the recipe's; values may be texts.
        models: Which fitted heads are kept: those of all repeats, of the first, or none.
        zero_shot: Stores of zero-shot scores, which are further columns of the fused vectors.
        finetune: Which part of the encoders is trained with the head; "none" fits the head on stored
            features.
        training: Options of that training that differ from the recipe's; values may be texts.
        start: Run whose heads are trained further; None starts from new heads.
    """

    method: Method = "nr"
    benchmark: Benchmark = "all"
    targets: tuple[str, ...] = ("all",)
    stages: tuple[str, ...] = ()
    split: SplitRule | StoredSplits = "prompt"
    repeats: int | None = None
    seed: int = 0
    folds: int | None = None
    seeds: int = 1
    recipe: RecipeName = "cached"
    estimator: HeadName = "mlp"
    head: dict[str, Any] = field(default_factory=dict)
    models: KeptModels = "all"
    zero_shot: tuple[FeatureStore, ...] = ()
    finetune: str = "none"
    training: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None

    @property
    def split_request(self) -> SplitRequest:
        """The splits that are asked for."""
        return SplitRequest(self.split, self.repeats, self.folds, self.seed)


@dataclass(frozen=True)
class TrainingOptions:
    """The resolved options of end-to-end training; empty where heads are fitted on stored features.

    Attributes:
        values: Every option by name.
        at_default: Names of the options that have the recipe's value; these stay out of a run's identity.
    """

    values: dict[str, Any] = field(default_factory=dict)
    at_default: tuple[str, ...] = ()


FROZEN_ENCODERS = TrainingOptions()
