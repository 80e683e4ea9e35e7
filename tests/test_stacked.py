"""Heads trained side by side become what each becomes alone, and what plain torch makes of them."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from heads.mlp import MLPHead, fit_stack
from heads.stacked import STATE_BYTES, Fitted, HeadNetwork, Recipe, StackedMLP, Task
from heads.standardization import Standardization

ROWS, WIDTH = 90, 10
RECIPE = {
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
# Of one learning rate and of several, next to each other and not, with and without standardisation, patient and not.
MIX: list[dict[str, Any]] = [
    {},
    {"seed": 1},
    {"seed": 2, "learning_rate": 0.03},
    {"weight_decay": 0.3},
    {"seed": 3, "standardize": False},
    {"learning_rate": 0.03, "patience": 12},
    {"learning_rate": 0.03, "weight_decay": 0.3, "patience": 1},
]


def recipe(**changed: Any) -> Recipe:
    return Recipe(**RECIPE | changed)


def rows_of_a_split(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.split(np.random.default_rng(seed).permutation(ROWS), [60, 75]))


@pytest.fixture(name="X")
def features() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(ROWS, WIDTH)) * 3 + 5).astype(np.float32)


def tasks(X: np.ndarray, count: int) -> list[Task]:
    """Other scores for each head, and another split for every second one."""
    random, out = np.random.default_rng(1), []
    for number in range(count):
        train, validation, _ = rows_of_a_split(number // 2)
        scores = 3 + X @ random.normal(size=WIDTH) / 10 + random.normal(size=ROWS)
        out.append(Task(scores, train, validation))
    return out


def assert_same(found: Fitted, expected: Fitted) -> None:
    assert found.best_epoch == expected.best_epoch
    np.testing.assert_allclose(found.training_loss, expected.training_loss, rtol=1e-4)
    np.testing.assert_allclose(found.validation_loss, expected.validation_loss, rtol=1e-4)
    for name, weights in expected.weights.items():
        np.testing.assert_allclose(found.weights[name], weights, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_each_head_of_a_mixed_stack_is_what_it_is_alone(X: np.ndarray, optimizer: str, schedule: str) -> None:
    recipes = [recipe(optimizer=optimizer, schedule=schedule, **changed) for changed in MIX]
    given = tasks(X, len(recipes))
    stacked = StackedMLP(recipes).fit(X, given)
    assert len({len(fitted.training_loss) for fitted in stacked}) > 2, "the heads should stop at different epochs"
    for one, task, found in zip(recipes, given, stacked, strict=True):
        assert_same(found, StackedMLP([one]).fit(X, [task])[0])


def test_heads_that_cannot_stand_side_by_side_are_trained_in_one_call_too(X: np.ndarray) -> None:
    recipes = [recipe(), recipe(hidden=4), recipe(batch_size=7), recipe(optimizer="adam"), recipe(max_epochs=3), recipe()]
    given = tasks(X, len(recipes))
    given[-1] = Task(given[-1].scores, given[-1].train[:50])
    finished: list[int] = []
    for found, one, task in zip(StackedMLP(recipes).fit(X, given, finished.append), recipes, given, strict=True):
        assert_same(found, StackedMLP([one]).fit(X, [task])[0])
    assert sorted(finished) == list(range(len(recipes)))


def test_what_does_not_fit_the_memory_is_trained_in_turn(X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    monkeypatch.setattr("heads.stacked._Pass.run", lambda self, _: together.append(len(self.members)))
    a_head = 4 * 4 * 80  # 6 x 10 + 6 + 6 + 1 parameters, in steps of 16, and their gradients and moments
    for limit in (0, 2 * a_head, 7 * a_head, STATE_BYTES["cpu"]):
        StackedMLP([recipe()] * 7, state_bytes=limit).fit(X, tasks(X, 7))
    assert together == [1] * 7 + [2, 2, 2, 1] + [7] + [7]


@pytest.mark.parametrize("recipe_options", [{}, {"optimizer": "adam", "schedule": "constant", "standardize": False}])
def test_a_head_is_what_plain_torch_makes_of_it(X: np.ndarray, recipe_options: dict[str, Any]) -> None:
    """Autograd, torch's optimizer and its scheduler, step by step, on rows standardised beforehand."""
    (task,), one = tasks(X, 1), recipe(seed=7, max_epochs=4, **recipe_options)
    task = Task(task.scores, task.train)
    scaling = Standardization.of(X[task.train], task.scores[task.train]) if one.standardize else Standardization.none(WIDTH)
    inputs = torch.tensor(scaling.inputs(X), dtype=torch.float32)
    scores = torch.tensor(scaling.scores(task.scores), dtype=torch.float32)
    torch.manual_seed(7)
    network = HeadNetwork(WIDTH, 6)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[one.optimizer]
    optimizer = kind(network.parameters(), lr=one.learning_rate, weight_decay=one.weight_decay, foreach=False)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * 4)
    courses: list[np.ndarray] = []
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
    listening = Task(task.scores, task.train, None, lambda _, predict: courses.append(predict(X)))
    (fitted,) = StackedMLP([one]).fit(X, [listening])
    np.testing.assert_allclose(courses, expected, atol=1e-5)
    np.testing.assert_allclose(MLPHead.from_weights(fitted.weights).predict(X), expected[-1], atol=1e-5)


