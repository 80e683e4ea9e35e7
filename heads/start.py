"""Heads that go on from those of another run: which one each starts from, and that it knows nothing of the test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.errors import TierError
from cache.signature import Signature
from cache.store import FeatureStore
from heads.choices import HeadName, Method
from heads.estimator import Weights
from heads.features import Rows
from heads.finetuned import finetuned_encoders, keeps_encoders
from heads.mlp import MLPHead
from heads.model import Model, Place, read_model
from heads.registry import HEADS
from heads.results import Results
from heads.splits import PARTS, Split, StoredSplits, split_names


class StartError(TierError):
    """A run whose heads cannot be gone on from."""


@dataclass(frozen=True)
class Start:
    """The fitted heads of a run, to be trained on.

    Attributes:
        run: Identity of the run.
        model: The heads.
        splits: Who was in which part when they were fitted.
    """

    run: str
    model: Model
    splits: StoredSplits

    @classmethod
    def read(cls, run: Path) -> "Start":
        """The heads of a run's folder.

        Raises:
            ModelError: It kept none.
            ResultError, SplitError: It cannot be read.
        """
        model = read_model(run)
        return cls(Results.read(run).id, model, StoredSplits.read(run / "splits.json"))

    def require_kind(self, method: Method, estimator: HeadName, stages: Sequence[str], scorers: Sequence[str]) -> None:
        """Refuse heads of another kind than those that are to be fitted.

        Raises:
            StartError: They are.
        """
        if HEADS[estimator].estimator is not MLPHead:
            raise StartError(f"a {estimator} head is not trained step by step, and so starts from nothing: use --head mlp, or no --start")
        own = {
            "--method": (self.model.method, method),
            "--head": (self.model.estimator, estimator),
            "--stages": (",".join(self.model.stages) or "all", ",".join(stages) or "all"),
            "--score-features": (",".join(sorted({*self.model.signatures} - {"image", "text"})), ",".join(sorted(scorers))),
        }
        for option, (theirs, ours) in own.items():
            if theirs != ours:
                raise StartError(
                    f"the heads of {self.model.folder} are of {option} {theirs or 'none'}, not {ours or 'none'}: give the same"
                )

    def weights(
        self, rows: Rows, targets: Sequence[str], splits: Sequence[Split], images: FeatureStore, texts: FeatureStore
    ) -> dict[Place, Weights]:
        """The weights that the head of each target and repeat starts from: of a head with the same rows in every part.

        Args:
            rows: The rows that the splits number.
            targets: Names of targets.
            splits: One for each repeat.
            images, texts: Stores of the features that the heads are to be fitted on.

        Raises:
            StartError: There is no such head, or it acts on other features.
        """
        parts, own = [_parts(one) for one in self.splits.repeats], [_parts(one) for one in split_names(rows, splits)]
        chosen = {
            (target, repeat): self._place(target, parts, own[repeat], split.seed)
            for target in targets
            for repeat, split in enumerate(splits)
        }
        for place in dict.fromkeys(chosen.values()):
            self._require_features(place, images, texts)
        return {place: self.model.heads[theirs].weights_ for place, theirs in chosen.items()}

    def _place(self, target: str, parts: Sequence[Any], wanted: Any, seed: int) -> Place:
        fitting = [(target, number) for number, one in enumerate(parts) if one == wanted and (target, number) in self.model.heads]
        if not fitting:
            raise StartError(
                f"{self.model.folder} has no head for {target} with the rows of the split with seed {seed} in the same parts, and any "
                "other may know its test rows: give the --split, --benchmark and validation_fraction of that run, and as --seed its seed "
                "plus the number of a repeat whose head it kept, with --repeats 1"
            )
        return next((place for place in fitting if self.model.seeds[place] == seed), fitting[0])

    def _require_features(self, place: Place, images: FeatureStore, texts: FeatureStore) -> None:
        signatures: Mapping[str, Signature] = self.model.signatures
        if keeps_encoders(self.model.folder):
            encoders = finetuned_encoders(self.model.folder, *place)
            signatures = {"image": encoders.image.signature, "text": encoders.text.signature}
        for stream, store in (("image", images), ("text", texts)):
            theirs, ours = signatures[stream], store.signature
            if (theirs.weights, theirs.feature) != (ours.weights, ours.feature):
                raise StartError(
                    f"the head for {place[0]} of repeat {place[1]} of {self.model.folder} acts on {stream} features of {theirs.encoder}, "
                    f"and those of {ours.encoder} are given: fit on features of `tier extract DATA --finetuned {self.model.folder} "
                    f"--target {place[0]} --repeat {place[1]}`, or of the stores that the run was fitted on"
                )


def _parts(repeat: Mapping[str, Any]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(repeat[part]) for part in PARTS)
