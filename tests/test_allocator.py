"""The memory that torch frees stays with the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from extract.allocator import keep_freed_memory
keep_freed_memory()
import torch
def layers():
    return len([torch.ones(24 * 2**18) for _ in range(8)])
for _ in range(3):
    layers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    layers()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_maps_of_layers_are_not_fetched_from_the_system_again() -> None:
    """Fifty passes through eight maps of 24 MiB; as glibc comes nearly every page is fetched anew in most runs."""
    faults = int(subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout)
    assert faults < 0.05 * 50 * 8 * 24 * 2**20 / 4096
