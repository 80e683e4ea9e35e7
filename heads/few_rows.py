"""Training the published head in steps of at most eight rows, compiled by Numba for the CPU.

With so few rows there is little to compute and much to move: a library's product for the gradient writes it to memory, and the optimizer
reads it back. Here the update of a weight computes its gradient, eight products, where it is used, so that a step reads the weights twice
and the moments once, and no gradients are written. A hidden unit's weights and moments are the same thread's in every step, but for units
at the border, and stay in that core's cache. An epoch is one call, as whatever runs between two steps runs on caches that the weights have
emptied. What comes out depends neither on the number of threads nor on the heads that stand side by side.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from heads.passes import BETA1, BETA2, EPSILON, FEW_ROWS, Pass

ROWS = FEW_ROWS  # their sums stay in registers
ZERO = np.float32(0)
Function = TypeVar("Function", bound=Callable[..., Any])
_one_at_a_time = Lock()


def _compiled(**options: Any) -> Callable[[Function], Function]:
    """The compiler with these options; what it made is kept beside this file or, where that cannot be written to, in the user's cache."""

    def compiled(function: Function) -> Function:
        try:
            return njit(function, cache=True, **options)
        except RuntimeError:  # neither can: every process compiles for itself
            return njit(function, **options)

    return compiled


@contextmanager
def threads() -> Iterator[None]:
    """Numba has as many as torch; one caller at a time, as not all of its pools may be entered twice."""
    with _one_at_a_time:
        before = numba.get_num_threads()
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        try:
            yield
        finally:
            numba.set_num_threads(before)


