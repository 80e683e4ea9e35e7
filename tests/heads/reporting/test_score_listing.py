"""The list of scores on a terminal."""

import pandas as pd

from tier4k.heads.reporting.terminal.scores import score_legend, score_listing
from tier4k.tests.builders.screens import printed

SCORES = pd.DataFrame(
    {
        "name": ["image.png"] * 2,
        "target": ["quality", "alignment"],
        "score": [1.531, 2.5],
        "low": [-0.37, 1.0],
        "high": [3.43, 4.0],
        "spread": [0.12, 0.34],
    }
)


def test_a_narrow_terminal_shows_the_scores_of_all_targets_without_spread_or_interval() -> None:
    wide = printed(score_listing(SCORES, 1), width=120)
    assert "[-0.37, 3.43]" in wide and "0.12" in wide
    shown = printed(score_listing(SCORES, 1), width=60).partition("left out")[0]
    assert "1.531" in shown and "2.500" in shown and "0.12" not in shown


def test_the_legend_names_what_is_shown() -> None:
    assert score_legend(SCORES).startswith("interval: 90 % prediction interval; spread")
    assert score_legend(SCORES.assign(low=float("nan"), spread=float("nan"))) == ""
