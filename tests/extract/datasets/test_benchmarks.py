"""A benchmark is accepted under each of its spellings, and nothing else is."""

import pytest

from tier4k.extract.datasets.benchmarks import parse_benchmark
from tier4k.extract.datasets.errors import DataError


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [("I2I", "I2I"), ("T2I", "T2I"), ("all", "all"), ("AIGIQA4K", "all")],
)
def test_every_spelling_of_a_benchmark_is_accepted(name: str, benchmark: str) -> None:
    assert parse_benchmark(name) == benchmark


@pytest.mark.parametrize("name", ["", "i2i", "ALL", "PKU-AIGIQA-4K"])
def test_another_name_is_rejected_with_the_list_of_valid_ones(name: str) -> None:
    with pytest.raises(DataError, match=f"there is no benchmark '{name}': use I2I, T2I, all"):
        parse_benchmark(name)
