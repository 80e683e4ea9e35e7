"""Warm start: train the heads of another run further; the old heads must not have seen the test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tier4k.cache.signature import Signature
from tier4k.extract.datasets.choices import Stream
from tier4k.heads.data.choices import Method
from tier4k.heads.data.encoder_names import stream_signatures
from tier4k.heads.data.fusion import used_streams
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import Split, SplitError
from tier4k.heads.data.stored_splits import StoredSplit, StoredSplits, stored_splits
from tier4k.heads.encoders.finetuned import finetuned_encoders, keeps_finetuned_encoders
from tier4k.heads.protocol.options import ProtocolError
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import cli_name
from tier4k.heads.regressors.registry import HEADS
from tier4k.heads.regressors.tasks import Weights
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.find_run import read_identity
from tier4k.heads.results.model import HeadKey, Model
from tier4k.heads.results.read import read_config
from tier4k.heads.results.read_model import read_model

# The same weights with another value of these options are another function.
OPTIONS_OF_THE_FUNCTION = ("activation", "interaction", "image_transform", "target_transform")

Parts = tuple[frozenset[str], ...]  # names of the training, validation and test rows


@dataclass(frozen=True)
class Start:
    """The fitted heads of a run, which are trained further.

    Attributes:
        run: The run, as another run refers to it.
        model: Model with the heads.
        splits: The splits that the heads were fitted on.
        data_digest: `Manifest.digest` of the rows that the heads were fitted on.
    """

    run: str
    model: Model
    splits: StoredSplits
    data_digest: str

    @classmethod
    def read(cls, run: Path) -> "Start":
        """Read the heads of a run.

        Raises:
            ModelError: The run kept no heads.
            ResultError: The run cannot be read.
            ProtocolError: The splits of the run cannot be read.
        """
        model = read_model(run)
        path = run / "splits.json"
        try:
            splits = StoredSplits.read(path)
        except SplitError as error:
            raise ProtocolError(
                f"{path} cannot be read, so the training rows of the heads are unknown: fit the run again"
            ) from error
        return cls(read_identity(run).reference, model, splits, read_config(run).data_digest)

    def require_like(self, config: RunConfig) -> None:
        """Refuse heads that were fitted on other rows or are of another kind than the heads to fit.

        Args:
            config: Configuration of the run with the heads to fit.

        Raises:
            ProtocolError: The heads differ in rows or kind.
        """
        self._require_trained_in_steps(config)
        if self.data_digest != config.data_digest:
            # With equal names in equal parts, a test image could still be one that the head was fitted on.
            raise ProtocolError(
                f"the heads of {self.model.folder} were fitted on other rows or scores than those of "
                f"{config.data}: pass the data set and --benchmark of that run"
            )
        for option, (start_value, value) in self._compared_options(config).items():
            if start_value != value:
                raise ProtocolError(
                    f"the heads of {self.model.folder} were fitted with {option} {start_value}, not {value}: "
                    f"pass {option} {start_value}"
                )
        if self.model.templates != config.templates:
            raise ProtocolError(
                f"the heads of {self.model.folder} were fitted with other templates: pass the file of "
                "templates of that run as --templates"
            )

    def _require_trained_in_steps(self, config: RunConfig) -> None:
        for head in (self.model.estimator, config.estimator):
            if head not in HEADS or HEADS[head].estimator is not MLPHead:
                raise ProtocolError(
                    f"--start needs heads that are trained in steps, and --head {head} is not: leave out "
                    "--start"
                )

    def _compared_options(self, config: RunConfig) -> dict[str, tuple[object, object]]:
        """Return the options that must be equal, as {option: (old value, new value)}."""
        model = self.model
        old_options = MLPHead().get_params() | model.options  # an old run lacks options that came later
        return {
            "--method": (model.method, config.method),
            "--head": (model.estimator, config.estimator),
            "--streams": ("+".join(model.used_streams), "+".join(_used_streams(config))),
            "--stages": (",".join(model.stages) or "all", ",".join(config.stages) or "all"),
            "--score-features": (_scorers(model.signatures), _scorers(config.signatures)),
            **{
                f"--set {cli_name(name)}": (old_options[name], config.head[name])
                for name in OPTIONS_OF_THE_FUNCTION
            },
        }

    def weights(
        self,
        rows: Rows,
        targets: Sequence[str],
        splits: Sequence[Split],
        signatures: Mapping[str, Signature],
    ) -> dict[HeadKey, Weights]:
        """Return the weights that the head of each target and repeat starts from.

        The weights are those of a head with the same rows in every part.

        Args:
            rows: Rows of the data set; the splits contain their indices.
            targets: Names of targets.
            splits: One split for each repeat.
            signatures: Signatures of the features that the heads will be fitted on, by the names of
                `Model.signatures`.

        Raises:
            ProtocolError: There is no such head, or the head was fitted on other features.
        """
        repeat_parts = [_parts(split) for split in stored_splits(rows, splits)]
        weights = {}
        checked = set()
        for target in targets:
            for repeat, split in enumerate(splits):
                key = self._head_with_rows(target, repeat_parts[repeat], split.seed)
                if key not in checked:
                    self._require_features(key, signatures)
                    checked.add(key)
                weights[target, repeat] = self.model.heads[key].weights_
        return weights

    def _head_with_rows(
        self,
        target: str,
        parts: Parts,
        seed: int,
    ) -> HeadKey:
        """Find the head of a target with the same rows in every part; prefer the head with the same seed."""
        matching_keys = []
        for number, stored in enumerate(self.splits.repeats):
            if (target, number) in self.model.heads and _parts(stored) == parts:
                matching_keys.append((target, number))
        for key in matching_keys:
            if self.model.seeds[key] == seed:
                return key
        if matching_keys:
            return matching_keys[0]
        kept = [str(number) for name, number in sorted(self.model.heads) if name == target]
        splits_file = self.model.folder / "splits.json"
        raise ProtocolError(
            f"{self.model.folder} has no head for {target} with the same training, validation and test "
            "rows as the "
            f"split with seed {seed}, and another head may have seen the test rows: pass the --split and "
            "validation_fraction of that run, or --split "
            f"{splits_file}:N for one repeat N with a kept head ({', '.join(kept) or 'none'})"
        )

    def _require_features(self, key: HeadKey, signatures: Mapping[str, Signature]) -> None:
        run = self.model.folder
        target, repeat = key
        head_signatures = dict(self.model.signatures)
        remedy = "use the stores that the old run was fitted on"
        if keeps_finetuned_encoders(run):
            encoders = finetuned_encoders(run, target, repeat)
            head_signatures |= encoders.signatures
            origin = f"--finetuned {run} --target {target} --repeat {repeat}"
            remedy = f"use the features that `tier extract DATA {origin}` stores"
        new_signatures = _by_stream(signatures)
        for stream, old in _by_stream(head_signatures).items():
            new = new_signatures[stream]
            if _contents(old) != _contents(new):
                raise ProtocolError(
                    f"the head for {target} of repeat {repeat} of {run} was fitted on {stream} features of "
                    f"{_encoders(old)}, and the new run uses features of {_encoders(new)}: {remedy}"
                )


def _used_streams(config: RunConfig) -> tuple[Stream, ...]:
    return used_streams(cast(Method, config.method), cast(tuple[Stream, ...], config.streams))


def _by_stream(signatures: Mapping[str, Signature]) -> dict[str, list[Signature]]:
    """Return the signatures of images, of texts and of each scorer, in the order of their columns."""
    by_stream = {}
    for stream in ("image", "text"):
        by_stream[stream] = list(stream_signatures(signatures, stream).values())
    for signature in signatures.values():
        if signature.stream == "score":
            by_stream[signature.encoder] = [signature]
    return by_stream


def _contents(signatures: Sequence[Signature]) -> list[tuple[str, str]]:
    return [(signature.weights, signature.feature) for signature in signatures]


def _encoders(signatures: Sequence[Signature]) -> str:
    return ", ".join(signature.encoder for signature in signatures) or "no encoder"


def _scorers(signatures: Mapping[str, Signature]) -> str:
    """Return the names of zero-shot scorers in the order of their columns, separated by commas."""
    scorers = [signature.encoder for signature in signatures.values() if signature.stream == "score"]
    return ",".join(scorers) or "none"


def _parts(split: StoredSplit) -> Parts:
    return frozenset(split.train), frozenset(split.validation), frozenset(split.test)
