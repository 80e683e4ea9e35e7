"""Logistic mappings recover the curves that they fit."""

import numpy as np

from tier4k.heads.metrics.logistic import logistic, logistic_jacobian, logistic_mapping


def test_the_logistic_is_recovered() -> None:
    x = np.linspace(-2, 3, 80)
    truth = logistic(x, 4.5, 0.5, 0.4, 0.6)
    np.testing.assert_allclose(logistic_mapping(truth, x), truth, atol=1e-4)


def test_the_jacobian_is_that_of_finite_differences() -> None:
    x = np.linspace(-2, 3, 20)
    parameters = np.array([4.5, 0.5, 0.4, 0.6])
    found = logistic_jacobian(x, *parameters)
    for number in range(4):
        step = np.zeros(4)
        step[number] = 1e-6
        difference = logistic(x, *(parameters + step)) - logistic(x, *(parameters - step))
        np.testing.assert_allclose(found[:, number], difference / 2e-6, atol=1e-6)
