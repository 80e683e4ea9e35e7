"""A column is divided by its deviation, or by a tenth of the median deviation of its own stream."""

import numpy as np

from tier4k.heads.data.streams import Streams
from tier4k.heads.regressors.kernel import SVRHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.standardization import Standardization

DEVIATIONS = np.array([0.01, 0.02, 1e-5, 10.0, 30.0, 0.2, 1.0, 0.001])
STREAMS = Streams.of(text=3, image=3, zero_shot=2)


def features() -> np.ndarray:
    X = np.random.default_rng(0).normal(size=(50, 8))
    return (X - X.mean(0)) / X.std(0) * DEVIATIONS


def test_the_bound_of_a_divisor_is_relative_to_the_median_of_its_stream() -> None:
    scale = Standardization.of(features(), np.zeros(50), STREAMS).scale
    # Medians: text .01, image 10, scores .5005.
    np.testing.assert_allclose(scale, [0.01, 0.02, 0.001, 10, 30, 1, 1, 0.05005], rtol=1e-6)


def test_without_streams_all_columns_are_one_stream() -> None:
    scale = Standardization.of(features(), np.zeros(50)).scale
    bound = 0.1 * np.median(DEVIATIONS)
    np.testing.assert_allclose(scale, np.maximum(DEVIATIONS, bound), rtol=1e-6)


def test_the_unit_of_a_stream_changes_no_head() -> None:
    """Text features a thousand times as large are the same information."""
    X = features()
    y = 3 + X[:, 0] / 0.01 + X[:, 3] / 10
    larger = X.copy()
    larger[:, :3] *= 1000
    for make in (
        RidgeHead,
        SVRHead,
        lambda: MLPHead(max_epochs=3, standardize=True, random_state=0),
    ):
        first, second = (make().fit(rows, y, streams=STREAMS).predict(rows) for rows in (X, larger))
        np.testing.assert_allclose(first, second, rtol=1e-4)
