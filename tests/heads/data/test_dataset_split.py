"""Leaving one data set out: every set is tested alone, and validation rows are new prompts of the others."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tier4k.heads.data.rows import Rows
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import SplitError, make_splits
from tier4k.tests.builders.feature_sets import feature_set


def rows_of_sets(sets: int, seed: int = 0, rows: int = 80) -> Rows:
    """Rows of several sets, of which two may share a prompt."""
    names = np.random.default_rng(seed).permutation(np.arange(rows) // 3 % sets)
    return replace(feature_set(rows), dataset=np.array([f"set {name}" for name in names], dtype=object))


@given(sets=st.integers(2, 6), seed=st.integers(0, 99), share=st.sampled_from([0.0, 0.15, 0.4]))
@settings(max_examples=40, deadline=None)
def test_each_set_is_tested_alone_and_in_full(sets: int, seed: int, share: float) -> None:
    rows = rows_of_sets(sets, seed)
    splits = SplitRequest("dataset", seed=seed).splits(rows, share)
    assert len(splits) == sets
    for number, split in enumerate(splits):
        assert split.test.tolist() == np.flatnonzero(rows.dataset == f"set {number}").tolist()
        assert sorted([*split.train, *split.validation, *split.test]) == list(range(len(rows)))
        assert not set(rows.group[split.train]) & set(rows.group[split.validation])
        assert bool(len(split.validation)) == bool(share)
        assert split.seed == seed + number


@pytest.mark.parametrize("folds", [2, 3])
def test_folds_test_every_set_in_one_of_them(folds: int) -> None:
    rows = rows_of_sets(3)
    splits = make_splits(rows, "dataset", folds, seed=1, folds=True)
    tested = [set(rows.dataset[split.test]) for split in splits]
    assert sorted(name for names in tested for name in names) == ["set 0", "set 1", "set 2"]
    for split in splits:
        assert not split.seen(rows.dataset).any()


def test_prompts_of_the_test_set_that_other_sets_share_are_counted_as_seen() -> None:
    rows = rows_of_sets(2)
    (split, _) = make_splits(rows, "dataset", 2, seed=0)
    shared = set(rows.group[rows.dataset == "set 0"]) & set(rows.group[rows.dataset == "set 1"])
    assert shared and set(rows.group[split.test][split.seen(rows.group)]) == shared


def test_the_selection_part_of_a_search_is_cut_by_prompt_from_the_training_sets() -> None:
    rows = replace(feature_set(80), dataset=np.array(["a", "b"], dtype=object)[np.arange(80) // 40])
    request = SplitRequest("dataset", selection=True)
    for inner, outer in zip(request.splits(rows, 0.15), make_splits(rows, "dataset", 2, 0), strict=True):
        parts = (inner.train, inner.validation, inner.test)
        assert sorted(np.concatenate(parts)) == outer.outside_test.tolist()
        groups = [set(rows.group[part]) for part in parts]
        assert all(groups) and sum(map(len, groups)) == len(set.union(*groups))


def test_requests_that_the_data_sets_do_not_allow_are_refused() -> None:
    with pytest.raises(SplitError, match=r"at least 2 data sets, and the data have 1: pass several"):
        make_splits(feature_set(80), "dataset", 1, seed=0)
    with pytest.raises(SplitError, match=r"a dataset split of 3 data sets has at most 3 repeats"):
        make_splits(rows_of_sets(3), "dataset", 4, seed=0)
    with pytest.raises(SplitError, match=r"3 data sets cannot be divided into 4 folds"):
        make_splits(rows_of_sets(3), "dataset", 4, seed=0, folds=True)
    alone = rows_of_sets(2)
    alone.dataset[:] = "the rest"
    alone.dataset[5] = "a single row"
    with pytest.raises(SplitError, match=r"1 test rows \(a single row\)"):
        make_splits(alone, "dataset", 1, seed=0)
