"""Training the published head on the CPU, compiled by Numba.

What an optimizer finds in another core's cache costs it several times its own work, and in a step of few rows there is hardly any other.
Here the hidden units are parted once, each part is the same thread's in every step, and the update of a part follows at once on the product
that makes its gradient, which is written to a buffer of the thread's own. The products are BLAS's, one thread for each. An epoch is one
call, as whatever runs between two steps runs on caches that the weights have emptied. What comes out depends neither on the number of
threads nor on the heads that stand side by side.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numba import njit, prange
from threadpoolctl import ThreadpoolController
from torch import Tensor

from tier4k.heads.regressors.mlp.torch_backend import BETA1, BETA2, EPSILON, StackTrainer
from tier4k.heads.regressors.options import HeadError

PARTS, LEAST_UNITS = (
    8,
    32,
)  # how hidden units are parted; not by the number of threads, as other products may be rounded otherwise

BLOCK = 256  # rows predicted at once, whose hidden units stay in the cache

ZERO = np.float32(0)

Function = TypeVar("Function", bound=Callable[..., Any])

_one_at_a_time = Lock()

_process: list[int] = []  # whose threads Numba's are, once there are any

_blas = ThreadpoolController()


def _compiled(**options: Any) -> Callable[[Function], Function]:
    """The compiler with these options; what it made is kept beside this file or, where that cannot be written to, in the user's cache."""

    def compiled(function: Function) -> Function:
        try:
            return njit(function, cache=True, **options)
        except RuntimeError:  # neither can: every process compiles for itself
            return njit(function, **options)

    return compiled


@contextmanager
def threads() -> Iterator[int]:
    """As many of Numba's as of torch's, which is yielded, and one of BLAS in each; until then BLAS has one in the whole process.

    For one caller at a time, as not all of Numba's pools can be entered twice.

    Raises:
        HeadError: The process was forked from one that has fitted heads, whose threads it has not got.
    """
    if _process and os.getpid() not in _process and numba.threading_layer() == "omp":  # type: ignore[attr-defined]  # which would kill it
        raise HeadError(
            "heads were fitted before this process was forked, and threads do not survive that: start processes by 'spawn' or 'forkserver'"
        )
    with _one_at_a_time, _blas.limit(limits=1, user_api="blas"):
        before, workers = (
            numba.get_num_threads(),
            min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS),
        )  # type: ignore[attr-defined]
        numba.set_num_threads(workers)
        _process[:] = [os.getpid()]
        try:
            yield workers
        finally:
            numba.set_num_threads(before)


class NumbaTrainer(StackTrainer):
    """Of the published head and loss, on the CPU.

    Sums are rounded otherwise than by torch. A hidden unit that one of them finds just above 0 and the other just below takes training
    elsewhere, as it does between any two libraries.
    """

    def _hold(self, state: list[Tensor]) -> None:
        self.state = state  # gradients have no place in it

    def _epoch(self) -> Tensor:
        rows, scores = self._ordered()
        with threads() as workers:
            total = epoch(
                workers,
                tuple(flat.numpy() for flat in self.state),
                self._starts,
                (self.inputs.numpy(), self.mean[:, 0].numpy(), self.scale[:, 0].numpy()),
                rows.numpy(),
                scores.numpy(),
                int(min(self.recipe.batch_size, rows.shape[1])),
                *self._rates(),
                (np.float32(1 - BETA1), np.float32(BETA2), np.float32(1 - BETA2), np.float32(EPSILON)),
            )
        self.done += self.steps
        return torch.from_numpy(total / rows.shape[1])

    def _predicted(self, place: int, rows: Tensor, inputs: Tensor | None = None) -> np.ndarray:
        """By these threads too: torch's would stand in their way for a while."""
        one, source = slice(place, place + 1), self.inputs if inputs is None else inputs
        features = source.numpy(), self.mean[one, 0].numpy(), self.scale[one, 0].numpy()
        with threads() as workers:
            return predict(workers, self.state[0][one].numpy(), self._starts, features, rows[None].numpy())[
                0
            ].astype(np.float64)

    @property
    def _starts(self) -> tuple[int, ...]:
        return tuple(
            self.network.starts()[name] for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
        )

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


