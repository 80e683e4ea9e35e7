"""Simulated ratings of the sample; the formulas are in the package's docstring."""

import numpy as np
from numpy.random import Generator as Rng

from tier4k.extract.datasets.sample.degradation import Degradation
from tier4k.extract.datasets.sample.scenes import MOST_LOST, MOST_MISSING, Scene, Style

RATERS = 20

RATER_SD = 0.6


def quality(amounts: Degradation) -> float:
    """Goodness behind MOS_q, in [0, 1]."""
    return 1 - (0.5 * amounts.blur + 0.3 * amounts.noise + 0.2 * amounts.fade)


def correspondence(asked: Scene, drawn: Scene) -> float:
    """Goodness behind MOS_c, in [0, 1]."""
    missing = (asked.count - drawn.count) / MOST_MISSING
    wrong_colour = asked.colour != drawn.colour
    wrong_shape = asked.shape != drawn.shape
    return 1 - (0.8 * missing + 0.1 * wrong_colour + 0.1 * wrong_shape)


def fidelity(asked: Style, drawn: Style) -> float:
    """Goodness behind MOS_a of rows with an image prompt, in [0, 1]."""
    return 1 - (asked.age - drawn.age) / MOST_LOST


def mean_opinion(goodness: float, rng: Rng) -> float:
    """The mean opinion of `RATERS` simulated raters, in [0, 5]."""
    errors = rng.normal(0, RATER_SD, RATERS)
    return float(np.clip(0.5 + 4 * goodness + errors.mean(), 0, 5))
