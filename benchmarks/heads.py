"""StackedMLP beside a loop of single heads in plain torch and beside scikit-learn.

    python benchmarks/heads.py [--heads 16] [--epochs 1] [--epochs128 4] [--repetitions 3] [--threads 2]
                               [--cpu-seconds] [--device cuda]

Random features (2,400 x 1,792); heads differ in target, seed, learning rate and penalty. All train the
published shape for the same epochs in the same order of batches, without validation rows. The loop: one
`HeadNetwork` after the other, autograd, `torch.optim.Adam` at its defaults. Ours and theirs alternate;
the shortest time of each counts, as other work on the machine only ever adds to it. The last line is one
JSON object:

ratio_batch8, ratio_batch128
    seconds of the loop over seconds of StackedMLP
ratio_sklearn, ratio_sklearn_batch8
    seconds of MLPRegressor, on float32 and for one head, over those of StackedMLP, at batch 128 and 8
max_difference
    largest difference of any prediction by the two ways, in score units (scores lie between 0 and 5)
loop_difference
    the same of the loop and three loops with the columns of inputs and weights in another order, which is the
    same computation rounded otherwise: a difference of this size is rounding
bandwidth_fraction_batch8
    bytes that a step must move (7 x the parameters: weights read in the forward pass; weights and two moments
    read and written by the update), per second, over the bandwidth of a copy between two arrays that together
    are as large as a head's state
bandwidth_fraction_memory
    the same over the bandwidth of a copy of 256 MiB; above 1 where the cache holds a head's state
matrix_fraction_batch128
    multiplications and additions of a step's two products, per second, over those of 2048 x 2048 matrices
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.heads.regressors.mlp.estimator import MLPHead, fit_stack
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask

ROWS, WIDTH, HIDDEN = 2400, 1792, 896
PARAMETERS = HIDDEN * (WIDTH + 2) + 1
LEARNING_RATES = {8: (1e-4, 3e-5), 128: (3e-4, 1e-4)}
PENALTIES = (1e-5, 1e-3)
Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """The shortest seconds of each way, and the largest differences.

    Attributes:
        ours, loop, sklearn: Seconds.
        difference: Of ours from the loop.
        loop_difference: Of the loop from itself with reordered columns.
    """

    ours: float
    loop: float
    sklearn: float
    difference: float
    loop_difference: float


def data(heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, d) float32 with columns of unlike mean and scale, and scores (K, N) in [0, 5]."""
    random = np.random.default_rng(0)
    X = random.normal(size=(ROWS, WIDTH)) * random.uniform(0.2, 2, WIDTH) + random.normal(size=WIDTH)
    scores = X @ random.normal(size=(WIDTH, heads)) / np.sqrt(WIDTH) + random.normal(size=(ROWS, heads))
    return X.astype(np.float32), np.clip(2.5 + 0.7 * scores.T, 0, 5)


