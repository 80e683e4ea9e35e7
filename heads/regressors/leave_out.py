"""Residuals of rows that are predicted without their group: one decomposition serves every candidate."""

from typing import TypeGuard

import numpy as np

LEAVE_OUT = ("row", "group")


def can_leave_out(groups: np.ndarray | None) -> TypeGuard[np.ndarray]:
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

    Returns:
        (P, N) in the order of the rows.
    """
    solved = np.empty_like(values)
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    by_group = np.argsort(number, kind="stable")
    for rows in np.split(by_group, np.cumsum(sizes)[:-1]):
        block = factors[rows]
        matrices = (block * weights[:, None]) @ block.T + diagonal * np.eye(len(rows)) + constant
        solved[:, rows] = np.linalg.solve(matrices, values[:, rows, None])[..., 0]
    return solved
