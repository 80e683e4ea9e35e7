"""The compiled steps of training the published head, for K heads of h hidden units side by side.

Cross-core cache misses dominate small-batch optimizer steps. So the hidden units are divided into parts once,
and the same thread handles a part in every step. The update of a part follows immediately on the product that
computes its gradient, which is written to a buffer of that thread. BLAS computes the products, with one
thread each. An epoch is one call, as any code between two steps would run on caches that the weights have
emptied.

Results depend neither on the number of threads nor on the other heads of the stack. Floats are float32.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from tier4k.extract.images.compile import compiled

# Division of the hidden units into parts. It does not depend on the number of threads: products of other
# shapes may be rounded differently.
PARTS = 8
LEAST_UNITS = 32

BLOCK = 256  # rows predicted at once, whose hidden units stay in the cache

ZERO = np.float32(0)


class Starts(NamedTuple):
    """Positions in a head's flat parameters (P,) at which its tensors begin."""

    hidden_weights: int
    hidden_biases: int
    last_weights: int
    last_bias: int


class AdamState(NamedTuple):
    """Parameters and Adam's two moments, each (K, P)."""

    parameters: np.ndarray
    first_moments: np.ndarray
    second_moments: np.ndarray


class Features(NamedTuple):
    """Fused vectors (N, d), and for each head the mean and scale (K, d) that standardise them."""

    vectors: np.ndarray
    mean: np.ndarray
    scale: np.ndarray


class AdamConstants(NamedTuple):
    """1 - beta1, beta2, 1 - beta2 and epsilon.

    The constants are arguments, as values of globals are kept with the compiled code.
    """

    gain: np.float32
    kept: np.float32
    squared_gain: np.float32
    epsilon: np.float32


# nogil is not only for speed: when Numba first looks BLAS up, its threads wait for the GIL.
@compiled(nogil=True)
def train_epoch(
    workers: int,
    state: AdamState,
    starts: Starts,
    features: Features,
    rows: np.ndarray,
    scores: np.ndarray,
    batch_size: int,
    rates: np.ndarray,
    root_factors: np.ndarray,
    constants: AdamConstants,
) -> np.ndarray:
    """Train for the S steps of an epoch; return the sums (K,) of the squared errors before each step.

    Args:
        workers: Number of threads.
        state: Parameters and moments, which are changed.
        starts: Positions of the tensors.
        features: Fused vectors and their standardisation.
        rows: Numbers of the training rows (K, n), in the order of the epoch.
        scores: Standardised scores (K, n) of the training rows.
        batch_size: Rows of a step, n at most.
        rates: L2 penalty, factor that weight decay multiplies a weight by, and step size, for each step and
            head (S, K, 3).
        root_factors: Factor (S,) of the second moment's root in each step.
        constants: Adam's constants.
    """
    heads, count = rows.shape
    losses = np.zeros(heads)
    inputs, hidden, score_gradients = _buffers(heads, batch_size, starts, features)
    weight_gradients = np.empty((workers, _part_size(hidden.shape[1]), inputs.shape[2]), np.float32)
    for step in range(len(rates)):
        batch = slice(step * batch_size, min((step + 1) * batch_size, count))
        if batch.stop - batch.start < inputs.shape[1]:
            inputs, hidden, score_gradients = _buffers(heads, batch.stop - batch.start, starts, features)
        _standardize(features, rows[:, batch], inputs)
        _hidden_units(workers, state.parameters, starts, inputs, hidden)
        _scores(state.parameters, starts, hidden, score_gradients)
        _to_score_gradients(scores[:, batch], score_gradients, losses)
        step_rates = rates[step]
        root_factor = root_factors[step]
        _update(
            state,
            starts,
            inputs,
            hidden,
            score_gradients,
            weight_gradients,
            step_rates,
            root_factor,
            constants,
        )
        _update_last_biases(state, starts, score_gradients, step_rates, root_factor, constants)
    return losses