@_compiled(
    nogil=True
)  # not for speed alone: when Numba first looks for a product of BLAS's, its threads ask for the GIL
def epoch(
    workers: int,
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
        workers: Threads.
        state: Parameters and the two moments, each (K, P), which are changed.
        starts: Where in P the hidden layer's weights (h, d) and biases (h,) and the last layer's weights (h,) and bias begin.
        features: Fused vectors (N, d), and for each head mean and scale (K, d) that standardise them.
        rows: Numbers of the training rows (K, n), in the order of the epoch.
        scores: Their standardised scores (K, n).
        batch: Rows of a step, n at most.
        rates: Of each step and head (S, K, 3): the penalty that is added to gradients, what decay leaves of a weight, the step's size.
        roots: Of each step (S,), what the root of the second moment is multiplied by.
        constants: 1 - beta1, beta2, 1 - beta2, and epsilon. Not global ones, whose values are kept with the compiled code.
    """
    heads, count = rows.shape
    losses = np.zeros(heads)
    inputs, hidden, gradients_of = _buffers(heads, batch, starts, features)
    gradients = np.empty((workers, _units(hidden.shape[1]), inputs.shape[2]), np.float32)
    for step in range(len(rates)):
        here = slice(step * batch, min((step + 1) * batch, count))
        if here.stop - here.start < inputs.shape[1]:
            inputs, hidden, gradients_of = _buffers(heads, here.stop - here.start, starts, features)
        _standardize(features, rows[:, here], inputs)
        _activate(workers, state[0], starts, inputs, hidden)
        _score(state[0], starts, hidden, gradients_of)
        _differentiate(scores[:, here], gradients_of, losses)
        _descend(state, starts, inputs, hidden, gradients_of, gradients, rates[step], roots[step], constants)
    return losses


@_compiled(nogil=True)
def predict(
    workers: int,
    parameters: np.ndarray,
    starts: tuple[int, ...],
    features: tuple[np.ndarray, ...],
    rows: np.ndarray,
) -> np.ndarray:
    """Standardised scores (K, M) by K heads of rows (K, M); the arguments are those of `epoch`."""
    heads, count = rows.shape
    scores = np.empty((heads, count), np.float32)
    for start in range(0, count, BLOCK):
        here = slice(start, min(start + BLOCK, count))
        inputs, hidden, found = _buffers(heads, here.stop - here.start, starts, features)
        _standardize(features, rows[:, here], inputs)
        _activate(workers, parameters, starts, inputs, hidden)
        _score(parameters, starts, hidden, found)
        scores[:, here] = found
    return scores


@_compiled()
def _buffers(
    heads: int, rows: int, starts: tuple[int, ...], features: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Room for inputs (K, B, d), hidden units (K, h, B) and slopes (K, B)."""
    inputs = np.empty((heads, rows, features[0].shape[1]), np.float32)
    hidden = np.empty((heads, starts[2] - starts[1], rows), np.float32)
    return inputs, hidden, np.empty((heads, rows), np.float32)


@_compiled(parallel=True)
def _standardize(features: tuple[np.ndarray, ...], rows: np.ndarray, inputs: np.ndarray) -> None:
    """Inputs (K, B, d) of the rows (K, B)."""
    vectors, mean, scale = features
    heads, count = rows.shape
    for number in prange(heads * count):
        head, place = number // count, number % count
        vector, center, unit = vectors[rows[head, place]], mean[head], scale[head]
        for c in range(len(vector)):
            inputs[head, place, c] = (vector[c] - center[c]) / unit[c]


@_compiled()
def _units(units: int) -> int:
    """Hidden units of a part; the last one of a head may have fewer."""
    return max(-(-units // PARTS), LEAST_UNITS)


@_compiled()
def _share(worker: int, workers: int, heads: int, units: int) -> tuple[int, int]:
    """The numbers [first, last) of the parts of all heads that are one thread's."""
    signed: int = np.int64(worker)  # type: ignore[assignment]  # prange's have no sign, and make a float with one that has
    parts = heads * -(-units // _units(units))
    return signed * parts // workers, (signed + 1) * parts // workers


@_compiled()
def _part(number: int, units: int) -> tuple[int, int, int]:
    """Of which head the part of this number is, and its units [begin, end)."""
    size = _units(units)
    head, place = divmod(number, -(-units // size))
    return head, place * size, min((place + 1) * size, units)


@_compiled(parallel=True)
def _activate(
    workers: int, parameters: np.ndarray, starts: tuple[int, ...], inputs: np.ndarray, hidden: np.ndarray
) -> None:
    """Hidden units (K, h, B) of inputs (K, B, d)."""
    heads, units, rows = hidden.shape
    columns = inputs.shape[2]
    for worker in prange(workers):
        first, last = _share(worker, workers, heads, units)
        for number in range(first, last):
            head, begin, end = _part(number, units)
            weights = parameters[head, starts[0] + begin * columns : starts[0] + end * columns].reshape(
                end - begin, columns
            )
            np.dot(weights, inputs[head].T, hidden[head, begin:end])
            for unit in range(begin, end):
                bias = parameters[head, starts[1] + unit]
                for row in range(rows):
                    value = hidden[head, unit, row] + bias
                    hidden[head, unit, row] = ZERO if value < 0 else value  # NaN stays NaN


@_compiled(fastmath={"contract"})
def _score(parameters: np.ndarray, starts: tuple[int, ...], hidden: np.ndarray, scores: np.ndarray) -> None:
    """Scores (K, B) of hidden units (K, h, B)."""
    heads, units, rows = hidden.shape
    for head in range(heads):
        found = scores[head]
        found[:] = parameters[head, starts[3]]
        for unit in range(units):
            last = parameters[head, starts[2] + unit]
            for row in range(rows):
                found[row] += last * hidden[head, unit, row]


@_compiled()
def _differentiate(scores: np.ndarray, gradients_of: np.ndarray, losses: np.ndarray) -> None:
    """Of the scores found (K, B), in their place, the slopes of the mean squared errors by them; the squares are added to the losses."""
    heads, rows = scores.shape
    for head in range(heads):
        for row in range(rows):
            error = gradients_of[head, row] - scores[head, row]
            losses[head] += error * error
            gradients_of[head, row] = error * np.float32(2 / rows)


@_compiled(parallel=True, fastmath={"contract"})
def _descend(
    state: tuple[np.ndarray, ...],
    starts: tuple[int, ...],
    inputs: np.ndarray,
    hidden: np.ndarray,
    gradients_of: np.ndarray,
    gradients: np.ndarray,
    rates: np.ndarray,
    root: np.float32,
    constants: tuple[np.float32, ...],
) -> None:
    """One step of Adam or AdamW along the slopes (K, B), each hidden unit with its bias and what the last layer multiplies it by."""
    heads, units, _ = hidden.shape
    columns = inputs.shape[2]
    workers = len(gradients)
    for worker in prange(workers):
        first, last = _share(worker, workers, heads, units)
        for number in range(first, last):
            head, begin, end = _part(number, units)
            p, m, v, rate = state[0][head], state[1][head], state[2][head], rates[head]
            for unit in range(begin, end):
                by_last, by_bias = _through_relu(hidden[head, unit], gradients_of[head], p[starts[2] + unit])
                _move(p, m, v, starts[2] + unit, by_last, rate, root, constants)
                _move(p, m, v, starts[1] + unit, by_bias, rate, root, constants)
            by_weight = gradients[worker, : end - begin]
            np.dot(hidden[head, begin:end], inputs[head], by_weight)
            part = slice(starts[0] + begin * columns, starts[0] + end * columns)
            weights, means, squares, slope = p[part], m[part], v[part], by_weight.reshape(-1)
            for place in range(len(slope)):
                _move(weights, means, squares, place, slope[place], rate, root, constants)
    for head in range(heads):
        by_bias = ZERO
        for slope_of_row in gradients_of[
            head
        ]:  # not to be summed by a method, which would be shared out among threads
            by_bias += slope_of_row
        _move(
            state[0][head], state[1][head], state[2][head], starts[3], by_bias, rates[head], root, constants
        )


@_compiled(fastmath={"contract", "reassoc", "nsz"})
def _through_relu(
    hidden: np.ndarray, gradients_of: np.ndarray, last: np.float32
) -> tuple[np.float32, np.float32]:
    """The slopes by what the last layer multiplies a hidden unit (B,) by and by its bias; it becomes the slopes by what ReLU is given."""
    by_last, by_bias = ZERO, ZERO
    for row in range(len(hidden)):
        by_last += gradients_of[row] * hidden[row]
        hidden[row] = ZERO if hidden[row] <= 0 else gradients_of[row] * last
        by_bias += hidden[row]
    return by_last, by_bias


@_compiled(
    fastmath={"contract"}, inline="always"
)  # without which the loop over the weights is not vectorised
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
    gain, kept, squared_gain, epsilon = constants
    gradient += rates[0] * parameters[place]
    mean = means[place] + gain * (gradient - means[place])
    square = (
        kept * squares[place] + squared_gain * gradient * gradient
    )  # infinite where it is beyond float32, and never NaN after that
    means[place], squares[place] = mean, square
    parameters[place] = rates[1] * parameters[place] - rates[2] * mean / (math.sqrt(square) * root + epsilon)
