"""The selection part of a repeat is cut out of its training rows by the split's rule, equal for all heads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.split_request import SplitRequest, parse_split
from tier4k.heads.data.splits import TEST_SHARE, Split, SplitError
from tier4k.heads.data.stored_splits import write_splits
from tier4k.tests.builders.feature_sets import feature_set

REPEATS = 4


def rows_of_generators(count: int) -> FeatureSet:
    generator = np.array([f"g{row // 4 % count}" for row in range(120)], dtype=object)
    return replace(feature_set(rows=120), generator=generator)


def pairs(rows: FeatureSet, request: SplitRequest, validation: float = 0.0) -> list[tuple[Split, Split]]:
    """The split and the inner split of every repeat."""
    inner = replace(request, selection=True).splits(rows, validation)
    return list(zip(request.splits(rows, validation), inner, strict=True))


@pytest.mark.parametrize("validation", [0.0, 0.15])
@pytest.mark.parametrize(
    "request_",
    [SplitRequest("prompt", REPEATS), SplitRequest("random", folds=5), SplitRequest("published", 2)],
)
def test_inner_parts_are_a_partition_of_the_rows_that_are_no_test_rows(
    request_: SplitRequest, validation: float
) -> None:
    for outer, inner in pairs(rows_of_generators(5), request_, validation):
        parts = np.concatenate([inner.train, inner.validation, inner.test])
        assert sorted(parts) == sorted([*outer.train, *outer.validation])
        assert set(parts).isdisjoint(outer.test)
        assert inner.seed == outer.seed
        assert (len(inner.validation) > 0) == (validation > 0)


@pytest.mark.parametrize("rule", ["prompt", "random", "generator", "published"])
def test_the_selection_part_is_the_same_with_and_without_validation_rows_and_has_its_share(rule: str) -> None:
    rows = rows_of_generators(5)
    for (_, without), (_, with_rows) in zip(
        pairs(rows, SplitRequest(rule)), pairs(rows, SplitRequest(rule), 0.3), strict=True
    ):
        np.testing.assert_array_equal(without.test, with_rows.test)
        if rule in ("random", "published"):
            assert len(without.test) == np.ceil(TEST_SHARE * (len(without.train) + len(without.test)))
        if rule == "prompt":  # 24 of 30 prompts are no test prompts
            assert len(np.unique(rows.group[without.test])) == 5


def test_no_prompt_is_in_two_inner_parts() -> None:
    rows = rows_of_generators(5)
    for _, inner in pairs(rows, SplitRequest("prompt", REPEATS), 0.15):
        groups = [set(rows.group[part]) for part in (inner.train, inner.validation, inner.test)]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_repeats_have_different_selection_parts_even_where_all_have_the_same_test_part() -> None:
    inner = [own for _, own in pairs(rows_of_generators(5), SplitRequest("published", REPEATS))]
    assert len({own.test.tobytes() for own in inner}) == REPEATS


def test_one_more_generator_is_the_selection_part_and_a_third_one_is_held_out() -> None:
    rows = rows_of_generators(5)
    for outer, inner in pairs(rows, SplitRequest("generator"), 0.15):
        parts = (outer.test, inner.test, inner.validation, inner.train)
        names = [set(rows.generator[part]) for part in parts]
        assert list(map(len, names)) == [1, 1, 1, 2]
        assert len(set.union(*names)) == 5


def test_too_few_generators_are_refused() -> None:
    with pytest.raises(SplitError, match="selection part of the generator split with seed 0 has 0 training"):
        pairs(rows_of_generators(3), SplitRequest("generator"), 0.15)
    assert len(pairs(rows_of_generators(3), SplitRequest("generator"))) == 3


def test_the_training_rows_of_a_file_are_cut_by_prompt(tmp_path: Path) -> None:
    rows = rows_of_generators(5)
    write_splits(tmp_path / "splits.json", rows, SplitRequest("random", 2).splits(rows, 0.15))
    file = SplitRequest(parse_split(str(tmp_path / "splits.json")))
    assert replace(file, selection=True).name == f"{file.name}-selection"
    for outer, inner in pairs(rows, file, 0.15):
        assert sorted([*inner.train, *inner.validation, *inner.test]) == sorted(
            [*outer.train, *outer.validation]
        )
        assert set(rows.group[inner.test]).isdisjoint(rows.group[inner.train])


def test_inner_splits_have_a_name_of_their_own() -> None:
    assert SplitRequest("prompt", folds=5, selection=True).name == "prompt-5-fold-selection"
    assert SplitRequest("generator", selection=True).name == "generator-selection"
