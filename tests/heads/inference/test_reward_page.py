"""The Python blocks of the page on rewards run as they are printed."""

from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_page_on_rewards_runs(fitted_copy: Path) -> None:
    from tier4k.tests.builders.doc_blocks import DOCS, run_blocks

    (fitted_copy / "runs" / "nr").rename(fitted_copy / "runs" / "ID")
    run_blocks(DOCS / "reward.md")
