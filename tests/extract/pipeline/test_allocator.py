"""The memory that torch frees stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys
from extract import allocator
getattr(allocator, sys.argv[1])()
import torch
def layers():
    return len([torch.ones(int(sys.argv[2]) * 2**18) for _ in range(8)])
for _ in range(3):
    layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
@pytest.mark.parametrize(("kept", "mebibytes"), [("keep_freed_memory", 24), ("keep_all_freed_memory", 90)])
def test_maps_of_layers_are_not_fetched_from_the_system_again(kept: str, mebibytes: int) -> None:
    """Fifty passes through eight maps; as glibc comes nearly every page is fetched anew in most runs, and in all of the larger ones."""
    program = [sys.executable, "-c", PROGRAM, kept, str(mebibytes)]
    faults = int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)
    assert faults < 0.05 * 50 * 8 * mebibytes * 2**20 / 4096
