"""Heads trained side by side equal heads trained alone, and heads trained by plain torch."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_info
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.mlp.estimator import MLPHead, fit_stack
from tier4k.heads.regressors.mlp.hyperparameters import Hyperparameters
from tier4k.heads.regressors.mlp.losses import SCALE_FREE_LOSSES
from tier4k.heads.regressors.mlp.stack import STATE_BYTES, HeadNetwork, StackedMLP
from tier4k.heads.regressors.mlp.stacked_head import FittedHead
from tier4k.heads.regressors.mlp.torch_backend import PREPARED_BYTES, StackTrainer, _neighbours
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask, WatchedRows

ROWS, WIDTH = 90, 10
TEXT = 3  # columns of text
STREAMS = Streams.of(text=TEXT, image=7)
DEFAULTS = {
    "hidden": 6,
    "learning_rate": 0.01,
    "weight_decay": 1e-2,
    "optimizer": "adamw",
    "schedule": "cosine",
    "batch_size": 16,
    "max_epochs": 12,
    "patience": 3,
    "standardize": True,
    "seed": 0,
}
# Equal and different learning rates, neighbours and not, with and without standardisation, patient and not.
MIX: list[dict[str, Any]] = [
    {},
    {"seed": 1},
    {"seed": 2, "learning_rate": 0.03},
    {"weight_decay": 0.3},
    {"seed": 3, "standardize": False},
    {"learning_rate": 0.03, "patience": 12},
    {"learning_rate": 0.03, "weight_decay": 0.3, "patience": 1},
]
NETWORKS: list[dict[str, Any]] = [
    {"activation": "gelu"},
    {"activation": "silu", "dropout": 0.3},
    {"loss": "plcc"},
    {"loss": "rank"},
    {"loss": "mixture"},
    {"fusion": "gated"},
    {"fusion": "bilinear", "dropout": 0.5},
    {"fusion": "bilinear", "activation": "gelu", "loss": "mixture"},
]


def hyperparameters(**changed: Any) -> Hyperparameters:
    return Hyperparameters(**DEFAULTS | changed)


def rows_of_a_split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.split(np.random.default_rng(seed).permutation(ROWS), [60, 75]))


@pytest.fixture(name="X")
def features() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(ROWS, WIDTH)) * 3 + 5).astype(np.float32)


def tasks(X: np.ndarray, count: int) -> list[FitTask]:
    """Other scores for each head, and another split for every second one."""
    random, out = np.random.default_rng(1), []
    for number in range(count):
        train, validation, _ = rows_of_a_split(number // 2)
        scores = 3 + X @ random.normal(size=WIDTH) / 10 + random.normal(size=ROWS)
        out.append(FitTask(scores, train, validation))
    return out


def watch_all(history: list[np.ndarray]) -> WatchedRows:
    """Append the scores of all rows after every epoch."""
    return WatchedRows(np.arange(ROWS), lambda _, predicted: history.append(predicted))


def assert_same(found: FittedHead, expected: FittedHead) -> None:
    assert found.best_epoch == expected.best_epoch
    np.testing.assert_allclose(found.training_loss, expected.training_loss, rtol=1e-4)
    np.testing.assert_allclose(found.validation_loss, expected.validation_loss, rtol=1e-4)
    for name, weights in expected.weights.items():
        np.testing.assert_allclose(found.weights[name], weights, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("batch_size", [8, 16])
def test_each_head_of_a_mixed_stack_equals_the_head_trained_alone(
    X: np.ndarray, optimizer: str, schedule: str, batch_size: int
) -> None:
    stack = [
        hyperparameters(optimizer=optimizer, schedule=schedule, batch_size=batch_size, **changed)
        for changed in MIX
    ]
    given = tasks(X, len(stack))
    stacked = StackedMLP(stack).fit(X, given)
    assert len({len(fitted.training_loss) for fitted in stacked}) > 2, (
        "the heads should stop at different epochs"
    )
    for one, task, found in zip(stack, given, stacked, strict=True):
        assert_same(found, StackedMLP([one]).fit(X, [task])[0])


def test_heads_of_different_shapes_are_trained_in_one_call_too(X: np.ndarray) -> None:
    stack = [
        hyperparameters(),
        hyperparameters(hidden=4),
        hyperparameters(batch_size=7),
        hyperparameters(optimizer="adam"),
        hyperparameters(max_epochs=3),
        hyperparameters(),
    ]
    given = tasks(X, len(stack))
    given[-1] = FitTask(given[-1].scores, given[-1].train[:50])
    finished: list[int] = []
    for found, one, task in zip(StackedMLP(stack).fit(X, given, finished.append), stack, given, strict=True):
        assert_same(found, StackedMLP([one]).fit(X, [task])[0])
    assert sorted(finished) == list(range(len(stack)))


def test_heads_that_do_not_fit_the_memory_are_trained_in_turn(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    monkeypatch.setattr(
        "tier4k.heads.regressors.mlp.torch_backend.StackTrainer.run",
        lambda self, _: together.append(len(self.heads)),
    )
    a_head = 4 * 4 * 80  # 6 x 10 + 6 + 6 + 1 parameters, in steps of 16, and their gradients and moments
    for limit in (0, 2 * a_head, 7 * a_head, STATE_BYTES["cpu"]):
        StackedMLP([hyperparameters()] * 7, state_bytes=limit).fit(X, tasks(X, 7))
    assert together == [1] * 7 + [2, 2, 2, 1] + [7] + [7]


@pytest.mark.parametrize("changed", [{}, {"optimizer": "adam", "schedule": "constant", "standardize": False}])
@pytest.mark.parametrize(("batch_size", "hidden"), [(16, 6), (8, 6), (7, 5), (3, 1)])
def test_a_head_equals_one_trained_by_plain_torch(
    X: np.ndarray, changed: dict[str, Any], batch_size: int, hidden: int
) -> None:
    """Autograd, torch's optimizer and its scheduler, step by step, on rows standardised beforehand.

    The last batch is smaller.
    """
    (task,), one = (
        tasks(X, 1),
        hyperparameters(seed=7, max_epochs=4, batch_size=batch_size, hidden=hidden, **changed),
    )
    task = FitTask(task.scores, task.train)
    scaling = (
        Standardization.of(X[task.train], task.scores[task.train])
        if one.standardize
        else Standardization.none(WIDTH)
    )
    inputs = torch.tensor(scaling.inputs(X), dtype=torch.float32)
    scores = torch.tensor(scaling.scores(task.scores), dtype=torch.float32)
    torch.manual_seed(7)
    network = HeadNetwork(WIDTH, hidden)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[one.optimizer]
    optimizer = kind(network.parameters(), lr=one.learning_rate, weight_decay=one.weight_decay, foreach=False)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=4 * -(-len(task.train) // batch_size)
    )
    histories: list[np.ndarray] = []
    expected: list[np.ndarray] = []
    for _ in range(one.max_epochs):
        for batch in torch.randperm(len(task.train)).split(one.batch_size):
            rows = torch.from_numpy(task.train)[batch]
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(network(inputs[rows]), scores[rows]).backward()
            optimizer.step()
            if one.schedule == "cosine":
                schedule.step()
        with torch.no_grad():
            expected.append(scaling.unscale(network(inputs).numpy()))
    listening = FitTask(task.scores, task.train, watched=watch_all(histories))
    (fitted,) = StackedMLP([one]).fit(X, [listening])
    np.testing.assert_allclose(histories, expected, atol=1e-5)
    np.testing.assert_allclose(MLPHead.from_weights(fitted.weights).predict(X), expected[-1], atol=1e-5)


def test_watched_rows_are_predicted_after_every_epoch_of_their_own_head(X: np.ndarray) -> None:
    histories: list[list[np.ndarray]] = [[] for _ in MIX]
    epochs: list[list[int]] = [[] for _ in MIX]
    sizes = [40 - number // 3 for number in range(len(MIX))]
    watched = [np.random.default_rng(size).permutation(ROWS)[:size] for size in sizes]

    def watch(number: int) -> WatchedRows:
        def on_epoch(epoch: int, predicted: np.ndarray) -> None:
            epochs[number].append(epoch)
            histories[number].append(predicted)

        return WatchedRows(watched[number], on_epoch)

    given = [replace(task, watched=watch(number)) for number, task in enumerate(tasks(X, len(MIX)))]
    given[2] = replace(given[2], watched=None)
    before = X.copy()
    fitted = StackedMLP([hyperparameters(**changed) for changed in MIX]).fit(X, given)
    for number, found in enumerate(fitted):
        expected = [] if number == 2 else list(range(1, len(found.training_loss) + 1))
        assert epochs[number] == expected
        if expected:
            kept = MLPHead.from_weights(found.weights).predict(X[watched[number]])
            np.testing.assert_allclose(kept, histories[number][found.best_epoch - 1], atol=1e-4)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("batch_size", [8, 16])
def test_a_head_that_diverges_has_nan_losses_and_does_not_change_the_others(
    X: np.ndarray, batch_size: int
) -> None:
    given = tasks(X, 3)
    stack = [
        hyperparameters(batch_size=batch_size, **changed)
        for changed in ({}, {"learning_rate": 1e38}, {"seed": 2})
    ]
    first, diverged, last = StackedMLP(stack).fit(X, given)
    assert_same(first, StackedMLP(stack[:1]).fit(X, given[:1])[0])
    assert_same(last, StackedMLP(stack[2:]).fit(X, given[2:])[0])
    assert np.isnan(diverged.validation_loss[-1]) and np.isnan(diverged.training_loss[-1])
    assert diverged.best_epoch == 0 and len(diverged.training_loss) == 3, (
        "it should stop when its patience runs out"
    )
    assert np.isnan(diverged.weights["fc1.weight"]).any()


def test_scores_of_other_rows_than_a_heads_own_do_not_matter(X: np.ndarray) -> None:
    (task,) = tasks(X, 1)
    other = task.scores.copy()
    other[rows_of_a_split(0)[2]] = np.nan
    (found,), (expected,) = (
        StackedMLP([hyperparameters()]).fit(X, [FitTask(scores, task.train, task.validation)])
        for scores in (other, task.scores)
    )
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], weights)


def test_fit_stack_gives_the_same_heads_as_their_own_fit(X: np.ndarray) -> None:
    """On rows given for validation, cut out by the head, and without any."""
    options = {"hidden": 6, "max_epochs": 5, "learning_rate": 0.01, "batch_size": 16}
    heads = [
        MLPHead(**options, random_state=number, validation_fraction=share)
        for number, share in enumerate((0.15, 0.2, 0.0))
    ]
    alone = [clone(head) for head in heads]
    (given,) = tasks(X, 1)
    scores, train, validation = given.scores, given.train, given.validation
    fit_stack(heads, X, [given, FitTask(scores, train), FitTask(scores, train)])
    alone[0].fit(X[train], scores[train], (X[validation], scores[validation]))
    for head in alone[1:]:
        head.fit(X[train], scores[train])
    for found, expected in zip(heads, alone, strict=True):
        assert found.best_epoch_ == expected.best_epoch_ and found.n_features_in_ == WIDTH
        np.testing.assert_allclose(found.validation_loss_, expected.validation_loss_, rtol=1e-4)
        np.testing.assert_allclose(found.predict(X), expected.predict(X), atol=1e-4)
    assert [len(head.validation_loss_) for head in heads] == [5, 5, 0]


def test_training_does_not_change_the_random_state_of_torch(X: np.ndarray) -> None:
    torch.manual_seed(1)
    expected = torch.random.get_rng_state()
    StackedMLP([hyperparameters(max_epochs=1)] * 2).fit(X, tasks(X, 2))
    torch.testing.assert_close(torch.random.get_rng_state(), expected)


@pytest.mark.parametrize(("name", "known"), [("optimizer", "adam, adamw"), ("schedule", "cosine, constant")])
def test_unknown_names_of_optimizers_and_schedules_are_refused(X: np.ndarray, name: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 'x', which is not valid: use one of {known}"):
        MLPHead(**{name: "x"}).fit(X, X[:, 0])


@pytest.mark.parametrize("changed", NETWORKS, ids=str)
def test_other_networks_and_losses_are_trained_side_by_side_as_well(
    X: np.ndarray, changed: dict[str, Any]
) -> None:
    stack = [
        hyperparameters(**changed | other)
        for other in ({}, {"seed": 1}, {"learning_rate": 0.03}, {"patience": 1})
    ]
    given = tasks(X, len(stack))
    together = StackedMLP(stack).fit(X, given, streams=STREAMS)
    for found, one, task in zip(together, stack, given, strict=True):
        assert_same(found, StackedMLP([one]).fit(X, [task], streams=STREAMS)[0])


def plain(weights: dict[str, Tensor], one: Hyperparameters, inputs: Tensor) -> Tensor:
    """Scores by the formulas of `MLPHead`."""
    function = {"relu": torch.relu, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}[
        one.activation
    ]

    def layer(name: str, rows: Tensor) -> Tensor:
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    text, image = inputs[:, :TEXT], inputs[:, TEXT:]
    hidden = {
        "concatenation": lambda: function(layer("fc1", inputs)),
        "gated": lambda: function(
            layer("text", text) + 2 * torch.sigmoid(layer("gate", text)) * layer("image", image)
        ),
        "bilinear": lambda: function(layer("text", text)) * function(layer("image", image)),
    }[one.fusion]()
    return layer("fc2", hidden)[:, 0]


def plain_loss(name: str, p: Tensor, y: Tensor) -> Tensor:
    """The formulas of `tier4k.heads.regressors.mlp.losses`, pair by pair."""
    squared = torch.nn.functional.mse_loss(p, y)
    pearson = 1 - torch.corrcoef(torch.stack([p, y]))[0, 1]
    pairs = [
        torch.relu((y[i] - y[j]).abs() - torch.sign(y[i] - y[j]) * (p[i] - p[j]))
        for i in range(len(y))
        for j in range(len(y))
    ]
    rank = torch.stack(pairs).mean()
    return {"mse": squared, "plcc": pearson, "rank": rank, "mixture": squared + pearson + rank}[name]


@pytest.mark.parametrize("changed", [changed for changed in NETWORKS if "dropout" not in changed], ids=str)
def test_every_network_and_loss_equals_its_formula_in_plain_torch(
    X: np.ndarray, changed: dict[str, Any]
) -> None:
    (task,), one = (
        tasks(X, 1),
        hyperparameters(
            seed=7, max_epochs=2, optimizer="adam", schedule="constant", standardize=False, **changed
        ),
    )
    task = FitTask(task.scores, task.train)
    inputs, scores = torch.tensor(X), torch.tensor(task.scores, dtype=torch.float32)
    torch.manual_seed(7)
    shapes = one.network(STREAMS).linears()
    layers = {name: torch.nn.Linear(*shape) for name, shape in shapes.items()}
    weights = {
        f"{name}.{part}": getattr(layer, part)
        for name, layer in layers.items()
        for part in ("weight", "bias")
    }
    optimizer = torch.optim.Adam(
        weights.values(), lr=one.learning_rate, weight_decay=one.weight_decay, foreach=False
    )
    for _ in range(one.max_epochs):
        for batch in torch.randperm(len(task.train)).split(one.batch_size):
            rows = torch.from_numpy(task.train)[batch]
            optimizer.zero_grad()
            plain_loss(one.loss, plain(weights, one, inputs[rows]), scores[rows]).backward()
            optimizer.step()
    found = StackedMLP([one]).fit(X, [task], streams=STREAMS)[0].weights
    if one.loss in ("plcc", "rank"):  # then a straight line maps the outputs to scores
        with torch.no_grad():
            output = plain(weights, one, inputs[torch.from_numpy(task.train)]).double().numpy()
        slope, intercept = np.polyfit(output, task.scores[task.train], 1)
        for name, factor, shift in (("fc2.weight", slope, 0.0), ("fc2.bias", slope, intercept)):
            np.testing.assert_allclose(
                found.pop(name), weights.pop(name).detach() * factor + shift, rtol=2e-3, atol=2e-3
            )
    for name, expected in weights.items():
        if name in found:
            np.testing.assert_allclose(found[name], expected.detach(), atol=1e-4)


def test_dropout_leaves_out_its_share_of_hidden_units_and_keeps_their_mean(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor] = []
    draw = StackTrainer._dropout_masks
    monkeypatch.setattr(
        StackTrainer, "_dropout_masks", lambda self, rows: masks.append(draw(self, rows)) or masks[-1]
    )
    StackedMLP([hyperparameters(dropout=0.25, hidden=50)]).fit(X, tasks(X, 1))
    values = torch.cat(masks, 1)
    assert values.shape[::2] == (1, 50)
    assert values.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((values == 0).float().mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("changed", NETWORKS, ids=str)
def test_standardisation_is_folded_into_the_weights_of_every_network(
    X: np.ndarray, changed: dict[str, Any]
) -> None:
    """Folded weights predict from raw vectors what the standardised head predicts after its last epoch."""
    (task,), history = tasks(X, 1), []
    options = {name: value for name, value in (DEFAULTS | changed).items() if name != "seed"}
    head = MLPHead(**options, validation_fraction=0.0, random_state=0)
    listening = FitTask(task.scores, task.train, watched=watch_all(history))
    fit_stack([head], X, [listening], streams=STREAMS)
    np.testing.assert_allclose(head.predict(X), history[-1], atol=1e-3)
    restored = MLPHead.from_weights(head.weights_, **options)
    np.testing.assert_array_equal(restored.predict(X), head.predict(X))
    assert np.corrcoef(head.predict(X[task.train]), task.scores[task.train])[0, 1] > 0.3


@pytest.mark.parametrize("changed", [{}, *NETWORKS], ids=str)
@pytest.mark.parametrize("standardize", [True, False])
def test_a_started_head_with_learning_rate_zero_stays_the_same(
    X: np.ndarray, changed: dict[str, Any], standardize: bool
) -> None:
    one, other = tasks(X, 2)
    stack = [
        hyperparameters(**changed),
        hyperparameters(**changed, learning_rate=0.0, seed=9, standardize=standardize),
    ]
    (fitted,) = StackedMLP(stack[:1]).fit(X, [one], streams=STREAMS)
    # On other rows, whose mean and deviation are others.
    (again,) = StackedMLP(stack[1:]).fit(
        X, [replace(other, train=rows_of_a_split(3)[0], start=fitted.weights)], streams=STREAMS
    )
    before, after = (
        stack[0].network(STREAMS).predict(weights, X) for weights in (fitted.weights, again.weights)
    )
    if changed.get("loss") in SCALE_FREE_LOSSES:  # whose scale is that of the new training rows
        assert np.corrcoef(before, after)[0, 1] == pytest.approx(1, abs=1e-6)
    else:
        np.testing.assert_allclose(after, before, rtol=1e-4)


def test_a_started_head_never_ends_with_a_worse_validation_loss_than_its_start(X: np.ndarray) -> None:
    (task,) = tasks(X, 1)
    (fitted,) = StackedMLP([hyperparameters()]).fit(X, [task])
    on = replace(task, start=fitted.weights)
    wild, careful = StackedMLP(
        [hyperparameters(learning_rate=10.0), hyperparameters(learning_rate=1e-4, seed=1)]
    ).fit(X, [on, on])
    assert wild.best_epoch == 0
    for name, weights in fitted.weights.items():
        np.testing.assert_allclose(wild.weights[name], weights, atol=1e-5)
    assert careful.training_loss[0] < 1.05 * fitted.training_loss[-1]
    assert wild.training_loss[-1] > 10 * careful.training_loss[-1]


def test_training_cannot_start_from_a_head_of_another_shape(X: np.ndarray) -> None:
    (task,) = tasks(X, 1)
    (fitted,) = StackedMLP([hyperparameters(hidden=5)]).fit(X, [task])
    with pytest.raises(HeadError, match="use the same options for both heads"):
        StackedMLP([hyperparameters()]).fit(X, [replace(task, start=fitted.weights)])


@pytest.mark.parametrize("loss", ["plcc", "rank"])
def test_a_loss_without_a_scale_still_predicts_on_the_scale_of_the_scores(X: np.ndarray, loss: str) -> None:
    (task,) = tasks(X, 1)
    scores = 50 + 10 * task.scores
    head = MLPHead(loss=loss, hidden=6, learning_rate=0.01, validation_fraction=0.0, random_state=0)
    fit_stack([head], X, [FitTask(scores, task.train)])
    slope, intercept = np.polyfit(head.predict(X[task.train]), scores[task.train], 1)
    assert slope == pytest.approx(1, abs=0.01) and intercept == pytest.approx(0, abs=1)


@pytest.mark.parametrize("streams", [None, Streams.of(text=WIDTH)])
def test_streams_without_text_or_without_image_are_refused(X: np.ndarray, streams: Streams | None) -> None:
    with pytest.raises(ValueError, match="gated fusion needs text columns and other columns.* of 10: pass"):
        MLPHead(fusion="gated").fit(X, X[:, 0], streams=streams)
    with pytest.raises(ValueError, match="not the weights of one gated head"):
        MLPHead.from_weights(MLPHead(max_epochs=1).fit(X, X[:, 0]).weights_, fusion="gated")


@pytest.mark.parametrize("fusion", ["gated", "bilinear"])
def test_gated_and_bilinear_fusion_learn_how_text_changes_the_weight_of_image_features(fusion: str) -> None:
    """The text selects the image column that counts: no sum of functions of text and image can express it."""
    random = np.random.default_rng(0)
    X = random.normal(size=(600, 5))
    y = np.where(X[:, 0] > 0, X[:, 2], X[:, 3])
    head = MLPHead(fusion=fusion, hidden=16, learning_rate=0.01, batch_size=32, random_state=0)
    head.fit(X[:400], y[:400], streams=Streams.of(text=2, image=3))
    assert np.corrcoef(head.predict(X[400:]), y[400:])[0, 1] > 0.85


@pytest.mark.slow
def test_networks_are_scikit_learn_estimators() -> None:
    check_estimator(MLPHead(loss="mixture", dropout=0.5, max_epochs=5), on_skip=None)


@pytest.mark.parametrize("batch_size", [1, 8, 16, 75])
@pytest.mark.parametrize("hidden", [1, 65, pytest.param(300, marks=pytest.mark.slow)])
def test_the_published_head_depends_neither_on_the_number_of_threads_nor_on_other_heads(
    batch_size: int, hidden: int
) -> None:
    """To the last bit; and torch and BLAS have as many threads afterwards as before."""
    X = np.random.default_rng(0).normal(size=(ROWS, 130)).astype(np.float32)
    scores = [
        FitTask(X @ np.random.default_rng(number).normal(size=130), np.arange(75), np.arange(75, ROWS))
        for number in range(3)
    ]
    rates = [0.001 * (1 + number) for number in range(3)]
    stack = [
        hyperparameters(batch_size=batch_size, hidden=hidden, seed=number, learning_rate=rate, max_epochs=3)
        for number, rate in enumerate(rates)
    ]
    before, blas, found = torch.get_num_threads(), threads_of_blas(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(StackedMLP(stack).fit(X, scores))
            found.append(
                [StackedMLP([one]).fit(X, [task])[0] for one, task in zip(stack, scores, strict=True)]
            )
            assert torch.get_num_threads() == threads
            assert threads_of_blas() == blas
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)
            assert one.validation_loss == other.validation_loss


def threads_of_blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize("batch_size", [5, 16, 60])
def test_the_compiled_loop_and_the_torch_loop_agree(
    X: np.ndarray, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, given = [hyperparameters(batch_size=batch_size, **changed) for changed in MIX], tasks(X, len(MIX))
    found = StackedMLP(stack).fit(X, given)
    monkeypatch.setattr(StackedMLP, "_trainer_class", lambda *_: StackTrainer)
    for one, expected in zip(found, StackedMLP(stack).fit(X, given), strict=True):
        assert_same(one, expected)


def test_heads_can_be_fitted_in_several_threads_at_once(X: np.ndarray) -> None:
    stack, given = (
        [hyperparameters(seed=seed, batch_size=8 * (1 + seed % 2)) for seed in range(6)],
        tasks(X, 6),
    )
    with ThreadPoolExecutor(3) as pool:
        found = [
            fitted for (fitted,) in pool.map(lambda one, task: StackedMLP([one]).fit(X, [task]), stack, given)
        ]
    for one, task, expected in zip(stack, given, found, strict=True):
        (fitted,) = StackedMLP([one]).fit(X, [task])
        assert all(np.array_equal(fitted.weights[name], expected.weights[name]) for name in fitted.weights)


def test_gradients_beyond_float32_do_not_change_a_weight(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their square is infinite, and Adam's step 0, as torch has it; not NaN."""
    (task,), one = (
        tasks(X, 1),
        hyperparameters(optimizer="adam", schedule="constant", learning_rate=1e6, max_epochs=8),
    )
    found = StackedMLP([one]).fit(X, [FitTask(task.scores, task.train)])[0]
    monkeypatch.setattr(StackedMLP, "_trainer_class", lambda *_: StackTrainer)
    expected = StackedMLP([one]).fit(X, [FitTask(task.scores, task.train)])[0]
    assert max(expected.training_loss) > 1e15, "the gradients should be large"
    for name, weights in expected.weights.items():
        assert np.isfinite(weights).all() and np.isfinite(found.weights[name]).all()


