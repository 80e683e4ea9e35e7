"""Runs whose names differ in their digits alone are in the order of their options."""

from dataclasses import replace
from pathlib import Path

import pytest

from tier4k.heads.reporting.order import places_in_order
from tier4k.heads.reporting.run_names import run_names
from tier4k.heads.reporting.run_settings import RunSettings, read_settings
from tier4k.tests.builders.reports import make_sample


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    return read_settings(make_sample(tmp_path_factory.mktemp("sample")).mlp)


def with_hidden(run: RunSettings, hidden: int | None) -> RunSettings:
    return replace(run, head_options={**run.head_options, "hidden": hidden})


def test_numbers_in_options_are_sorted_as_numbers_and_other_runs_keep_their_places(mlp: RunSettings) -> None:
    names = ["mlp-0000000001", "ridge-0000000002", "mlp-0000000003", "mlp-0000000004"]
    settings = [with_hidden(mlp, 1024), mlp, with_hidden(mlp, 64), with_hidden(mlp, None)]
    assert places_in_order(names, settings) == [3, 1, 2, 0]


def test_the_width_of_a_head_without_a_given_width_is_half_the_inputs(mlp: RunSettings) -> None:
    names = run_names([with_hidden(mlp, None), with_hidden(mlp, 64)], ["a", "b"])
    assert [name.head for name in names] == ["mlp (hidden d/2)", "mlp (hidden 64)"]
