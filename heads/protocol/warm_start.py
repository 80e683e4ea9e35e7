"""Heads that go on from those of another run: which one each starts from, and that it knows nothing of the test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tier4k.cache.errors import TierError
from tier4k.cache.signature import Signature
from tier4k.heads.data.features import Rows
from tier4k.heads.data.split_files import StoredSplits, split_names
from tier4k.heads.data.splits import PARTS, Split, SplitError
from tier4k.heads.encoders.finetuned import finetuned_encoders, keeps_finetuned_encoders
from tier4k.heads.regressors.base import Weights
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.registry import HEADS
from tier4k.heads.results.config import RunConfig
from tier4k.heads.results.files import read_config
from tier4k.heads.results.model import HeadKey, Model, read_model
from tier4k.heads.results.results import Results

STREAMS = ("image", "text")


class StartError(TierError):
    """A run whose heads cannot be gone on from."""


@dataclass(frozen=True)
class Start:
    """The fitted heads of a run, to be trained on.

    Attributes:
        run: Identity of the run.
        model: The heads.
        splits: Who was in which part when they were fitted.
        data_digest: `Manifest.digest` of the rows that they were fitted on.
    """

    run: str
    model: Model
    splits: StoredSplits
    data_digest: str

    @classmethod
    def read(cls, run: Path) -> "Start":
        """The heads of a run's folder.

        Raises:
            ModelError: It kept none.
            ResultError: It cannot be read.
            StartError: Its splits cannot.
        """
        model = read_model(run)
        try:
            splits = StoredSplits.read(run / "splits.json")
        except SplitError as error:
            raise StartError(
                f"{run / 'splits.json'} cannot be read, so what its heads know is not known: fit the run again"
            ) from error
        return cls(Results.read(run).id, model, splits, read_config(run)["data_digest"])

    def require_like(self, config: RunConfig) -> None:
        """Refuse heads of other rows, or of another kind, than those that are to be fitted.

        Raises:
            StartError: They are.
        """
        for head in (self.model.estimator, config.estimator):
            if HEADS[cast(HeadName, head)].estimator is not MLPHead:
                raise StartError(
                    f"heads of --head {head} are not trained in steps, so --start has nothing to do with them: leave it out"
                )
        if self.data_digest != config.data_digest:
            # Equal names in equal parts could be other pictures, and a test picture one that the head was fitted on.
            raise StartError(
                f"the heads of {self.model.folder} were fitted on other rows than these of {config.data}, or on other scores: give the "
                "data set and --benchmark of that run"
            )
        model, scorers = self.model, [stream for stream in config.signatures if stream not in STREAMS]
        own = {
            "--method": (model.method, config.method),
            "--head": (model.estimator, config.estimator),
            "--stages": (",".join(model.stages) or "all", ",".join(config.stages) or "all"),
            "--score-features": (
                ",".join(one for one in model.signatures if one not in STREAMS) or "none",
                ",".join(scorers) or "none",
            ),
            "--set activation": (
                model.options.get("activation"),
                config.head["activation"],
            ),  # same weights, another function
        }
        for option, (theirs, ours) in own.items():
            if theirs != ours:
                raise StartError(
                    f"the heads of {model.folder} are of {option} {theirs}, not {ours}: give the same"
                )

    def weights(
        self, rows: Rows, targets: Sequence[str], splits: Sequence[Split], signatures: Mapping[str, Signature]
    ) -> dict[HeadKey, Weights]:
        """The weights that the head of each target and repeat starts from: of a head with the same rows in every part.

        Args:
            rows: The rows that the splits number.
            targets: Names of targets.
            splits: One for each repeat.
            signatures: Of the features that the heads are to be fitted on, by the names of `Model.signatures`.

        Raises:
            StartError: There is no such head, or it acts on other features.
        """
        parts, own = (
            [_parts(one) for one in self.splits.repeats],
            [_parts(one) for one in split_names(rows, splits)],
        )
        chosen = {
            (target, repeat): self._place(target, parts, own[repeat], split.seed)
            for target in targets
            for repeat, split in enumerate(splits)
        }
        for place in dict.fromkeys(chosen.values()):
            self._require_features(place, signatures)
        return {place: self.model.heads[theirs].weights_ for place, theirs in chosen.items()}

    def _place(self, target: str, parts: Sequence[Any], wanted: Any, seed: int) -> HeadKey:
        fitting = [
            (target, number)
            for number, one in enumerate(parts)
            if one == wanted and (target, number) in self.model.heads
        ]
        if not fitting:
            kept = (
                ", ".join(str(number) for name, number in sorted(self.model.heads) if name == target)
                or "none"
            )
            raise StartError(
                f"{self.model.folder} has no head for {target} with the rows of the split with seed {seed} in the same parts, and any "
                f"other may know its test rows: give the --split and validation_fraction of that run, or one alone of the repeats whose "
                f"heads it kept ({kept}), as --split {self.model.folder / 'splits.json'}:N"
            )
        return next((place for place in fitting if self.model.seeds[place] == seed), fitting[0])

    def _require_features(self, place: HeadKey, signatures: Mapping[str, Signature]) -> None:
        run, (target, repeat) = self.model.folder, place
        own, remedy = dict(self.model.signatures), "fit on the stores that the run was fitted on"
        if keeps_finetuned_encoders(run):
            encoders = finetuned_encoders(run, target, repeat)
            own |= {"image": encoders.image.signature, "text": encoders.text.signature}
            remedy = f"fit on features of `tier extract DATA --finetuned {run} --target {target} --repeat {repeat}`"
        for stream, theirs in own.items():
            ours = signatures[stream]
            if (theirs.weights, theirs.feature) != (ours.weights, ours.feature):
                raise StartError(
                    f"the head for {target} of repeat {repeat} of {run} acts on {stream} features of {theirs.encoder}, and those of "
                    f"{ours.encoder} are given: {remedy}"
                )


def _parts(repeat: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(repeat[part]) for part in PARTS)
