"""Benchmarks as users name them: rows with an image prompt (I2I), rows without (T2I), or all rows."""

from typing import cast, get_args

from tier4k.extract.datasets.choices import Benchmark
from tier4k.extract.datasets.errors import DataError

PUBLISHED_NAME_OF_ALL = "AIGIQA4K"  # as in the published TIER-4K code


def parse_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a user's spelling: I2I, T2I, all, or AIGIQA4K for all.

    Raises:
        DataError: The name is none of these.
    """
    if name == PUBLISHED_NAME_OF_ALL:
        return "all"
    names = get_args(Benchmark)
    if name not in names:
        raise DataError(f"there is no benchmark {name!r}: use {', '.join(names)}")
    return cast(Benchmark, name)
