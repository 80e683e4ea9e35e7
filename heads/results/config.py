"""The configuration of a run; its hash is the run's identity."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from tier4k.heads.results.choices import KeptModels
from tier4k.heads.results.run_format import PROTOCOL_VERSION, RUN_FORMAT

ZERO_SHOT_METHOD = "zero-shot"  # of a run whose predictions are a published scorer's

ALWAYS_HASHED = ("protocol", "format")

NEVER_HASHED = ("head_defaults", "finetune_defaults")  # which say what is left out of other fields


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run's values depend on; its hash is the run's identity.

    A field or an option that is added later has a default, and what is at its default is not hashed: runs that were fitted
    before it existed keep their identity.

    Attributes:
        data: Name of the data set.
        data_digest: `Manifest.digest` of the rows.
        method, benchmark, targets: What was fitted.
        signatures: Of every store that it reads, field by field: "image" and "text" of a head, beside them scorers by their names
            where it sees their scores; "score" of a zero-shot run.
        split, repeats, seed: The protocol: what the split is called (see `tier4k.heads.protocol.options.split_name`), how many there are, and the first seed.
        seeds: Heads fitted on each split.
        recipe: Name of the recipe.
        estimator: Name of the head, or of the scorer.
        head: Every option of the head, resolved.
        finetune: Every option of end-to-end training, resolved; empty where the head was fitted on stored features.
        models: Which fitted heads were kept.
        stages: Names of the levels that were kept of multilevel features; none for all.
        start: Name of the run whose heads these were started from; "" where they were not.
        head_defaults: Names of the options in `head` that are at the recipe's value, and so are not part of the identity.
        finetune_defaults: The same of the options in `finetune`.
        protocol: `PROTOCOL_VERSION` of the program that computed the values.
        format: Of the files.
    """

    data: str
    data_digest: str
    method: str
    benchmark: str
    targets: tuple[str, ...]
    signatures: dict[str, dict[str, Any]]
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

    @property
    def id(self) -> str:
        """Readable beginning, then 10 hexadecimal digits of the SHA-256 of all that is not at its default."""
        digest = hashlib.sha256(json.dumps(self.hashed, sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.method}-{self.benchmark}-{self.split}-{digest}"

    @property
    def hashed(self) -> dict[str, Any]:
        """What the identity is made of: every field and option that is not at its default, and both versions."""
        values = asdict(self)
        values["head"] = _without(values["head"], values.pop("head_defaults"))
        values["finetune"] = _without(values["finetune"], values.pop("finetune_defaults"))
        for name, default in _field_defaults().items():
            if json.dumps(values[name]) == json.dumps(default):  # as JSON has no tuples
                del values[name]
        return values


def _field_defaults() -> dict[str, Any]:
    """The fields of a configuration that are not hashed at their defaults."""
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