@compiled(nogil=True)
def predict(
    workers: int,
    parameters: np.ndarray,
    starts: Starts,
    features: Features,
    rows: np.ndarray,
) -> np.ndarray:
    """Return standardised scores (K, M) by K heads.

    Args:
        workers: Number of threads.
        parameters: Parameters (K, P) of the heads.
        starts: Positions of the tensors.
        features: Fused vectors and their standardisation.
        rows: Numbers of the rows (K, M).
    """
    heads, count = rows.shape
    scores = np.empty((heads, count), np.float32)
    for start in range(0, count, BLOCK):
        block = slice(start, min(start + BLOCK, count))
        inputs, hidden, block_scores = _buffers(heads, block.stop - block.start, starts, features)
        _standardize(features, rows[:, block], inputs)
        _hidden_units(workers, parameters, starts, inputs, hidden)
        _scores(parameters, starts, hidden, block_scores)
        scores[:, block] = block_scores
    return scores


@compiled()
def _buffers(
    heads: int, rows: int, starts: Starts, features: Features
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make buffers for inputs (K, B, d), hidden units (K, h, B) and scores or their gradients (K, B)."""
    units = starts.last_weights - starts.hidden_biases
    inputs = np.empty((heads, rows, features.vectors.shape[1]), np.float32)
    hidden = np.empty((heads, units, rows), np.float32)
    scores = np.empty((heads, rows), np.float32)
    return inputs, hidden, scores


@compiled(parallel=True)
def _standardize(
    features: Features,
    rows: np.ndarray,
    inputs: np.ndarray,
) -> None:
    """Write the inputs (K, B, d) of rows (K, B)."""
    vectors, mean, scale = features
    heads, count = rows.shape
    for number in prange(heads * count):
        head = number // count
        place = number % count
        vector = vectors[rows[head, place]]
        center = mean[head]
        unit = scale[head]
        for column in range(len(vector)):
            inputs[head, place, column] = (vector[column] - center[column]) / unit[column]


@compiled()
def _part_size(units: int) -> int:
    """Return the number of hidden units of a part; the last part of a head may have fewer."""
    return max(-(-units // PARTS), LEAST_UNITS)


@compiled()
def _parts_of_worker(
    worker: int,
    workers: int,
    heads: int,
    units: int,
) -> tuple[int, int]:
    """Return the numbers [first, last) of one thread's parts among the parts of all heads."""
    # prange counts without sign, and an unsigned number with a signed one makes a float.
    signed: int = np.int64(worker)  # type: ignore[assignment]
    parts = heads * -(-units // _part_size(units))
    return signed * parts // workers, (signed + 1) * parts // workers


@compiled()
def _part(number: int, units: int) -> tuple[int, int, int]:
    """Return the head of the part with this number, and the hidden units [begin, end) of the part."""
    size = _part_size(units)
    head, place = divmod(number, -(-units // size))
    return head, place * size, min((place + 1) * size, units)


@compiled(parallel=True)
def _hidden_units(
    workers: int,
    parameters: np.ndarray,
    starts: Starts,
    inputs: np.ndarray,
    hidden: np.ndarray,
) -> None:
    """Write the hidden units (K, h, B) of inputs (K, B, d)."""
    heads, units, rows = hidden.shape
    columns = inputs.shape[2]
    for worker in prange(workers):
        first, last = _parts_of_worker(worker, workers, heads, units)
        for number in range(first, last):
            head, begin, end = _part(number, units)
            start = starts.hidden_weights + begin * columns
            stop = starts.hidden_weights + end * columns
            weights = parameters[head, start:stop].reshape(end - begin, columns)
            np.dot(weights, inputs[head].T, hidden[head, begin:end])
            for unit in range(begin, end):
                bias = parameters[head, starts.hidden_biases + unit]
                for row in range(rows):
                    value = hidden[head, unit, row] + bias
                    hidden[head, unit, row] = ZERO if value < 0 else value  # NaN stays NaN


@compiled(fastmath={"contract"})
def _scores(
    parameters: np.ndarray,
    starts: Starts,
    hidden: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Write the scores (K, B) of hidden units (K, h, B)."""
    heads, units, rows = hidden.shape
    for head in range(heads):
        head_scores = scores[head]
        head_scores[:] = parameters[head, starts.last_bias]
        for unit in range(units):
            weight = parameters[head, starts.last_weights + unit]
            for row in range(rows):
                head_scores[row] += weight * hidden[head, unit, row]


@compiled()
def _to_score_gradients(
    scores: np.ndarray,
    predicted: np.ndarray,
    losses: np.ndarray,
) -> None:
    """Replace predicted scores (K, B) by the gradients of the mean squared errors.

    The squared errors are added to the losses (K,).
    """
    heads, rows = scores.shape
    for head in range(heads):
        for row in range(rows):
            error = predicted[head, row] - scores[head, row]
            losses[head] += error * error
            predicted[head, row] = error * np.float32(2 / rows)


@compiled(parallel=True, fastmath={"contract"})
def _update(
    state: AdamState,
    starts: Starts,
    inputs: np.ndarray,
    hidden: np.ndarray,
    score_gradients: np.ndarray,
    weight_gradients: np.ndarray,
    rates: np.ndarray,
    root_factor: np.float32,
    constants: AdamConstants,
) -> None:
    """Update all parameters but the last biases by Adam or AdamW, from the gradients by the scores (K, B).

    A part's hidden units are updated together with their biases and the last layer's weights.
    """
    heads, units, _ = hidden.shape
    columns = inputs.shape[2]
    workers = len(weight_gradients)
    for worker in prange(workers):
        first, last = _parts_of_worker(worker, workers, heads, units)
        for number in range(first, last):
            head, begin, end = _part(number, units)
            parameters = state.parameters[head]
            means = state.first_moments[head]  # moving means of gradients and of their squares
            squares = state.second_moments[head]
            head_rates = rates[head]
            for unit in range(begin, end):
                last_weight = starts.last_weights + unit
                bias = starts.hidden_biases + unit
                by_last, by_bias = _through_relu(
                    hidden[head, unit], score_gradients[head], parameters[last_weight]
                )
                _adam(parameters, means, squares, last_weight, by_last, head_rates, root_factor, constants)
                _adam(parameters, means, squares, bias, by_bias, head_rates, root_factor, constants)
            by_weight = weight_gradients[worker, : end - begin]
            np.dot(hidden[head, begin:end], inputs[head], by_weight)
            start = starts.hidden_weights + begin * columns
            stop = starts.hidden_weights + end * columns
            part_weights = parameters[start:stop]
            part_means = means[start:stop]
            part_squares = squares[start:stop]
            gradients = by_weight.reshape(-1)
            for place in range(len(gradients)):
                _adam(
                    part_weights,
                    part_means,
                    part_squares,
                    place,
                    gradients[place],
                    head_rates,
                    root_factor,
                    constants,
                )


@compiled(fastmath={"contract"})
def _update_last_biases(
    state: AdamState,
    starts: Starts,
    score_gradients: np.ndarray,
    rates: np.ndarray,
    root_factor: np.float32,
    constants: AdamConstants,
) -> None:
    """Update the bias of each head's last layer, the only parameter that belongs to no hidden unit."""
    for head in range(len(score_gradients)):
        by_bias = ZERO
        for gradient in score_gradients[head]:  # a sum by a method would be shared out among threads
            by_bias += gradient
        _adam(
            state.parameters[head],
            state.first_moments[head],
            state.second_moments[head],
            starts.last_bias,
            by_bias,
            rates[head],
            root_factor,
            constants,
        )


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _through_relu(
    hidden: np.ndarray, score_gradients: np.ndarray, last_weight: np.float32
) -> tuple[np.float32, np.float32]:
    """Return the gradients by a hidden unit's weight in the last layer and by its bias.

    The hidden unit's values (B,) are replaced by the gradients by the inputs of ReLU.
    """
    by_last = ZERO
    by_bias = ZERO
    for row in range(len(hidden)):
        by_last += score_gradients[row] * hidden[row]
        hidden[row] = ZERO if hidden[row] <= 0 else score_gradients[row] * last_weight
        by_bias += hidden[row]
    return by_last, by_bias


@compiled(fastmath={"contract"}, inline="always")  # inlined, so that the loop over the weights is vectorised
def _adam(
    parameters: np.ndarray,
    first_moments: np.ndarray,
    second_moments: np.ndarray,
    place: int,
    gradient: np.float32,
    rates: np.ndarray,
    root_factor: np.float32,
    constants: AdamConstants,
) -> None:
    """Update one parameter by Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019)."""
    gain, kept, squared_gain, epsilon = constants
    gradient += rates[0] * parameters[place]
    mean = first_moments[place] + gain * (gradient - first_moments[place])
    # A square beyond float32 is infinite, and never becomes NaN after that.
    square = kept * second_moments[place] + squared_gain * gradient * gradient
    first_moments[place] = mean
    second_moments[place] = square
    parameters[place] = rates[1] * parameters[place] - rates[2] * mean / (
        math.sqrt(square) * root_factor + epsilon
    )
