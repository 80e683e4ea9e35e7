"""The search for weights and length-scales of the kernels of streams.

A candidate is a point of a grid: weights that are multiples of 1 / UNITS, a length-scale of each stream, and
a penalty. Its error is the mean squared residual of rows that are predicted without their prompt. A pattern
search (Hooke & Jeeves, Journal of the ACM 8, 1961) goes from equal weights to a candidate that no single move
improves; a move shifts weight between two kernels, or takes another length-scale or penalty.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Self

import numpy as np
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.lapack import dtrtri

from tier4k.heads.regressors.kernel_streams import KernelSum
from tier4k.heads.regressors.leave_out import can_leave_out, solve_groups

SEARCH_ROWS = 800  # rows that a search reads at most, as its time grows with their cube

SEARCH_SEED = 0  # draws these rows, the same ones for every head with equally many training rows

UNITS = 12  # divisible by 1, 2, 3, 4 and 6 kernels

STRIDES = (4, 2, 1)  # units of weight, and places in the list of penalties, of one move

LEAST_GAIN = 1e-3  # share of the error that a move must gain; less is far below the noise of the scores

Point = tuple[int, ...]
"""A candidate: units of each weight, and places of each length-scale and of the penalty in their lists."""


@dataclass(frozen=True)
class KernelSearch:
    """What candidates are made of and measured on.

    Attributes:
        names: Names of the kernels: first those of the streams, in the order of `distances`, then products.
        distances: |x_s - x'_s|^2 / d_s (N, N) of every two rows by stream.
        scores: Centred scores (N,).
        groups: (N,) prompt of each row; None to leave out single rows.
        length_scales: Length-scales to choose from, rising.
        penalties: Penalties to choose from, rising.
        errors: Errors of the candidates measured so far.
    """

    names: Sequence[str]
    distances: Mapping[str, np.ndarray]
    scores: np.ndarray
    groups: np.ndarray | None
    length_scales: Sequence[float]
    penalties: Sequence[float]
    errors: dict[Point, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        distances: Mapping[str, np.ndarray],
        scores: np.ndarray,
        groups: np.ndarray | None,
        length_scales: Sequence[float],
        penalties: Sequence[float],
    ) -> Self:
        """Return the search on all rows, or on `SEARCH_ROWS` rows drawn at random where there are more.

        Args:
            names, distances, scores: As the attributes.
            groups: (N,) prompt of each row; None if unknown.
            length_scales, penalties: Values to choose from, in any order.
        """
        order = np.random.RandomState(SEARCH_SEED).permutation(len(scores))
        drawn = np.sort(order[:SEARCH_ROWS])
        square = np.ix_(drawn, drawn)
        return cls(
            names,
            {stream: distance[square] for stream, distance in distances.items()},
            scores[drawn],
            None if groups is None else _left_out(groups[drawn]),
            sorted(set(length_scales)),
            sorted(set(penalties)),
        )

    def run(self) -> KernelSum:
        """Return length-scales and weights of the best candidate found.

        The first search has no products until it ends, and then continues with them: so products never
        increase its error. The second search has them from the start.
        """
        singles, every = len(self.distances), len(self.names)
        without_products = self._descend(self._start(singles), singles)
        found = [self._descend(start, every) for start in (without_products, self._start(every))]
        return self.kernels(min(found, key=self.error))

    def kernels(self, point: Point) -> KernelSum:
        """Return length-scales and weights of a candidate."""
        units, places = point[: len(self.names)], point[len(self.names) : -1]
        weights = {name: unit / UNITS for name, unit in zip(self.names, units, strict=True)}
        scales = [self.length_scales[place] for place in places]
        return KernelSum(dict(zip(self.distances, scales, strict=True)), weights)

    def error(self, point: Point) -> float:
        """Return the mean squared residual of rows predicted without their prompt; compute it only once."""
        if point not in self.errors:
            kernel = self.kernels(point).of_distances(self.distances)
            residuals = left_out_residuals(kernel, self.penalties[point[-1]], self.scores, self.groups)
            self.errors[point] = float(np.mean(residuals**2))
        return self.errors[point]

    def _start(self, count: int) -> Point:
        """Return the candidate with equal weights of the first kernels, in the middle of the other lists."""
        share, rest = divmod(UNITS, count)
        units = [share + (number < rest) for number in range(count)] + [0] * (len(self.names) - count)
        places = [len(self.length_scales) // 2] * len(self.distances)
        return (*units, *places, len(self.penalties) // 2)

    def _descend(self, point: Point, count: int) -> Point:
        """Return a candidate that no move improves, of any stride and with weight for the first kernels."""
        for stride in STRIDES:
            while (better := self._try_moves(point, stride, count)) != point:
                point = better
        return point

    def _try_moves(
        self,
        point: Point,
        stride: int,
        count: int,
    ) -> Point:
        """Make each move as often as it improves the candidate."""
        for move in self._moves(stride, count):
            while (moved := self._moved(point, move)) and self._improves(moved, point):
                point = moved
        return point

    def _moves(self, stride: int, count: int) -> Iterator[np.ndarray]:
        """Yield the differences of neighbouring candidates; weight moves among the first kernels."""
        size = len(self.names) + len(self.distances) + 1
        unit = np.eye(size, dtype=int)
        for gains, loses in permutations(range(count), 2):
            yield stride * (unit[gains] - unit[loses])
        for place in range(len(self.names), size - 1):
            yield from (unit[place], -unit[place])
        yield from (stride * unit[-1], -stride * unit[-1])

    def _moved(self, point: Point, move: np.ndarray) -> Point | None:
        """Return the neighbour of a candidate; None beyond the grid."""
        moved = np.add(point, move)
        scales = [len(self.length_scales) - 1] * len(self.distances)
        most = [*[UNITS] * len(self.names), *scales, len(self.penalties) - 1]
        if (moved < 0).any() or (moved > most).any():
            return None
        return tuple(moved.tolist())

    def _improves(self, moved: Point, point: Point) -> bool:
        return self.error(moved) < (1 - LEAST_GAIN) * self.error(point)


def _left_out(groups: np.ndarray) -> np.ndarray | None:
    """Return the groups (n,); None where single rows are left out: one group alone, or groups of one row."""
    is_single = len(np.unique(groups)) == len(groups)
    return groups if can_leave_out(groups) and not is_single else None


def left_out_residuals(
    kernel: np.ndarray,
    penalty: float,
    scores: np.ndarray,
    groups: np.ndarray | None,
) -> np.ndarray:
    """Return the residual of each row by a kernel ridge that is fitted without the rows of its group.

    With C = (K + p I)^-1 = F F' and a = Cy, the residuals of group g are (C_gg)^-1 a_g.

    Args:
        kernel: K (N, N).
        penalty: p.
        scores: y (N,).
        groups: (N,) group of each row; None to leave out single rows.

    Returns:
        (N,) residuals; infinite where K + p I is singular to rounding.
    """
    try:
        factor = cholesky(kernel + penalty * np.eye(len(kernel)), lower=True, check_finite=False)
    except LinAlgError:
        return np.full(len(scores), np.inf)
    factors = dtrtri(factor, lower=1)[0].T
    dual = factors @ (factors.T @ scores)
    if groups is None:
        return dual / (factors**2).sum(axis=1)
    return solve_groups(factors, np.ones((1, len(scores))), dual[None], groups)[0]