class FewRowsPass(Pass):
    """Of the published head, in steps of at most `FEW_ROWS` rows, on the CPU.

    Sums are rounded otherwise than by torch. A hidden unit that one of them finds just above 0 and the other just below takes training
    elsewhere, as it does between any two libraries.
    """

    def _epoch(self) -> Tensor:
        rows, scores = self._ordered()
        parameters, _, *moments = (flat.numpy() for flat in self.state)
        features = self.inputs.numpy(), self.mean[:, 0].numpy(), self.scale[:, 0].numpy()
        with threads():
            total = epoch(
                (parameters, *moments),
                tuple(self.network.starts()[name] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")),
                features,
                rows.numpy(),
                scores.numpy(),
                self.recipe.batch_size,
                *self._rates(),
                (np.float32(1 - BETA1), np.float32(1 - BETA2), np.float32(EPSILON)),
            )
        self.done += self.steps
        return torch.from_numpy(total / rows.shape[1])

    def _rates(self) -> tuple[np.ndarray, np.ndarray]:
        """What `epoch` calls rates (S, K, 3) and roots (S,), of the next epoch."""
        number = self.done + np.arange(1, self.steps + 1)
        factor = np.array([self._factor(step - 1) for step in number.tolist()])
        rate, penalty = np.array([member.rates for member in self.members]).T
        rate = factor[:, None] * rate
        added, taken = (0.0, rate * penalty) if self.recipe.optimizer == "adamw" else (penalty, 0.0)
        size = rate / (1 - BETA1**number)[:, None]
        with np.errstate(over="ignore"):  # what is beyond float32 diverges, as it should
            rates = np.stack(np.broadcast_arrays(added, 1 - taken, size), 2).astype(np.float32)
        return rates, (1 / np.sqrt(1 - BETA2**number)).astype(np.float32)


@_compiled(nogil=True)
def epoch(
    state: tuple[np.ndarray, ...],
    starts: tuple[int, ...],
    features: tuple[np.ndarray, ...],
    rows: np.ndarray,
    scores: np.ndarray,
    batch: int,
    rates: np.ndarray,
    roots: np.ndarray,
    constants: tuple[np.float32, ...],
) -> np.ndarray:
    """All S steps of an epoch of K heads; the sums (K,) of the squared errors before each step. Floats are float32.

    Args:
        state: Parameters and the two moments, each (K, P), which are changed.
        starts: Where in P the hidden layer's weights (h, d) and biases (h,) and the last layer's weights (h,) and bias begin.
        features: Fused vectors (N, d), and for each head mean and scale (K, d) that standardise them.
        rows: Numbers of the training rows (K, n), in the order of the epoch.
        scores: Their standardised scores (K, n).
        batch: Rows of a step, `ROWS` at most.
        rates: Of each step and head (S, K, 3): the penalty that is added to gradients, what decay leaves of a weight, the step's size.
        roots: Of each step (S,), what the root of the second moment is multiplied by.
        constants: 1 - beta1, 1 - beta2, and epsilon. Not global ones, whose values are kept with the compiled code.
    """
    heads, count = rows.shape
    inputs = np.empty((heads, ROWS, features[0].shape[1]), np.float32)
    hidden = np.empty((heads, starts[2] - starts[1], ROWS), np.float32)
    slopes = np.empty((heads, ROWS), np.float32)
    losses = np.zeros(heads)
    for step in range(len(rates)):
        here = slice(step * batch, min((step + 1) * batch, count))
        _standardize(features, rows[:, here], inputs)
        _activate(state[0], starts, inputs, hidden)
        _differentiate(state[0], starts, hidden, scores[:, here], slopes, losses)
        _descend(state, starts, inputs, hidden, slopes, rates[step], roots[step], constants)
    return losses


@_compiled(parallel=True)
def _standardize(features: tuple[np.ndarray, ...], rows: np.ndarray, inputs: np.ndarray) -> None:
    """Inputs (K, 8, d) of the rows (K, B); zeros where B is less than 8."""
    vectors, mean, scale = features
    heads, count = rows.shape
    inputs[:, count:] = ZERO
    for number in prange(heads * count):
        head, place = number // count, number % count
        vector, center, unit = vectors[rows[head, place]], mean[head], scale[head]
        for c in range(len(vector)):
            inputs[head, place, c] = (vector[c] - center[c]) / unit[c]


@_compiled(parallel=True, fastmath={"contract", "reassoc", "nsz"})
def _activate(parameters: np.ndarray, starts: tuple[int, ...], inputs: np.ndarray, hidden: np.ndarray) -> None:
    """Hidden units (K, h, 8) of inputs (K, 8, d)."""
    heads, units, _ = hidden.shape
    columns = inputs.shape[2]
    pairs = (units + 1) // 2
    for pair in prange(heads * pairs):  # of units: an input is fetched once for both
        head, one = pair // pairs, 2 * (pair % pairs)
        other = min(one + 1, units - 1)
        x, p = inputs[head], parameters[head, starts[0] :]
        v, w = p[one * columns : (one + 1) * columns], p[other * columns : (other + 1) * columns]
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = ZERO
        b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = ZERO
        for c in range(columns):
            a0 += v[c] * x[0, c]
            a1 += v[c] * x[1, c]
            a2 += v[c] * x[2, c]
            a3 += v[c] * x[3, c]
            a4 += v[c] * x[4, c]
            a5 += v[c] * x[5, c]
            a6 += v[c] * x[6, c]
            a7 += v[c] * x[7, c]
            b0 += w[c] * x[0, c]
            b1 += w[c] * x[1, c]
            b2 += w[c] * x[2, c]
            b3 += w[c] * x[3, c]
            b4 += w[c] * x[4, c]
            b5 += w[c] * x[5, c]
            b6 += w[c] * x[6, c]
            b7 += w[c] * x[7, c]
        bias = parameters[head, starts[1] :]
        for row, (a, b) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3), (a4, b4), (a5, b5), (a6, b6), (a7, b7))):
            hidden[head, one, row] = _rectified(a + bias[one])
            hidden[head, other, row] = _rectified(b + bias[other])


@_compiled()
def _rectified(value: np.float32) -> np.float32:
    """ReLU; NaN stays NaN."""
    return ZERO if value < 0 else value