@pytest.mark.slow
def test_fitting_in_a_process_forked_after_a_fit_is_refused() -> None:
    program = """
import os
import numpy as np
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import HeadError
X = np.random.default_rng(0).normal(size=(40, 4))
def fit():
    MLPHead(max_epochs=2).fit(X, X[:, 0])
fit()
import numba
if numba.threading_layer() != "omp":
    print("no child would be killed")
elif os.fork():
    print(os.waitstatus_to_exitcode(os.wait()[1]))
else:
    try:
        fit()
    except HeadError as error:
        os._exit(7 if "'spawn'" in str(error) else 1)
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,  # it takes six seconds on an idle machine
    )
    assert run.stdout in ("7\n", "no child would be killed\n")


def test_the_order_of_a_matrix_in_memory_changes_nothing(X: np.ndarray) -> None:
    from tier4k.heads.regressors.mlp.numba_kernels import train_epoch

    found = [
        StackedMLP([hyperparameters(batch_size=8)]).fit(order(X), tasks(X, 1))[0].weights
        for order in (np.ascontiguousarray, np.asfortranarray)
    ]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    assert len(train_epoch.signatures) == 1, "it should not be compiled for every order"


@pytest.mark.slow
def test_the_loops_are_compiled_even_where_no_cache_can_be_written() -> None:
    program = """