def test_listeners_hear_every_epoch_of_their_own_head(X: np.ndarray) -> None:
    courses: list[dict[int, np.ndarray]] = [{} for _ in MIX]

    def listening(number: int, task: Task) -> Task:
        return Task(task.scores, task.train, task.validation, lambda epoch, predict: courses[number].update({epoch: predict(X)}))

    given = [listening(number, task) for number, task in enumerate(tasks(X, len(MIX)))]
    before = X.copy()
    for found, course in zip(StackedMLP([recipe(**changed) for changed in MIX]).fit(X, given), courses, strict=True):
        assert list(course) == list(range(1, len(found.training_loss) + 1))
        kept = MLPHead.from_weights(found.weights).predict(X)
        np.testing.assert_allclose(kept, course[found.best_epoch], atol=1e-4)
    np.testing.assert_array_equal(X, before)


def test_a_head_that_diverges_leaves_the_others_alone_and_says_so(X: np.ndarray) -> None:
    given = tasks(X, 3)
    recipes = [recipe(), recipe(learning_rate=1e38), recipe(seed=2)]
    first, diverged, last = StackedMLP(recipes).fit(X, given)
    assert_same(first, StackedMLP(recipes[:1]).fit(X, given[:1])[0])
    assert_same(last, StackedMLP(recipes[2:]).fit(X, given[2:])[0])
    assert np.isnan(diverged.validation_loss[-1]) and np.isnan(diverged.training_loss[-1])
    assert diverged.best_epoch == 0 and len(diverged.training_loss) == 3, "it should stop when its patience is at an end"
    assert np.isnan(diverged.weights["fc1.weight"]).any()


def test_scores_of_rows_that_are_not_a_heads_own_do_not_matter(X: np.ndarray) -> None:
    (task,) = tasks(X, 1)
    other = task.scores.copy()
    other[rows_of_a_split(0)[2]] = np.nan
    (found,), (expected,) = (StackedMLP([recipe()]).fit(X, [Task(scores, task.train, task.validation)]) for scores in (other, task.scores))
    for name, weights in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], weights)


def test_fit_stack_leaves_heads_as_their_own_fit_would(X: np.ndarray) -> None:
    """On rows given for validation, cut out by the head, and without any."""
    options = {"hidden": 6, "max_epochs": 5, "learning_rate": 0.01, "batch_size": 16}
    heads = [MLPHead(**options, random_state=number, validation_fraction=share) for number, share in enumerate((0.15, 0.2, 0.0))]
    alone = [clone(head) for head in heads]
    (given,) = tasks(X, 1)
    scores, train, validation = given.scores, given.train, given.validation
    fit_stack(heads, X, [given, Task(scores, train), Task(scores, train)])
    alone[0].fit(X[train], scores[train], (X[validation], scores[validation]))
    for head in alone[1:]:
        head.fit(X[train], scores[train])
    for found, expected in zip(heads, alone, strict=True):
        assert found.best_epoch_ == expected.best_epoch_ and found.n_features_in_ == WIDTH
        np.testing.assert_allclose(found.validation_loss_, expected.validation_loss_, rtol=1e-4)
        np.testing.assert_allclose(found.predict(X), expected.predict(X), atol=1e-4)
    assert [len(head.validation_loss_) for head in heads] == [5, 5, 0]


def test_training_leaves_the_random_numbers_alone(X: np.ndarray) -> None:
    torch.manual_seed(1)
    expected = torch.random.get_rng_state()
    StackedMLP([recipe(max_epochs=1)] * 2).fit(X, tasks(X, 2))
    torch.testing.assert_close(torch.random.get_rng_state(), expected)


@pytest.mark.parametrize(("what", "known"), [("optimizer", "adam, adamw"), ("schedule", "cosine, constant")])
def test_unknown_words_are_refused(X: np.ndarray, what: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"{what} is 'x': one of {known} is wanted"):
        MLPHead(**{what: "x"}).fit(X, X[:, 0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(X: np.ndarray) -> None:
    recipes, given = [recipe(**changed) for changed in MIX], tasks(X, len(MIX))
    torch.backends.cuda.matmul.allow_tf32 = False
    for found, expected in zip(StackedMLP(recipes, "cuda").fit(X, given), StackedMLP(recipes).fit(X, given), strict=True):
        assert_same(found, expected)
