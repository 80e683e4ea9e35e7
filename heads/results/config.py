"""The configuration of a run. Its hash is the run's identity."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Final, Literal

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.results.choices import KeptModels
from tier4k.heads.results.run_format import PROTOCOL_VERSION, RUN_FORMAT

ZERO_SHOT_METHOD: Final = "zero-shot"  # of a run whose predictions are a published scorer's

RunMethod = Literal["nr", "fr", "pr", "zero-shot"]

ALWAYS_HASHED = ("protocol", "format")

NEVER_HASHED = ("environment", "head_defaults", "finetune_defaults")


@dataclass(frozen=True)
class Environment:
    """Circumstances of a run: recorded, not part of its identity.

    Attributes:
        command: Command line.
        data: Path of the data set.
        finished: Time in UTC, ISO 8601.
        python: Version of Python.
        versions: Versions of the libraries, by name.
    """

    command: tuple[str, ...] = ()
    data: str = ""
    finished: str = ""
    python: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's values depend on, as config.json holds it.

    A field or an option that is added later has a default, and values at their defaults are not hashed: runs
    that were fitted before it existed keep their identity.

    Attributes:
        data: Name of the data set.
        data_digest: `Manifest.digest` of the rows.
        method, benchmark, targets: Subject of the fit.
        signatures: Of every store that the run reads: "image" and "text" of a head, beside them scorers by
            their names where the head sees their scores; "score" of a zero-shot run.
        split: Name of the split (see `tier4k.heads.protocol.options.split_name`).
        repeats: Number of splits.
        seed: The first seed.
        recipe: Name of the recipe.
        estimator: Name of the head, or of the scorer.
        head: Every option of the head, resolved.
        models: Which fitted heads were kept.
        stages: Names of the levels that were kept of multilevel features; none for all.
        seeds: Heads fitted on each split.
        finetune: Every option of end-to-end training, resolved; empty where the head was fitted on stored
            features.
        start: Name of the run whose heads these were started from; "" where they were not.
        head_defaults: Names of the options in `head` that are at the recipe's value, and so are not hashed.
        finetune_defaults: The same of the options in `finetune`.
        protocol: `PROTOCOL_VERSION` of the program that computed the values.
        format: Of the files.
        environment: Circumstances of the run, not hashed.
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
    stages: tuple[str, ...] = ()
    seeds: int = 1
    finetune: dict[str, Any] = field(default_factory=dict)
    start: str = ""
    head_defaults: tuple[str, ...] = ()
    finetune_defaults: tuple[str, ...] = ()
    protocol: int = PROTOCOL_VERSION
    format: int = RUN_FORMAT
    environment: Environment = Environment()

    @property
    def id(self) -> str:
        """The run's identity: a readable beginning, then 10 hexadecimal digits of the hash of `hashed`."""
        text = json.dumps(self.hashed, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{self.method}-{self.benchmark}-{self.split}-{digest}"

    @property
    def hashed(self) -> dict[str, Any]:
        """Content of the identity: every field and option that is not at its default, and both versions."""
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
    """Defaults of the fields that are not hashed at their default."""
    defaults: dict[str, Any] = {}
    for one in fields(RunConfig):
        if one.name in (*ALWAYS_HASHED, *NEVER_HASHED):
            continue
        if one.default is not MISSING:
            defaults[one.name] = one.default
        elif one.default_factory is not MISSING:
            defaults[one.name] = one.default_factory()
    return defaults


def _without(options: dict[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in left_out}
