"""Settings of a run as tables and titles show them. No other module of this package reads config.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tier4k.extract.datasets.choices import Benchmark
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.registry import changed_options, require_head_options
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.layout import CONFIG_FILE, damaged
from tier4k.heads.results.read import read_config

ENCODED_STREAMS = (
    "image",
    "text",
    "score",
)  # the other signatures belong to scorers whose scores a head sees

VARY_WITHIN_A_RUN = ("targets", "environment")  # runs that differ in these alone are one run to a reader

WHOLE_IMAGE = "centre"  # the signature's text where a store holds no random crops


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, and where, when and with which software it was fitted.

    Attributes:
        data: Name of the data set.
        data_digest: Digest of the rows that took part.
        method, benchmark, split, repeats, seed, seeds, recipe, stages, start, protocol: As in config.json.
        head: Name of the head or of the zero-shot scorer.
        head_options: Every option of the head.
        finetuning: Every option of end-to-end training; empty where the encoders were frozen.
        signatures: Fields of each store's signature, by stream ("image", "text", "score") or scorer.
        key: Equal for runs that differ in nothing but their targets and their environment.
        data_path: Recorded path of the data set, "" where none was recorded.
        command: Recorded command line, empty where none was recorded.
        python: Version of Python, "" where none was recorded.
        versions: Versions of the libraries.
        finished: Time at which the fit ended, "" where none was recorded.
        seconds: Time of the fits.
    """

    data: str
    data_digest: str
    method: str
    benchmark: Benchmark
    split: str
    repeats: int
    seed: int
    seeds: int
    recipe: str
    head: str
    head_options: Mapping[str, Any]
    finetuning: Mapping[str, Any]
    stages: tuple[str, ...]
    start: str
    protocol: int
    signatures: Mapping[str, Mapping[str, Any]]
    key: str
    data_path: str
    command: tuple[str, ...]
    python: str
    versions: Mapping[str, str]
    finished: str
    seconds: float

    @property
    def test_rows(self) -> tuple[str, str, str, int, int, int]:
        """Equal for runs with the same test rows, scores and repeats."""
        return self.data_digest, self.benchmark, self.split, self.seed, self.repeats, self.seeds

    @property
    def is_zero_shot(self) -> bool:
        """Whether one published scorer reads images and texts, with no head fitted."""
        return "score" in self.signatures

    @property
    def image_encoder(self) -> str:
        """Name of the image encoder, or of the zero-shot scorer."""
        return "/".join(self._values("image", "encoder"))

    @property
    def text_encoder(self) -> str:
        """Name of the text encoder, or of the zero-shot scorer."""
        return "/".join(self._values("text", "encoder"))

    @property
    def preprocessing(self) -> str:
        """Name of the images' preprocessing."""
        return _names(self._values("image", "preparation"))

    @property
    def feature(self) -> str:
        """Name of the image feature."""
        return _names(self._values("image", "feature"))

    @property
    def precision(self) -> str:
        """Floating-point precision of the image encoder."""
        return "/".join(self._values("image", "precision", "fp32"))

    @property
    def crops(self) -> str:
        """Description of the stored crops; `WHOLE_IMAGE` where there are no random ones."""
        return str(self._signature("image").get("views", WHOLE_IMAGE))

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the zero-shot scorers whose scores the head sees beside the features."""
        return tuple(name for name in self.signatures if _stream(name) not in ENCODED_STREAMS)

    def changed_options(self) -> list[str]:
        """Options of the head that differ from its recipe's, as `--set` takes them."""
        architecture = str(self._signature("image").get("architecture", ""))
        recipe = cast(RecipeName, self.recipe)
        return changed_options(self.head, recipe, architecture, self.head_options)

    def _signature(self, stream: str) -> Mapping[str, Any]:
        return self.signatures.get(stream) or self.signatures["score"]

    def _values(
        self,
        stream: str,
        field: str,
        default: str = "",
    ) -> list[str]:
        """The distinct values of a field of a stream's signatures; only a search may have several."""
        signatures = [one for name, one in self.signatures.items() if _stream(name) == stream]
        values = [str(one.get(field, default)) for one in signatures or [self.signatures["score"]]]
        return list(dict.fromkeys(values))


def read_settings(run: Path) -> RunSettings:
    """Read the settings of a run from its folder.

    Raises:
        ResultError: The run cannot be read.
    """
    config = read_config(run)
    try:
        require_head_options(config.estimator, config.head, "$.head")
    except ValueError as error:
        raise damaged(run / CONFIG_FILE, error) from error
    environment = config.environment
    return RunSettings(
        data=config.data,
        data_digest=config.data_digest,
        method=config.method,
        benchmark=config.benchmark,
        split=config.split,
        repeats=config.repeats,
        seed=config.seed,
        seeds=config.seeds,
        recipe=config.recipe,
        head=config.estimator,
        head_options=config.head,
        finetuning=config.finetune,
        stages=config.stages,
        start=config.start,
        protocol=config.protocol,
        signatures={stream: asdict(signature) for stream, signature in config.signatures.items()},
        key=_key(config),
        data_path=environment.data,
        command=environment.command,
        python=environment.python,
        versions=environment.versions,
        finished=environment.finished,
        seconds=environment.seconds,
    )


def _names(values: Sequence[str]) -> str:
    """The names in front of descriptions, such as "native" of "native: no resizing"."""
    names = [value.split(":", 1)[0] for value in values]
    return "/".join(dict.fromkeys(names))


def _stream(name: str) -> str:
    """The stream of a signature: "image" of "image" and of "image 2"."""
    return name.split(" ", 1)[0]


def _key(config: RunConfig) -> str:
    fixed = asdict(config)
    for name in VARY_WITHIN_A_RUN:
        del fixed[name]
    return json.dumps(fixed, sort_keys=True)
