"""Scores of rows: of each target the mean over the heads, their spread, and the interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tier4k.cache.signature import Signature
from tier4k.heads.results.model import HeadKey, Model

CONTENT_BYTES = 16  # of the identity of a row's inputs, on which its scores depend


@dataclass(frozen=True)
class Scores:
    """Scores of N rows for T targets.

    Attributes:
        score: (N, T), NaN where a row has none.
        spread: (N, T) standard deviations of the heads, NaN for one head.
    """

    score: np.ndarray
    spread: np.ndarray

    @classmethod
    def none(cls, rows: int, targets: int) -> "Scores":
        """Return rows without scores."""
        return cls(np.full((rows, targets), np.nan), np.full((rows, targets), np.nan))

    def __len__(self) -> int:
        return len(self.score)

    @property
    def exists(self) -> np.ndarray:
        """Whether each row has scores (N,)."""
        return ~np.isnan(self.score).any(axis=1)

    def take(self, rows: np.ndarray) -> "Scores":
        """Return the rows that numbers or a mask choose."""
        return Scores(self.score[rows], self.spread[rows])

    def put(self, rows: np.ndarray, scores: "Scores") -> None:
        """Replace the rows that numbers choose."""
        self.score[rows] = scores.score
        self.spread[rows] = scores.spread


@dataclass(frozen=True)
class ScoreSummary:
    """How the predictions of heads become scores.

    A score is the mean over the heads of all repeats. The half-width of its interval is the mean of the
    half-widths of the heads, because the absolute error of the mean is at most the mean of the absolute
    errors; it is NaN if a head has no half-width.

    Attributes:
        heads: Targets and repeats of the heads.
        half_widths: Half-widths of the conformal intervals of heads, in units of the score.
    """

    heads: tuple[HeadKey, ...]
    half_widths: Mapping[HeadKey, float]

    @cached_property
    def repeats(self) -> dict[str, list[int]]:
        """Repeats of the heads by target."""
        repeats: dict[str, list[int]] = {}
        for target, repeat in self.heads:
            repeats.setdefault(target, []).append(repeat)
        return repeats

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the T targets."""
        return tuple(self.repeats)

    @cached_property
    def half_width(self) -> np.ndarray:
        """Half-width of the interval of each target (T,), NaN where there is none."""
        widths = []
        for target, repeats in self.repeats.items():
            of_heads = [self.half_widths.get((target, repeat), np.nan) for repeat in repeats]
            widths.append(np.mean(of_heads))
        return np.array(widths, float)

    def scores(self, predicted: Mapping[HeadKey, np.ndarray]) -> Scores:
        """Return the scores of N rows, given the predictions (N,) of each head."""
        score, spread = [], []
        for target, repeats in self.repeats.items():
            of_heads = np.stack([predicted[target, repeat] for repeat in repeats])
            score.append(of_heads.mean(axis=0))
            is_one = len(of_heads) == 1
            spread.append(np.full(of_heads.shape[1], np.nan) if is_one else of_heads.std(axis=0, ddof=1))
        return Scores(np.stack(score, axis=1), np.stack(spread, axis=1))

    def table(self, names: Sequence[str], scores: Scores) -> pd.DataFrame:
        """Return scores with one line for each row and target: name, target, score, low, high, spread.

        Args:
            names: Names of the N rows.
            scores: Their scores.
        """
        targets = self.targets
        columns = {
            "name": np.repeat(np.array(names, dtype=object), len(targets)),
            "target": np.tile(np.array(targets, dtype=object), len(names)),
            "score": scores.score.reshape(-1),
            "low": (scores.score - self.half_width).reshape(-1),
            "high": (scores.score + self.half_width).reshape(-1),
            "spread": scores.spread.reshape(-1),
        }
        return pd.DataFrame(columns)


def summary_of_scorer(signature: Signature) -> ScoreSummary:
    """Return how the scores of a published scorer are shown: as one head without an interval."""
    return ScoreSummary(((signature.encoder, 0),), {})


def summary_of_models(models: Sequence[Model]) -> ScoreSummary:
    """Return how the predictions of all heads of models become scores."""
    heads: list[HeadKey] = []
    half_widths: dict[HeadKey, float] = {}
    for model in models:
        heads.extend(model.heads)
        half_widths.update(model.half_widths)
    return ScoreSummary(tuple(heads), half_widths)
