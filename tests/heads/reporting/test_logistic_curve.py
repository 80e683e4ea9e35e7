"""The curve through the points of a scatter plot."""

import numpy as np

from tier4k.heads.reporting.logistic_curve import logistic_curve


def test_a_repeat_whose_predictions_are_all_undefined_has_no_curve() -> None:
    curve = logistic_curve(np.empty(0), np.empty(0))
    assert len(curve.prediction) == len(curve.score) == 0
