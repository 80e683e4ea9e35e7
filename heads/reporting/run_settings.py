"""Settings of a run as tables and titles show them. No other module of this package reads config.json."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tier4k.cache.signature import USUAL_DTYPE, Signature
from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.plugins.identity import Plugin
from tier4k.heads.data.encoder_names import sized_encoder, stream_signatures
from tier4k.heads.regressors.base import BaseHead
from tier4k.heads.regressors.choices import RecipeName
from tier4k.heads.regressors.literals import literal_text
from tier4k.heads.regressors.options import cli_name
from tier4k.heads.regressors.registry import changed_options, require_head_options
from tier4k.heads.reporting.order import SortKey, natural_key
from tier4k.heads.results.config import SEARCH, ZERO_SHOT_METHOD, RunConfig
from tier4k.heads.results.layout import CONFIG_FILE, damaged
from tier4k.heads.results.read import read_config

# Runs that differ in these alone are one run to a reader.
VARY_WITHIN_A_RUN = ("targets", "models", "environment")

ALL_STREAMS = "all"

JOINED = " + "  # between the encoders of one head

ALTERNATIVE = "/"  # between the encoders that a search chose from

NONE_MEANS = {"hidden": "d/2"}  # what an option without a value stands for; d: numbers of a row

WHOLE_IMAGE = "centre"  # the signature's text where a store holds no random crops


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, and where, when and with which software it was fitted.

    Attributes:
        data: Name of the data set.
        data_digest: Digest of the rows that took part.
        method, benchmark, split, repeats, seed, seeds, recipe, streams, stages, start, protocol: As in
            config.json.
        head: Name of the head or of the zero-shot scorer.
        head_options: Every option of the head.
        head_defaults: Names of those that have their default value.
        plugins: What the run uses of other packages, such as a user's head.
        finetuning: Every option of end-to-end training; empty where the encoders were frozen.
        signatures: The signature of each store, named as in config.json.
        models: Repeats whose fitted heads were kept: "all", "first" or "none".
        key: Equal for runs that differ in `VARY_WITHIN_A_RUN` alone.
        data_paths: Recorded paths of the data sets, empty where none were recorded.
        table: Recorded options about the tables, as `TableChoice.given`.
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
    head_defaults: tuple[str, ...]
    plugins: tuple[Plugin, ...]
    finetuning: Mapping[str, Any]
    streams: tuple[str, ...]
    stages: tuple[str, ...]
    start: str
    protocol: int
    signatures: Mapping[str, Signature]
    models: str
    key: str
    data_paths: tuple[str, ...]
    table: Mapping[str, str]
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
        return self.method == ZERO_SHOT_METHOD

    @property
    def used_streams(self) -> str:
        """The streams of the method that the head uses, such as "text+image"; `ALL_STREAMS` for all."""
        return "+".join(self.streams) or ALL_STREAMS

    @property
    def image_encoder(self) -> str:
        """Names of the image encoders, or of the zero-shot scorer; "" if no stream has images."""
        several = len(self._of("image")) > 1 and not self._is_search
        return self._joined("image", sized_encoder if several else _encoder)

    @property
    def text_encoder(self) -> str:
        """Names of the text encoders, or of the zero-shot scorer; "" if no stream has text."""
        return self._joined("text", _encoder)

    @property
    def preprocessing(self) -> str:
        """Names of the preprocessing of each image encoder, or the one that all share."""
        return self._common("image", lambda signature: signature.preparation_name)

    @property
    def feature(self) -> str:
        """Names of the feature of each image encoder, or the one that all share."""
        return self._common("image", lambda signature: signature.feature_name)

    @property
    def precision(self) -> str:
        """Precision of the image encoders, with the type of the stored numbers where it is not the usual one.

        It is that of the text encoders if no stream has images.
        """
        return self._common("image" if self._of("image") else "text", _precision)

    @property
    def crops(self) -> str:
        """Description of the stored crops; `WHOLE_IMAGE` where there are no random ones."""
        return self._common("image", lambda signature: signature.views)

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the zero-shot scorers whose scores the head sees beside the features."""
        if self.is_zero_shot:
            return ()
        return tuple(name for name, one in self.signatures.items() if one.stream == "score")

    def changed_options(self) -> list[str]:
        """Options of the head that differ from its recipe's, as `--set` takes them."""
        if self.head in {plugin.name for plugin in self.plugins}:  # it may not be installed here
            return _own_changes(self.head_options, self.head_defaults)
        images = self._of("image")
        architecture = images[0].architecture if len(images) == 1 else ""
        recipe = cast(RecipeName, self.recipe)
        return changed_options(self.head, recipe, architecture, self.head_options)

    @property
    def sort_key(self) -> SortKey:
        """What runs of one name are sorted by: changed options, repeats, seeds."""
        return natural_key(" ".join(self.changed_options())), self.repeats, self.seeds, self.seed

    @property
    def _is_search(self) -> bool:
        return self.head == SEARCH

    def _of(self, stream: str) -> list[Signature]:
        """The signatures of the encoders of a stream, in the order of the columns; a scorer reads both."""
        if self.is_zero_shot:
            return list(self.signatures.values())
        if self._is_search:  # its candidates may use one encoder in several ways, which have the same name
            return [one for one in self.signatures.values() if one.stream == stream]
        return list(stream_signatures(self.signatures, stream).values())

    def _joined(self, stream: str, value: Callable[[Signature], str]) -> str:
        """The value of every encoder of a stream; of a search, the distinct values."""
        values = [value(signature) for signature in self._of(stream)]
        return ALTERNATIVE.join(dict.fromkeys(values)) if self._is_search else JOINED.join(values)

    def _common(self, stream: str, value: Callable[[Signature], str]) -> str:
        """The value that all encoders of a stream share, or else the value of every one."""
        values = {value(signature) for signature in self._of(stream)}
        return values.pop() if len(values) == 1 else self._joined(stream, value)


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
        head_defaults=config.head_defaults,
        plugins=config.plugins,
        finetuning=config.finetune,
        streams=config.streams,
        stages=config.stages,
        start=config.start,
        protocol=config.protocol,
        signatures=config.signatures,
        models=config.models,
        key=_key(config),
        data_paths=(environment.data, *environment.more_data) if environment.data else (),
        table=environment.table,
        command=environment.command,
        python=environment.python,
        versions=environment.versions,
        finished=environment.finished,
        seconds=environment.seconds,
    )


def option_value(run: RunSettings, setting: str) -> str:
    """Return a setting as the option of `fit-head` takes it, such as "nr"; "" if it has no such option."""
    value = run.used_streams if setting == "streams" else getattr(run, setting, "")
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _own_changes(options: Mapping[str, Any], defaults: Sequence[str]) -> list[str]:
    """Return the options of a user's head that are not at their default; it keeps the names of its own."""
    changes = []
    for name, value in options.items():
        if name not in defaults:
            option = cli_name(name) if name in BaseHead.limits else name
            changes.append(f"{option}={literal_text(value)}")
    return changes


def _encoder(signature: Signature) -> str:
    return signature.encoder


def _precision(signature: Signature) -> str:
    """Return the arithmetic of an encoder, such as "fp32", or "fp32 as float16" if stored in float16."""
    if signature.dtype == USUAL_DTYPE:
        return signature.precision
    return f"{signature.precision} as {signature.dtype}"


def _key(config: RunConfig) -> str:
    fixed = asdict(config)
    for name in VARY_WITHIN_A_RUN:
        del fixed[name]
    return json.dumps(fixed, sort_keys=True)
