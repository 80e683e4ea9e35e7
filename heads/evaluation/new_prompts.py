"""Whether the test rows of a run stand for new prompts of the same generators."""

from collections.abc import Sequence

import numpy as np

from tier4k.cache.text import first_few
from tier4k.heads.data.rows import Rows
from tier4k.heads.data.splits import Split

SEEN_PROMPTS = "test prompts are also in training, so the test rows are not new prompts"

NEW_GENERATORS = "generators of the test rows are not in training"

MOST_NAMED = 3

NEW_DATASETS = "data sets of the test rows are not in training"

ONE_TRAINING_SET = "all repeats share one training set, so the variation between training sets is unknown"

ONE_TEST_PART = "all repeats share one test part, so no prompt is in training in one and tested in another"


def new_prompts_reason(rows: Rows, splits: Sequence[Split]) -> str:
    """Return why the test rows do not stand for new prompts of the same generators; "" if they do.

    Splits without training rows are ignored.

    Args:
        rows: The rows that the run uses.
        splits: One split for each repeat.
    """
    fitted = [split for split in splits if len(split.train)]
    if any(split.seen(rows.group).any() for split in fitted):
        return SEEN_PROMPTS
    for unseen, identity in ((NEW_GENERATORS, rows.generator), (NEW_DATASETS, rows.dataset)):
        names = _tested_but_not_seen(fitted, identity)
        if names:
            return f"{unseen} ({first_few(names, MOST_NAMED)})"
    return ""


def _tested_but_not_seen(splits: Sequence[Split], identity: np.ndarray) -> list[str]:
    """Return the distinct names of test rows that no other part of their split has, in alphabetical order."""
    names: set[str] = set()
    for split in splits:
        names.update(identity[split.test][~split.seen(identity)])
    return sorted(names)


def training_set_reason(splits: Sequence[Split]) -> str:
    """Return why the repeats do not show the variation between training sets; "" if they do.

    Splits without training rows are ignored: nothing was fitted that could vary.
    """
    fitted = [split for split in splits if len(split.train)]
    if len({split.outside_test.tobytes() for split in fitted}) == 1:
        return ONE_TRAINING_SET
    return ONE_TEST_PART if len({split.test.tobytes() for split in fitted}) == 1 else ""
