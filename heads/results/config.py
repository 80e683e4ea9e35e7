"""The configuration of a run. Its hash is the run's identity."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Final, Literal

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.plugins.identity import Plugin
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.results.run_format import PROTOCOL_VERSION, RUN_FORMAT

ZERO_SHOT_METHOD: Final = "zero-shot"  # of a run whose predictions are a published scorer's

SEVERAL: Final = "several"  # method, streams or stages of a search whose candidates differ in them

SEARCH: Final = "search"  # "head" of a run in which each repeat chose among candidates

RunMethod = Literal["nr", "fr", "pr", "zero-shot", "several"]

RunStream = Literal["text", "image", "image-prompt", "several"]

ALWAYS_HASHED = ("protocol", "format")

NEVER_HASHED = ("environment", "head_defaults", "finetune_defaults")


@dataclass(frozen=True)
class Environment:
    """Circumstances of a run: they are recorded, but are not part of the identity of the run.

    Attributes:
        command: Command line of the run.
        data: Path of the data set; of several, of the first.
        more_data: Paths of the others.
        table: What the user said about the tables, where they were passed: --layout, --columns, --sheet,
            --images.
        finished: Time in UTC, ISO 8601.
        python: Version of Python.
        versions: Versions of the libraries, by name.
        seconds: Time of the fits.
        device: Device on which heads were fitted or networks trained, by torch's name; in a search that of
            every candidate; "" for other runs, and where it was not recorded.
    """

    command: tuple[str, ...] = ()
    data: str = ""
    more_data: tuple[str, ...] = ()
    table: dict[str, str] = field(default_factory=dict)
    finished: str = ""
    python: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    device: str = ""


@dataclass(frozen=True)
class RunConfig:
    """Everything that the values of a run depend on, as stored in config.json.

    A field or an option that is added later has a default, and values at their defaults are not hashed: runs
    that were fitted before it existed keep their identity.

    Attributes:
        data: Name of the data set.
        data_digest: `Manifest.digest` of the rows.
        method, benchmark, targets: Subject of the fit.
        signatures: Signatures of every store that the run reads: "image" and "text" for a head, or
            "image NAME" for each of several image encoders; also scorers by name if the head uses their
            scores; "score" for a zero-shot run. Further stores of one kind, in a search, are "image 2",
            "image 3" and so on.
        split: Name of the split (see `tier4k.heads.data.split_request.SplitRequest.name`).
        repeats: Number of splits.
        seed: The first seed.
        recipe: Name of the recipe.
        estimator: Name of the head, or of the scorer; `SEARCH` for a search.
        head: Every option of the head, resolved; for a search the grid and its candidates.
        models: Which fitted heads were kept.
        streams: Streams of the method that the heads use; empty for all.
        stages: Names of the levels of multilevel features that were kept (see `tier4k.heads.data.stages`);
            empty for all.
        seeds: Number of heads fitted on each split.
        ratings_digest: `Manifest.ratings_digest` of the rows, on which the raters' ceiling depends.
        finetune: Every option of end-to-end training, resolved; empty if the head was fitted on stored
            features.
        start: The run whose heads were trained further (see `names.reference`); "" if heads were new.
        templates: Texts that the interaction "templates" compares images with; empty without it.
        datasets: Names of the data sets, if there are several; the scale of the heads' scores is that of the
            first (see `tier4k.heads.evaluation.alignment`).
        plugins: What the run uses of other packages: a user's head, or those of the candidates of a search.
        head_defaults: Names of the options in `head` that have the value of the recipe, and are not hashed.
        finetune_defaults: Names of such options in `finetune`.
        protocol: `PROTOCOL_VERSION` of the program that computed the values.
        format: `RUN_FORMAT` of the files.
        environment: Circumstances of the run, not hashed; before the run only the device is known.
    """

    data: str
    data_digest: str
    method: RunMethod
    benchmark: Benchmark
    targets: tuple[str, ...]
    signatures: dict[str, Signature]
    split: str
    repeats: int
    seed: int
    recipe: str
    estimator: str
    head: dict[str, Any]
    models: KeptModels
    streams: tuple[RunStream, ...] = ()
    stages: tuple[str, ...] = ()
    seeds: int = 1
    ratings_digest: str = ""
    finetune: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    templates: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    head_defaults: tuple[str, ...] = ()
    finetune_defaults: tuple[str, ...] = ()
    protocol: int = PROTOCOL_VERSION
    format: int = RUN_FORMAT
    environment: Environment = Environment()

    @property
    def digest(self) -> str:
        """The run's identity: 10 hexadecimal digits of the hash of `hashed`."""
        text = json.dumps(self.hashed, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def hashed(self) -> dict[str, Any]:
        """Content of the identity: fields and options that differ from their defaults, and both versions."""
        values = asdict(self)
        values["head"] = _without(self.head, self.head_defaults)
        values["finetune"] = _without(self.finetune, self.finetune_defaults)
        for name in NEVER_HASHED:
            del values[name]
        for name, default in _field_defaults().items():
            if json.dumps(values[name]) == json.dumps(default):  # as JSON has no tuples
                del values[name]
        return values


def _field_defaults() -> dict[str, Any]:
    """Return the default values of the fields that are left out of the hash at their default."""
    defaults: dict[str, Any] = {}
    for item in fields(RunConfig):
        if item.name in (*ALWAYS_HASHED, *NEVER_HASHED):
            continue
        if item.default is not MISSING:
            defaults[item.name] = item.default
        elif item.default_factory is not MISSING:
            defaults[item.name] = item.default_factory()
    return defaults


def _without(options: dict[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in left_out}