@_compiled(fastmath={"contract"})
def _differentiate(
    parameters: np.ndarray, starts: tuple[int, ...], hidden: np.ndarray, scores: np.ndarray, slopes: np.ndarray, losses: np.ndarray
) -> None:
    """The slopes (K, 8) of the mean squared errors by what hidden units are made; the squared errors are added to the losses."""
    heads, units, _ = hidden.shape
    for head in range(heads):
        found = slopes[head]  # for now
        found[:] = parameters[head, starts[3]]
        for unit in range(units):
            last = parameters[head, starts[2] + unit]
            for row in range(ROWS):
                found[row] += last * hidden[head, unit, row]
        count = scores.shape[1]
        for row in range(count):
            error = found[row] - scores[head, row]
            losses[head] += error * error
            slopes[head, row] = error * np.float32(2 / count)
        slopes[head, count:] = ZERO


@_compiled(parallel=True, fastmath={"contract"})
def _descend(
    state: tuple[np.ndarray, ...],
    starts: tuple[int, ...],
    inputs: np.ndarray,
    hidden: np.ndarray,
    slopes: np.ndarray,
    rates: np.ndarray,
    root: np.float32,
    constants: tuple[np.float32, ...],
) -> None:
    """One step of Adam or AdamW along the slopes (K, 8), each hidden unit with its bias and what the last layer multiplies it by."""
    heads, units, _ = hidden.shape
    columns = inputs.shape[2]
    for number in prange(heads * units):
        head, unit = number // units, number % units
        x, e, h = inputs[head], slopes[head], hidden[head, unit]
        p, m, v = state[0][head], state[1][head], state[2][head]
        last = p[starts[2] + unit]
        s0 = ZERO if h[0] <= 0 else e[0] * last
        s1 = ZERO if h[1] <= 0 else e[1] * last
        s2 = ZERO if h[2] <= 0 else e[2] * last
        s3 = ZERO if h[3] <= 0 else e[3] * last
        s4 = ZERO if h[4] <= 0 else e[4] * last
        s5 = ZERO if h[5] <= 0 else e[5] * last
        s6 = ZERO if h[6] <= 0 else e[6] * last
        s7 = ZERO if h[7] <= 0 else e[7] * last
        by_last = e[0] * h[0] + e[1] * h[1] + e[2] * h[2] + e[3] * h[3] + e[4] * h[4] + e[5] * h[5] + e[6] * h[6] + e[7] * h[7]
        _move(p, m, v, starts[2] + unit, by_last, rates[head], root, constants)
        _move(p, m, v, starts[1] + unit, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7, rates[head], root, constants)
        begin = starts[0] + unit * columns
        row = slice(begin, begin + columns)
        weights, means, squares, rate = p[row], m[row], v[row], rates[head]
        for c in range(columns):
            by_weight = s0 * x[0, c] + s1 * x[1, c] + s2 * x[2, c] + s3 * x[3, c]
            by_weight += s4 * x[4, c] + s5 * x[5, c] + s6 * x[6, c] + s7 * x[7, c]
            _move(weights, means, squares, c, by_weight, rate, root, constants)
    for head in range(heads):
        e = slopes[head]  # not to be summed by a method, which would be shared out among threads
        by_bias = e[0] + e[1] + e[2] + e[3] + e[4] + e[5] + e[6] + e[7]
        _move(state[0][head], state[1][head], state[2][head], starts[3], by_bias, rates[head], root, constants)


@_compiled(fastmath={"contract"}, inline="always")  # without which the loop over the weights is not vectorised
def _move(
    parameters: np.ndarray,
    means: np.ndarray,
    squares: np.ndarray,
    place: int,
    gradient: np.float32,
    rates: np.ndarray,
    root: np.float32,
    constants: tuple[np.float32, ...],
) -> None:
    """One parameter by Adam's rule (Kingma and Ba 2015) or AdamW's (Loshchilov and Hutter 2019)."""
    gain, squared_gain, epsilon = constants
    gradient += rates[0] * parameters[place]
    mean = means[place] + gain * (gradient - means[place])
    square = squares[place] + squared_gain * (gradient * gradient - squares[place])
    means[place], squares[place] = mean, square
    parameters[place] = rates[1] * parameters[place] - rates[2] * mean / (math.sqrt(square) * root + epsilon)