def make_heads(count: int, batch: int, epochs: int) -> list[MLPHead]:
    """Return heads of every learning rate and penalty, each with its own seed."""
    rates = LEARNING_RATES[batch]
    options: dict[str, Any] = {
        "optimizer": "adam",
        "schedule": "constant",
        "validation_fraction": 0.0,
        "batch_size": batch,
        "max_epochs": epochs,
    }
    return [
        MLPHead(
            learning_rate=rates[number % 2],
            weight_decay=PENALTIES[number // 2 % 2],
            random_state=number,
            **options,
        )
        for number in range(count)
    ]


def loop(
    heads: list[MLPHead],
    X: np.ndarray,
    scores: np.ndarray,
    device: str,
    clock: Clock,
    columns: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Return the seconds of plain torch, and its predictions (K, N), with columns in this order.

    Standardising and predicting are not timed.
    """
    seconds, predictions = 0.0, []
    for head, truth in zip(heads, scores, strict=True):
        scaling = Standardization.of(X, truth)
        # Standardised in float32 as ours does, so that both see the same bits.
        standardized = (X - scaling.mean.astype(np.float32)) / scaling.scale.astype(np.float32)
        inputs = torch.tensor(standardized if columns is None else standardized[:, columns], device=device)
        targets = torch.tensor(scaling.scores(truth), dtype=torch.float32, device=device)
        start = clock()
        network = single(head, inputs, targets, columns)
        seconds += clock() - start
        with torch.inference_mode():
            predictions.append(scaling.unscale(network(inputs).cpu().numpy()))
    return seconds, np.stack(predictions)


def single(
    head: MLPHead, inputs: torch.Tensor, targets: torch.Tensor, columns: np.ndarray | None
) -> HeadNetwork:
    """Train one head in plain torch; its initial weights are in the order of the inputs' columns."""
    assert isinstance(head.random_state, int)
    torch.manual_seed(np.random.RandomState(head.random_state).randint(2**31 - 1))
    network = HeadNetwork(inputs.shape[1])
    if columns is not None:
        network.fc1.weight.data = network.fc1.weight.data[:, columns].contiguous()
    network.to(inputs.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=head.learning_rate, weight_decay=head.weight_decay)
    for _ in range(head.max_epochs):
        for rows in torch.randperm(len(inputs)).split(head.batch_size):
            loss = torch.nn.functional.mse_loss(network(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return network


def stack(
    heads: list[MLPHead], X: np.ndarray, scores: np.ndarray, device: str, clock: Clock
) -> tuple[float, np.ndarray]:
    """Return the seconds of `fit_stack`, all included, and the heads' predictions (K, N)."""
    start = clock()
    fit_stack(heads, X, [FitTask(truth, np.arange(len(X))) for truth in scores], device)
    seconds = clock() - start
    return seconds, np.stack([head.predict(X) for head in heads])


def scikit_learn(head: MLPHead, X: np.ndarray, truth: np.ndarray, clock: Clock) -> float:
    """Return the seconds of one MLPRegressor of the same shape."""
    scaling = Standardization.of(X, truth)
    inputs, targets = scaling.inputs(X).astype(np.float32), scaling.scores(truth).astype(np.float32)
    model = MLPRegressor(
        hidden_layer_sizes=(HIDDEN,),
        alpha=head.weight_decay,
        batch_size=head.batch_size,
        learning_rate_init=head.learning_rate,
        max_iter=head.max_epochs,
        tol=0,
        n_iter_no_change=head.max_epochs + 1,
        random_state=0,
    )
    start = clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs, targets)
    return clock() - start


def measure(count: int, batch: int, epochs: int, repetitions: int, device: str, clock: Clock) -> Timing:
    """Measure all ways at one batch size, in turn."""
    X, scores = data(count)
    heads = make_heads(count, batch, epochs)
    ours = []
    theirs = []
    sklearn = []
    difference = 0.0
    for _ in range(repetitions):
        seconds, found = stack(heads, X, scores, device, clock)
        ours.append(seconds)
        seconds, expected = loop(heads, X, scores, device, clock)
        theirs.append(seconds)
        sklearn.append(count * scikit_learn(heads[0], X, scores[0], clock))
        difference = max(difference, float(np.abs(found - expected).max()))
        print(
            f"batch {batch}, {count} heads, {epochs} epochs: "
            f"stacked {ours[-1]:.2f} s, loop {theirs[-1]:.2f} s, "
            f"scikit-learn {sklearn[-1]:.2f} s (one head, times {count}), difference {difference:.1e}",
            flush=True,
        )
    random = np.random.default_rng(1)
    orders = (loop(heads, X, scores, device, clock, random.permutation(WIDTH))[1] for _ in range(3))
    reordered = max(float(np.abs(found - expected).max()) for found in orders)
    return Timing(min(ours), min(theirs), min(sklearn), difference, reordered)


def fastest(work: Callable[[], object], device: str, clock: Clock, repetitions: int = 30) -> float:
    """Return the shortest seconds of some work."""
    seconds = []
    for _ in range(repetitions):
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return min(seconds)


def bandwidth(size: int, device: str, clock: Clock) -> float:
    """Return the bytes read and written per second in a copy between two arrays of `size` bytes together."""
    source, target = torch.ones(2, size // 8, device=device)
    return size / fastest(lambda: target.copy_(source), device, clock)


def product_rate(device: str, clock: Clock) -> float:
    """Return the multiplications and additions per second of a product of square matrices."""
    left, right = torch.randn(2, 2048, 2048, device=device)
    return 2 * 2048**3 / fastest(lambda: left @ right, device, clock)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1, help="at batch 8")
    parser.add_argument("--epochs128", type=int, default=4, help="at batch 128")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-seconds",
        action="store_true",
        help="count this process's CPU time (with --threads 1, on a busy machine)",
    )
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace) -> dict[str, float]:
    """Return all metrics."""
    heads = arguments.heads
    repetitions = arguments.repetitions
    clock = time.process_time if arguments.cpu_seconds else time.perf_counter
    where = (arguments.device, clock)
    state = 3 * 4 * PARAMETERS
    # The machine's limits are measured before and after: the larger value counts.
    cached = bandwidth(state, *where)
    memory = bandwidth(2**29, *where)
    large = measure(heads, 128, arguments.epochs128, repetitions, *where)
    products = product_rate(*where)
    small = measure(heads, 8, arguments.epochs, repetitions, *where)
    cached = max(cached, bandwidth(state, *where))
    memory = max(memory, bandwidth(2**29, *where))
    print(f"copy of a head's state {cached / 1e9:.1f} GB/s, of memory {memory / 1e9:.1f} GB/s")
    print(f"product {products / 1e9:.0f} GFLOP/s")
    moved = heads * arguments.epochs * -(-ROWS // 8) * 7 * 4 * PARAMETERS / small.ours
    multiplied = heads * arguments.epochs128 * ROWS * 4 * HIDDEN * WIDTH / large.ours
    return {
        "ratio_batch8": small.loop / small.ours,
        "ratio_batch128": large.loop / large.ours,
        "ratio_sklearn": large.sklearn / large.ours,
        "ratio_sklearn_batch8": small.sklearn / small.ours,
        "max_difference": max(small.difference, large.difference),
        "loop_difference": max(small.loop_difference, large.loop_difference),
        "bandwidth_fraction_batch8": moved / cached,
        "bandwidth_fraction_memory": moved / memory,
        "matrix_fraction_batch128": multiplied / products,
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    with process_policy():
        metrics = measure_all(arguments)
    print(json.dumps({name: float(f"{value:.3g}") for name, value in metrics.items()}))


if __name__ == "__main__":
    main()
