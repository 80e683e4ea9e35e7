"""Kernel heads against scikit-learn, and against the definition of leaving one row out."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.svm import SVR
from sklearn.utils.estimator_checks import check_estimator

from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.kernel_head import KernelHead
from tier4k.heads.regressors.standardization import Standardization
from tier4k.heads.regressors.tasks import FitTask

HEADS = [KernelRidgeHead(), SVRHead()]


def rows(count: int, columns: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    X = random.normal(2, np.linspace(0.5, 3, columns), (count, columns))
    return X, 3 + np.sin(X[:, 0]) + X[:, 1] / 2 + 0.1 * random.normal(size=count)


def standardized(X: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    scaling = Standardization.of(X, np.zeros(len(X)))
    return [scaling.inputs(one) for one in (X, *others)]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_kernel_heads_are_scikit_learn_estimators(head: KernelHead) -> None:
    check_estimator(head, on_skip=None)


def test_kernel_ridge_is_the_mean_of_a_gaussian_process() -> None:
    (X, y), (test, _) = rows(50), rows(20, seed=1)
    inputs, others = standardized(X, test)
    process = GaussianProcessRegressor(
        ConstantKernel(1.0) * RBF(1.5 * np.sqrt(12)) + WhiteKernel(0.05), optimizer=None
    )
    expected = y.mean() + process.fit(inputs, y - y.mean()).predict(others)
    np.testing.assert_allclose(KernelRidgeHead((1.5,), (0.05,)).fit(X, y).predict(test), expected, atol=1e-5)


def test_length_scale_and_penalty_have_the_least_error_of_leaving_each_row_out() -> None:
    X, y = rows(40)
    scales, penalties = (0.5, 1.5), (0.01, 1.0)
    head = KernelRidgeHead(scales, penalties).fit(X, y)
    (inputs,) = standardized(X)
    for i, scale in enumerate(scales):
        for j, penalty in enumerate(penalties):
            kernel = RBF(scale * np.sqrt(12))(inputs)
            left_out = []
            for row in range(len(y)):
                keep = np.arange(len(y)) != row
                dual = np.linalg.solve(kernel[np.ix_(keep, keep)] + penalty * np.eye(39), y[keep] - y.mean())
                left_out.append(y[row] - y.mean() - kernel[row, keep] @ dual)
            assert head.error_[i, j] == pytest.approx(np.mean(np.square(left_out)), rel=1e-4)
    best = np.unravel_index(np.argmin(head.error_), head.error_.shape)
    assert (head.length_scale_, head.penalty_) == (scales[best[0]], penalties[best[1]])


def test_the_error_of_leaving_each_prompt_out_is_that_of_a_fit_for_every_candidate() -> None:
    X, y = rows(40)
    groups = np.random.default_rng(4).integers(9, size=len(y)).astype(str)
    scales, penalties = (0.5, 1.5), (0.01, 1.0)
    head = KernelRidgeHead(scales, penalties, leave_out="group").fit(X, y, groups=groups)
    (inputs,) = standardized(X)
    for i, scale in enumerate(scales):
        kernel = RBF(scale * np.sqrt(12))(inputs)
        for j, penalty in enumerate(penalties):
            left_out = np.empty(len(y))
            for group in set(groups):
                out = groups == group
                fitted = kernel[np.ix_(~out, ~out)] + penalty * np.eye(np.sum(~out))
                dual = np.linalg.solve(fitted, y[~out] - y.mean())
                left_out[out] = y[out] - y.mean() - kernel[np.ix_(out, ~out)] @ dual
            assert head.error_[i, j] == pytest.approx(np.mean(left_out**2), rel=1e-4)
    best = np.unravel_index(np.argmin(head.error_), head.error_.shape)
    assert (head.length_scale_, head.penalty_) == (scales[best[0]], penalties[best[1]])


def test_svr_is_that_of_scikit_learn() -> None:
    (X, y), (test, _) = rows(60), rows(20, seed=1)
    inputs, others = standardized(X, test)
    machine = SVR(gamma=1 / (2 * 1.5**2 * 12), C=3.0, epsilon=0.2).fit(inputs, (y - y.mean()) / y.std())
    head = SVRHead(3.0, 0.2, 1.5).fit(X, y)
    np.testing.assert_allclose(head.predict(test), y.mean() + y.std() * machine.predict(others), atol=2e-3)
    assert 0 < len(head.weights_["dual"]) < len(y)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_head_is_its_tensors(head: KernelHead) -> None:
    X, y = rows(40)
    head.fit(X, y)
    np.testing.assert_array_equal(type(head).from_weights(head.weights_).predict(X), head.predict(X))
    for name in head.weights_:
        with pytest.raises(ValueError, match="not the weights of one kernel head"):
            type(head).from_weights(head.weights_ | {name: np.zeros((3, 2))})


@pytest.mark.parametrize("kind", [KernelRidgeHead, SVRHead])
def test_heads_fitted_together_equal_heads_fitted_alone(kind: type[KernelHead]) -> None:
    X, y = rows(60)
    train = [np.arange(40), np.arange(40), np.arange(20, 60)]
    tasks = [FitTask(scores, part) for scores, part in zip((y, -y, y), train, strict=True)]
    heads, finished = [kind() for _ in tasks], []
    kind.fit_many(heads, X, tasks, finished.append)
    assert sorted(finished) == [0, 1, 2]
    for head, task in zip(heads, tasks, strict=True):
        alone = kind().fit(X[task.train], task.scores[task.train])
        np.testing.assert_allclose(head.predict(X), alone.predict(X), atol=1e-8)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (KernelRidgeHead((), (1.0,)), "length_scales is empty"),
        (KernelRidgeHead((1.0,), (0.0,)), "penalties is 0.0, which is not valid: use a number above 0"),
        (SVRHead(C=-1), "C is -1, which is not valid: use a number above 0"),
        (SVRHead(epsilon=-0.1), "epsilon is -0.1, which is not valid: use a number from 0"),
    ],
)
def test_options_out_of_their_limits_are_refused(head: KernelHead, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        head.fit(*rows(10))


def test_each_group_is_also_predicted_without_its_rows() -> None:
    X, y = rows(30)
    groups = np.arange(30) // 3
    head = KernelRidgeHead((1.5,), (0.1,)).fit(X, y, groups=groups)
    (inputs,) = standardized(X)
    kernel = RBF(1.5 * np.sqrt(12))(inputs)
    for group in range(10):
        out = groups == group
        dual = np.linalg.solve(kernel[np.ix_(~out, ~out)] + 0.1 * np.eye(27), y[~out] - y.mean())
        np.testing.assert_allclose(
            head.held_out_[out], y.mean() + kernel[np.ix_(out, ~out)] @ dual, atol=1e-5
        )
