"""The head of two layers is a scikit-learn estimator, trained as published."""

import numpy as np
import torch
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.recipes import PUBLISHED_RECIPE
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.heads.regressors.tasks import FitTask, WatchedRows


def test_the_head_is_a_scikit_learn_estimator() -> None:
    check_estimator(MLPHead(), on_skip=None)
    X, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60.0)
    assert cross_val_score(MLPHead(max_epochs=2), X, y, cv=3).shape == (3,)


def test_the_published_recipe_is_plain_adam_with_l2_on_raw_scores() -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(20, 6)).astype(np.float32), random.uniform(0, 5, 20)
    head = MLPHead(**PUBLISHED_RECIPE | {"max_epochs": 3}, random_state=5).fit(X, y)
    torch.manual_seed(np.random.RandomState(5).randint(2**31 - 1))
    network = HeadNetwork(6)
    assert network.fc1.out_features == 3
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-5)
    inputs, scores = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))
    for _ in range(3):
        for rows in torch.randperm(20).split(8):
            optimizer.zero_grad()
            ((network(inputs[rows]) - scores[rows]) ** 2).mean().backward()
            optimizer.step()
    for name, tensor in network.state_dict().items():
        np.testing.assert_allclose(head.weights_[name], tensor.numpy(), atol=1e-5)


def test_the_kept_weights_are_those_of_the_best_validation_epoch() -> None:
    random = np.random.default_rng(1)
    X, y = random.normal(size=(50, 8)) * 3 + 2, random.uniform(0, 5, 50)
    held, history = np.arange(10), {}
    watch = WatchedRows(held, lambda epoch, predicted: history.update({epoch: predicted}))
    head = MLPHead(random_state=0)
    MLPHead.fit_many([head], X, [FitTask(y, np.arange(10, 50), held, watch)])
    assert head.best_epoch_ == 1 + int(np.argmin(head.validation_loss_))
    np.testing.assert_allclose(head.predict(X[held]), history[head.best_epoch_], atol=1e-4)
