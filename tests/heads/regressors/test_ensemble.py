"""An ensemble is the weighted mean of its members' scores or ranks, and its state is its tensors."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.utils.estimator_checks import check_estimator

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.ensemble import EnsembleHead
from tier4k.heads.regressors.kernel import SVRHead
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.tasks import FitTask
from tier4k.tests.builders.devices import note_devices

PAIR = ("ridge", "svr")


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(2, 1, (count, 8))
    return X, 3 + X[:, 0] + np.sin(2 * X[:, 1]) + 0.3 * random.normal(size=count)


@pytest.mark.parametrize("combine", ["scores", "ranks"])
def test_it_is_a_scikit_learn_estimator(combine: str) -> None:
    check_estimator(EnsembleHead(PAIR, combine), on_skip=None)


def test_scores_are_the_weighted_mean_of_heads_fitted_on_all_rows() -> None:
    (X, y), held, (test, _) = rows(120), rows(40, seed=1), rows(30, seed=2)
    head = EnsembleHead(PAIR, random_state=0).fit(X, y, held)
    members = [
        kind().fit(np.vstack([X, held[0]]), np.concatenate([y, held[1]])) for kind in (RidgeHead, SVRHead)
    ]
    weights = head.weights_["weights"]
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    np.testing.assert_allclose(
        head.predict(test), weights @ [member.predict(test) for member in members], rtol=1e-6
    )


def test_the_weights_are_the_best_for_validation_rows_that_the_members_were_not_fitted_on() -> None:
    X, y = rows(150)
    held = rows(60, seed=1)
    head = EnsembleHead(PAIR, random_state=0).fit(X, y, held)
    members = np.stack([kind().fit(X, y).predict(held[0]) for kind in (RidgeHead, SVRHead)])
    errors = [
        np.mean((share * members[0] + (1 - share) * members[1] - held[1]) ** 2)
        for share in np.linspace(0, 1, 201)
    ]
    assert head.weights_["weights"][0] == pytest.approx(
        np.linspace(0, 1, 201)[int(np.argmin(errors))], abs=0.03
    )
    np.testing.assert_allclose(head.validation_prediction_, head.weights_["weights"] @ members, rtol=1e-6)


def test_a_member_without_skill_has_hardly_any_weight() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 20))
    y = 3 + X[:, 0] + 0.01 * random.normal(size=400)
    head = EnsembleHead(("ridge", "bilinear"), random_state=0)
    head.fit(X, y, streams=Streams.of(text=10, image=10))
    assert head.weights_["weights"][0] > 0.9


def test_ranks_depend_on_the_order_of_a_members_scores_only() -> None:
    """Equal ranks of all members are those of the ensemble; its scores have the training scores' spread."""
    (X, y), held, (test, _) = rows(200), rows(60, seed=1), rows(300, seed=2)
    head = EnsembleHead(("ridge", "ridge"), "ranks", random_state=0).fit(X, y, held)
    single = RidgeHead().fit(np.vstack([X, held[0]]), np.concatenate([y, held[1]])).predict(test)
    assert spearmanr(head.predict(test), single).statistic == pytest.approx(1)
    assert np.quantile(head.predict(test), [0.1, 0.5, 0.9]) == pytest.approx(
        np.quantile(y, [0.1, 0.5, 0.9]), abs=0.6
    )
    assert (
        len(np.unique(rankdata(head.predict(np.vstack([test.min(0) - 5, test, test.max(0) + 5])))))
        == len(test) + 2
    )


@pytest.mark.parametrize("options", [{}, {"combine": "ranks"}, {"members": ("mlp", "gated")}], ids=str)
def test_a_head_is_its_tensors(options: dict) -> None:
    X, y = rows(60)
    head = EnsembleHead(**{"members": PAIR, "random_state": 0} | options)
    head.fit(X, y, streams=Streams.of(text=3, image=5))
    restored = EnsembleHead.from_weights(head.weights_, **{"members": PAIR} | options)
    np.testing.assert_allclose(restored.predict(X), head.predict(X), rtol=1e-12)
    with pytest.raises(ValueError, match="not the weights of one"):
        EnsembleHead.from_weights({"weights": np.ones(3)}, members=PAIR)


def test_ensembles_fitted_together_equal_ensembles_fitted_alone() -> None:
    X, y = rows(90)
    tasks = [
        FitTask(scores, np.arange(start, start + 60), np.arange(30)) for scores, start in ((y, 30), (-y, 30))
    ]
    heads = [EnsembleHead((*PAIR, "mlp"), random_state=3) for _ in tasks]
    EnsembleHead.fit_many(heads, X, tasks)
    for head, task in zip(heads, tasks, strict=True):
        held = (X[task.validation], task.scores[task.validation])
        alone = EnsembleHead((*PAIR, "mlp"), random_state=3).fit(X[task.train], task.scores[task.train], held)
        np.testing.assert_allclose(head.predict(X), alone.predict(X), atol=1e-3)


def test_members_that_are_networks_are_fitted_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows(90)
    task = FitTask(y, np.arange(30, 90), np.arange(30))
    devices = note_devices(monkeypatch)
    EnsembleHead.fit_many([EnsembleHead((*PAIR, "mlp"), random_state=3)], X, [task], device="cuda:1")
    assert devices == ["cuda:1"]


def test_without_validation_rows_all_members_weigh_the_same() -> None:
    head = EnsembleHead(PAIR, validation_fraction=0.0, random_state=0).fit(*rows(50))
    assert head.weights_["weights"].tolist() == [0.5, 0.5]