import numpy as np
from numba.core.caching import FunctionCache
def nowhere(*_):
    raise RuntimeError("cannot cache function: no locator available")
FunctionCache.__init__ = nowhere
from tier4k.heads.regressors.mlp.estimator import MLPHead
X = np.random.default_rng(0).normal(size=(40, 4))
head = MLPHead(batch_size=8, max_epochs=30, learning_rate=.01, random_state=0).fit(X, X[:, 0])
print(np.corrcoef(head.predict(X), X[:, 0])[0, 1] > .9)
"""
    assert (
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
        == "True\n"
    )


NETWORKS_OF_TORCH = [{}, {"dropout": 0.4}, *NETWORKS]


@pytest.mark.parametrize("changed", NETWORKS_OF_TORCH, ids=str)
def test_steps_that_are_prepared_together_are_the_steps_prepared_one_by_one(
    X: np.ndarray, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: with the same random numbers, and a last step of fewer rows."""
    monkeypatch.setattr(StackedMLP, "_trainer_class", lambda *_: StackTrainer)
    stack = [hyperparameters(**changed | {"seed": seed, "max_epochs": 4}) for seed in range(2)]
    given = tasks(X, 2)
    expected = StackedMLP(stack).fit(X, given, streams=STREAMS)
    steps = [1, 3, 4]
    for count in steps:
        monkeypatch.setattr(StackTrainer, "_prepared_steps", lambda _, count=count: count)
        for found, one in zip(StackedMLP(stack).fit(X, given, streams=STREAMS), expected, strict=True):
            assert_same(found, one)


