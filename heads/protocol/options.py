"""Options of a fit, as the user sets them."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark, Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.heads.data.choices import Method, SplitRule
from tier4k.heads.data.column_split import ColumnSplit
from tier4k.heads.data.fusion import existing_streams
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.stored_splits import StoredSplits
from tier4k.heads.regressors.choices import HeadName, RecipeName
from tier4k.heads.results.choices import KeptModels


class ProtocolError(TierError):
    """Options contradict each other, the data or a run."""


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit.

    Attributes:
        method: "nr", "fr" or "pr".
        benchmark: Rows that take part.
        targets: Names of targets; ("all",) means every target.
        streams: Streams of the method that the heads use; an empty tuple uses all.
        stages: Levels of multilevel features to keep, such as "3,4" or "clip=3,4"; an empty tuple keeps all.
        split, repeats, folds, seed: The splits, as in `SplitRequest`; or the column that has them.
        seeds: Number of heads fitted on each split; each head has its own seed.
        recipe: "cached" or "published".
        estimator: Name of the head.
        head: Options of the head that differ from the recipe's; values may be texts.
        models: Which fitted heads are kept: those of all repeats, of the first repeat, or none.
        finetune: Part of the encoders that is trained with the head; "none" fits the head on stored features.
        training: Options of end-to-end training that differ from the recipe's; values may be texts.
        start: Run whose heads are trained further; None starts from new heads.
        selection: Whether the head is a candidate of a search, as in `SplitRequest`.
        templates: Texts that the interaction "templates" compares images with; an empty tuple uses the
            built-in ones.
    """

    method: Method = "nr"
    benchmark: Benchmark = "all"
    targets: tuple[str, ...] = ("all",)
    streams: tuple[Stream, ...] = ()
    stages: tuple[str, ...] = ()
    split: SplitRule | StoredSplits | ColumnSplit = "prompt"
    repeats: int | None = None
    seed: int = 0
    folds: int | None = None
    seeds: int = 1
    recipe: RecipeName = "cached"
    estimator: HeadName = "mlp"
    head: dict[str, Any] = field(default_factory=dict)
    models: KeptModels = "all"
    finetune: str = "none"
    training: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None
    selection: bool = False
    templates: tuple[str, ...] = ()

    @property
    def interaction(self) -> str:
        """The head's option `interaction`, as the user wrote it."""
        return str(self.head.get("interaction", NO_INTERACTION))

    def for_rows(self, manifest: Manifest) -> "FitOptions":
        """Return the options with the streams that the rows of a manifest have."""
        return replace(self, streams=existing_streams(self.method, self.streams, manifest.has_prompts))

    def split_request(self, rows: Manifest) -> SplitRequest:
        """Return the splits to make, as the options describe them.

        Args:
            rows: The rows that take part.

        Raises:
            SplitError: The column of the split does not exist, or does not say the part of every row.
        """
        split = self.split.of(rows) if isinstance(self.split, ColumnSplit) else self.split
        return SplitRequest(split, self.repeats, self.folds, self.seed, self.selection)


@dataclass(frozen=True)
class TrainingOptions:
    """The resolved options of end-to-end training; empty if heads are fitted on stored features.

    Attributes:
        values: Every option by name.
        at_default: Names of the options that have the recipe's value; such options are not part of the
            identity of a run.
    """

    values: dict[str, Any] = field(default_factory=dict)
    at_default: tuple[str, ...] = ()


FROZEN_ENCODERS = TrainingOptions()
