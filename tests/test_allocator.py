"""The memory that torch frees stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from extract.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch
def layers():
    first = torch.ones(30 * 2**18)
    second = first + 1
    return (first + second).sum()
layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Of ten passes through maps of 30 MiB each, after the first pass."""
    return int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_maps_of_layers_are_not_fetched_from_the_system_again() -> None:
    assert page_faults("kept") * 3 < page_faults("as it comes")