def test_as_many_steps_are_prepared_together_as_their_inputs_and_masks_fit(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams.of(image=WIDTH)
    for dropout, floats in ((0.0, WIDTH), (0.5, WIDTH + 6)):
        stack = [hyperparameters(seed=seed, dropout=dropout) for seed in range(2)]
        heads = StackedMLP(stack)._heads(X, tasks(X, 2), streams)
        trainer = StackTrainer(torch.from_numpy(X), heads)
        assert trainer._prepared_steps() == 1
        monkeypatch.setitem(PREPARED_BYTES, "cpu", 3 * (4 * 2 * 16 * floats))
        assert trainer._prepared_steps() == 3
        monkeypatch.setitem(PREPARED_BYTES, "cpu", 3 * (4 * 2 * 16 * floats) - 1)
        assert trainer._prepared_steps() == 2
        monkeypatch.setitem(PREPARED_BYTES, "cpu", 0)


def test_heads_that_predict_their_validation_rows_together_learn_as_each_alone(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: neighbours with equal numbers of validation rows, some of them none."""
    monkeypatch.setattr(StackedMLP, "_trainer_class", lambda *_: StackTrainer)
    monkeypatch.setattr("tier4k.heads.regressors.mlp.torch_backend.BLOCK_ROWS", 20)
    given = tasks(X, len(MIX))
    for number, count in ((0, 0), (3, 7), (4, 0)):
        given[number] = replace(given[number], validation=given[number].validation[:count])
    stack = [hyperparameters(**changed) for changed in MIX]
    expected = StackedMLP(stack).fit(X, given)
    together: list[int] = []
    predicted = StackTrainer._predicted

    def noting(self: StackTrainer, heads: slice, *rest: Any) -> Tensor:
        together.append(heads.stop - heads.start)
        return predicted(self, heads, *rest)

    monkeypatch.setattr(StackTrainer, "_predicted", noting)
    monkeypatch.setattr(StackTrainer, "_predicted_together", lambda _, counts: _neighbours(counts))
    for found, one in zip(StackedMLP(stack).fit(X, given), expected, strict=True):
        assert_same(found, one)
    assert max(together) > 1


@pytest.mark.parametrize("changed", NETWORKS_OF_TORCH, ids=str)
def test_no_value_is_read_from_the_device_within_an_epoch(X: np.ndarray, changed: dict[str, Any]) -> None:
    """A GPU would stand still meanwhile. Tensors of the meta device have no values that could be read."""
    stack = [hyperparameters(**changed | {"seed": seed, "learning_rate": 0.1 + seed}) for seed in range(2)]
    heads = StackedMLP(stack)._heads(X, tasks(X, 2), STREAMS)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setitem(PREPARED_BYTES, "meta", 1000)
        losses = StackTrainer(torch.from_numpy(X).to("meta"), heads)._epoch()
    assert losses.device.type == "meta" and losses.shape == (2,)
    heads = StackedMLP(stack)._heads(X, tasks(X, 2), STREAMS)
    trainer = StackTrainer(torch.from_numpy(X), heads)
    with torch.no_grad(), _Operators() as operators:
        losses = trainer._epoch()
    assert "aten::_local_scalar_dense" not in operators.names
    assert len(losses.tolist()) == 2


class _Operators(TorchDispatchMode):
    """Notes the names of torch's operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_heads_as_the_cpu(X: np.ndarray) -> None:
    stack, given = [hyperparameters(**changed) for changed in MIX], tasks(X, len(MIX))
    torch.backends.cuda.matmul.allow_tf32 = False
    for found, expected in zip(
        StackedMLP(stack, "cuda").fit(X, given), StackedMLP(stack).fit(X, given), strict=True
    ):
        assert_same(found, expected)
