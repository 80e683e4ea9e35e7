"""Options of a fit, as the user sets them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tier4k.cache.errors import TierError
from tier4k.extract.datasets.choices import Benchmark, Stream
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.choices import PresetName
from tier4k.extract.plugins.find import SCRIPTS
from tier4k.heads.data.choices import Method
from tier4k.heads.data.column_split import ColumnSplit
from tier4k.heads.data.fusion import default_benchmark, existing_streams, needed_inputs
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.data.split_request import SplitRequest, Splits, parse_split
from tier4k.heads.data.stored_splits import Plain
from tier4k.heads.protocol.presets import PRESETS
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.results.choices import KeptModels


class ProtocolError(TierError):
    """Options contradict each other, the data or a run."""


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit.

    Attributes:
        method: "nr", "fr" or "pr".
        benchmark: Rows that take part: "I2I" (with an image prompt), "T2I" (without) or "all"; None means
            the widest that the method allows.
        targets: Names of targets, or one name; ("all",) means every target.
        streams: Streams of the method that the heads use; an empty tuple uses all.
        stages: Levels of multilevel features to keep, such as "3,4" or "clip=3,4"; an empty tuple keeps all.
        split: A rule ("prompt", "random", "generator", "dataset", "published"), "column:NAME", a file of
            splits, or the names of the rows: {"train": [names], "test": [names]}, or a list of such objects,
            one for each repeat (see `parse_split`).
        repeats, folds, seed: Number of repeats or folds and seed of the first repeat, as in `SplitRequest`.
        seeds: Number of heads fitted on each split; each head has its own seed.
        recipe: "cached" or "published".
        estimator: Name of the head: one of `HeadName`, of an entry point `tier4k.heads`, or an import path
            `package.module:Class`.
        head: Options of the head that differ from the recipe's; values may be texts.
        models: Which fitted heads are kept: those of all repeats, of the first repeat, or none.
        finetune: Part of the encoders that is trained with the head; "none" fits the head on stored features.
        training: Options of end-to-end training that differ from the recipe's; values may be texts.
        start: Run whose heads are trained further; None starts from new heads.
        selection: Whether the head is a candidate of a search, as in `SplitRequest`.
        templates: Texts that the interaction "templates" compares images with; an empty tuple uses the
            built-in ones.
        device: Device on which networks are fitted on stored features, by torch's name; other heads are
            fitted on the CPU. It is not part of the identity of a run.
    """

    method: Method = "nr"
    benchmark: Benchmark | None = None
    targets: Sequence[str] = ("all",)
    streams: tuple[Stream, ...] = ()
    stages: Sequence[str] = ()
    split: str | Path | Plain | Splits = "prompt"
    repeats: int | None = None
    seed: int = 0
    folds: int | None = None
    seeds: int = 1
    recipe: RecipeName = "cached"
    estimator: str = "mlp"
    head: dict[str, Any] = field(default_factory=dict)
    models: KeptModels = "all"
    finetune: str = "none"
    training: dict[str, Any] = field(default_factory=dict)
    start: Path | None = None
    selection: bool = False
    templates: tuple[str, ...] = ()
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Read the split, and make one name a tuple.

        Raises:
            SplitError: The split has none of the forms of a split.
            ProtocolError: The streams are one text, not a tuple of names, or the estimator is no text.
        """
        _require_name(self.estimator)
        object.__setattr__(self, "split", parse_split(self.split))
        for name in ("targets", "stages"):
            object.__setattr__(self, name, _names(getattr(self, name)))
        if isinstance(self.streams, str):
            raise ProtocolError(
                f'streams is the text {self.streams!r}: pass a tuple of names, such as ("text", "image")'
            )

    @property
    def rows(self) -> Benchmark:
        """The benchmark whose rows take part."""
        return self.benchmark or default_benchmark(self.method)

    @property
    def interaction(self) -> str:
        """The head's option `interaction`, as the user wrote it."""
        return str(self.head.get("interaction", NO_INTERACTION))

    def with_preset(self, preset: PresetName, head: str | None = None) -> "FitOptions":
        """Return the options with the head of a preset and its options.

        Options in `head` replace those of the preset one by one. The encoders of a preset are
        `tier4k.PRESETS[preset].images`.

        Args:
            preset: "best" or "clip".
            head: The head that the user names. Another one than the preset's has no options of the preset.
        """
        chosen = PRESETS[preset]
        if head not in (None, chosen.head):
            return self
        return replace(self, estimator=chosen.head, head={**chosen.options, **self.head})

    def for_rows(self, manifest: Manifest) -> "FitOptions":
        """Return the options with the streams that the rows of a manifest have.

        Raises:
            ProtocolError: There are no text prompts, and the streams or the interaction name them.
        """
        streams = existing_streams(self.method, self.streams, manifest.has_prompts)
        if not manifest.has_prompts and "text" in needed_inputs(self.method, streams, self.interaction):
            raise ProtocolError(
                f"{manifest.name} has no text prompts, which are needed here: add a column of prompts, name "
                "it with --columns prompt=COLUMN, or use --streams image without an interaction of texts"
            )
        return replace(self, streams=streams)

    def split_request(self, rows: Manifest) -> SplitRequest:
        """Return the splits to make, as the options describe them.

        Args:
            rows: The rows that take part.

        Raises:
            SplitError: The column of the split does not exist, or does not say the part of every row.
        """
        split = parse_split(self.split)
        if isinstance(split, ColumnSplit):
            split = split.of(rows)
        return SplitRequest(split, self.repeats, self.folds, self.seed, self.selection)


def _require_name(estimator: object) -> None:
    """Refuse a class or an object as a head: a run records its name, and other processes import it.

    Raises:
        ProtocolError: It is no text.
    """
    if isinstance(estimator, str):
        return
    kind = estimator if isinstance(estimator, type) else type(estimator)
    found: object = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    is_importable = found is kind and kind.__module__ not in SCRIPTS
    path = f"{kind.__module__}:{kind.__qualname__}" if is_importable else "my_heads:MeanRidge"
    raise ProtocolError(
        f"estimator is {estimator!r}: it takes a text such as {path!r}, the import path of the class, and "
        "options in head={…}"
    )


def _names(given: Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


DEFAULT_FIT = FitOptions()


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
