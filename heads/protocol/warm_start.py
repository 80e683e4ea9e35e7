"""Warm start: heads are trained further from those of another run, which must not have seen the test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tier4k.cache.signature import Signature
from tier4k.heads.data.features import Rows
from tier4k.heads.data.splits import Split, SplitError
from tier4k.heads.data.stored_splits import StoredSplit, StoredSplits, stored_splits
from tier4k.heads.encoders.finetuned import finetuned_encoders, keeps_finetuned_encoders
from tier4k.heads.protocol.options import ProtocolError
from tier4k.heads.regressors.base import Weights
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.registry import HEADS
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.model import HeadKey, Model, read_model
from tier4k.heads.results.read import read_config
from tier4k.heads.results.results import Results

STREAMS = ("image", "text")

Parts = tuple[frozenset[str], ...]  # names of the training, validation and test rows


@dataclass(frozen=True)
class Start:
    """The fitted heads of a run, to be trained further.

    Attributes:
        run: Identity of the run.
        model: The heads.
        splits: The splits that they were fitted on.
        data_digest: `Manifest.digest` of the rows that they were fitted on.
    """

    run: str
    model: Model
    splits: StoredSplits
    data_digest: str

    @classmethod
    def read(cls, run: Path) -> "Start":
        """Read the heads of a run.

        Raises:
            ModelError: The run kept none.
            ResultError: The run cannot be read.
            ProtocolError: Its splits cannot be read.
        """
        model = read_model(run)
        path = run / "splits.json"
        try:
            splits = StoredSplits.read(path)
        except SplitError as error:
            raise ProtocolError(
                f"{path} cannot be read, so the training rows of the heads are unknown: fit the run again"
            ) from error
        return cls(Results.read(run).id, model, splits, read_config(run).data_digest)

    def require_like(self, config: RunConfig) -> None:
        """Refuse heads of other rows, or of another kind, than those to be fitted.

        Raises:
            ProtocolError: The heads differ.
        """
        self._require_trained_in_steps(config)
        if self.data_digest != config.data_digest:
            # With equal names in equal parts, a test image could still be one that the head was fitted on.
            raise ProtocolError(
                f"the heads of {self.model.folder} were fitted on other rows than these of {config.data}, "
                "or on other scores: give the data set and --benchmark of that run"
            )
        for option, (theirs, ours) in self._compared(config).items():
            if theirs != ours:
                raise ProtocolError(
                    f"the heads of {self.model.folder} are of {option} {theirs}, not {ours}: give the same"
                )

    def _require_trained_in_steps(self, config: RunConfig) -> None:
        for head in (self.model.estimator, config.estimator):
            if HEADS[cast(HeadName, head)].estimator is not MLPHead:
                raise ProtocolError(
                    f"heads of --head {head} are not trained in steps, so --start does not apply to them: "
                    "leave it out"
                )

    def _compared(self, config: RunConfig) -> dict[str, tuple[object, object]]:
        """Return what must be equal, as {option: (of the run, asked for)}."""
        model = self.model
        return {
            "--method": (model.method, config.method),
            "--head": (model.estimator, config.estimator),
            "--stages": (",".join(model.stages) or "all", ",".join(config.stages) or "all"),
            "--score-features": (_scorers(model.signatures), _scorers(config.signatures)),
            # The same weights with another activation are another function.
            "--set activation": (model.options.get("activation"), config.head["activation"]),
        }

    def weights(
        self,
        rows: Rows,
        targets: Sequence[str],
        splits: Sequence[Split],
        signatures: Mapping[str, Signature],
    ) -> dict[HeadKey, Weights]:
        """Return the weights that the head of each target and repeat starts from.

        They come from a head with the same rows in every part.

        Args:
            rows: The rows that the splits number.
            targets: Names of targets.
            splits: One per repeat.
            signatures: Of the features that the heads are to be fitted on, by the names of
                `Model.signatures`.

        Raises:
            ProtocolError: There is no such head, or it was fitted on other features.
        """
        own = [_parts(split) for split in stored_splits(rows, splits)]
        weights = {}
        checked = set()
        for target in targets:
            for repeat, split in enumerate(splits):
                key = self._head_with_rows(target, own[repeat], split.seed)
                if key not in checked:
                    self._require_features(key, signatures)
                    checked.add(key)
                weights[target, repeat] = self.model.heads[key].weights_
        return weights

    def _head_with_rows(
        self,
        target: str,
        wanted: Parts,
        seed: int,
    ) -> HeadKey:
        """Find the head of a target with these rows in its parts; of several, the one with this seed."""
        fitting = []
        for number, stored in enumerate(self.splits.repeats):
            if (target, number) in self.model.heads and _parts(stored) == wanted:
                fitting.append((target, number))
        for key in fitting:
            if self.model.seeds[key] == seed:
                return key
        if fitting:
            return fitting[0]
        kept = [str(number) for name, number in sorted(self.model.heads) if name == target]
        splits_file = self.model.folder / "splits.json"
        raise ProtocolError(
            f"{self.model.folder} has no head for {target} with the rows of the split with seed {seed} in "
            "the same "
            "parts, and any other may have seen its test rows: give the --split and validation_fraction of "
            "that run, "
            f"or one alone of the repeats whose heads it kept ({', '.join(kept) or 'none'}), as --split "
            f"{splits_file}:N"
        )

    def _require_features(self, key: HeadKey, signatures: Mapping[str, Signature]) -> None:
        run = self.model.folder
        target, repeat = key
        own = dict(self.model.signatures)
        remedy = "fit on the stores that the run was fitted on"
        if keeps_finetuned_encoders(run):
            encoders = finetuned_encoders(run, target, repeat)
            own["image"] = encoders.image.signature
            own["text"] = encoders.text.signature
            origin = f"--finetuned {run} --target {target} --repeat {repeat}"
            remedy = f"fit on features of `tier extract DATA {origin}`"
        for stream, theirs in own.items():
            ours = signatures[stream]
            if (theirs.weights, theirs.feature) != (ours.weights, ours.feature):
                raise ProtocolError(
                    f"the head for {target} of repeat {repeat} of {run} was fitted on {stream} features of "
                    f"{theirs.encoder}, and those of {ours.encoder} are given: {remedy}"
                )


def _scorers(streams: Mapping[str, object]) -> str:
    """Return the names of zero-shot scorers among streams, separated by commas."""
    return ",".join(stream for stream in streams if stream not in STREAMS) or "none"


def _parts(split: StoredSplit) -> Parts:
    return frozenset(split.train), frozenset(split.validation), frozenset(split.test)
