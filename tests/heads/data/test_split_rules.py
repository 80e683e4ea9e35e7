"""What the split rules promise about prompts and generators."""

from dataclasses import replace

import numpy as np
import pytest

from tier4k.heads.data.splits import SplitError, make_splits
from tier4k.tests.builders.feature_sets import feature_set


def test_a_prompt_split_parts_no_prompt_and_the_published_one_tests_every_fourth_row() -> None:
    f = feature_set()
    for split in make_splits(f, "prompt", 5, seed=0):
        assert not split.seen(f.group).any()
        assert not set(f.group[split.train]) & set(f.group[split.validation])
        assert sorted([*split.train, *split.validation, *split.test]) == list(range(80))
    published = make_splits(f, "published", 1, seed=0)[0]
    assert published.test.tolist() == list(range(3, 80, 4))
    assert published.seen(f.group).tolist() == [True] * 20


def test_the_generator_split_leaves_each_generator_out_once() -> None:
    f = feature_set()
    splits = make_splits(f, "generator", 3, seed=0)
    assert [set(f.generator[split.test]) for split in splits] == [{"g0"}, {"g1"}, {"g2"}]
    for split in splits:
        parts = [set(f.generator[part]) for part in (split.train, split.validation, split.test)]
        assert all(len(part) == 1 for part in parts) and set.union(*parts) == {"g0", "g1", "g2"}
        np.testing.assert_array_equal(
            np.sort(np.concatenate([split.train, split.validation, split.test])), np.arange(len(f))
        )
    two = replace(f, generator=np.where(f.generator == "g2", "g0", f.generator))
    with pytest.raises(SplitError, match="at least 3 generators, and the data have 2"):
        make_splits(two, "generator", 1, seed=0)


def test_a_generator_split_is_refused_where_it_would_repeat_or_leave_nothing() -> None:
    f = feature_set()
    with pytest.raises(SplitError, match="pass --repeats 3"):
        make_splits(f, "generator", 4, seed=0)
    alone = replace(f, generator=np.r_[np.array(["a new one"], dtype=object), f.generator[1:]])
    with pytest.raises(SplitError, match=r"1 test rows \(a new one\)"):
        make_splits(alone, "generator", 1, seed=0)
