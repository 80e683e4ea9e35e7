"""Residuals of rows that are predicted without their group, for every candidate from one decomposition."""

from collections.abc import Iterator

import numpy as np

LEAVE_OUT = ("row", "group")


def can_leave_out(groups: np.ndarray | None) -> bool:
    """Whether rows remain to fit on when a group (n,) is left out: the groups are known, two or more."""
    return groups is not None and len(np.unique(groups)) > 1


def solve_groups(
    factors: np.ndarray,
    weights: np.ndarray,
    values: np.ndarray,
    groups: np.ndarray,
    diagonal: float = 0.0,
    constant: float = 0.0,
) -> np.ndarray:
    """Return (M_gg)^-1 v_g of every group g, for M = diagonal I + constant 11' + F diag(w) F'.

    Args:
        factors: F (N, r).
        weights: w (P, r) of P candidates.
        values: v (P, N) of the candidates.
        groups: (N,) group of each row.
        diagonal, constant: The other two terms of M.
    """
    solved = np.empty_like(values)
    for rows in _groups_by_size(groups):
        block = factors[rows]
        transposed = np.ascontiguousarray(block.swapaxes(1, 2))
        fixed = diagonal * np.eye(rows.shape[1]) + constant
        for number, weight in enumerate(weights):
            matrices = (block * weight) @ transposed + fixed
            solved[number, rows] = np.linalg.solve(matrices, values[number, rows, None])[..., 0]
    return solved


def _groups_by_size(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, for each size m of a group, the row numbers (G, m) of the groups of this size."""
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    by_group = np.split(np.argsort(number, kind="stable"), np.cumsum(sizes)[:-1])
    for size in np.unique(sizes):
        yield np.stack([rows for rows in by_group if len(rows) == size])
