"""Memory that torch frees stays with the process, as long as the setting is entered."""

import subprocess
import sys

import pytest

# Prints the page faults of fifty passes through eight maps of that many MiB.
PROGRAM = """
import resource
import sys
from contextlib import nullcontext
from tier4k.extract.pipeline import allocator
setting = getattr(allocator, sys.argv[1])
with nullcontext() if sys.argv[3] == "left" else setting():
    import torch
    def layers():
        return len([torch.ones(int(sys.argv[2]) * 2**18) for _ in range(8)])
    if sys.argv[3] == "left":
        with setting():
            layers()
    for _ in range(3):
        layers()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        layers()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

SETTINGS = [("keep_freed_memory", 24), ("keep_all_freed_memory", 90)]


def share_of_pages_requested_again(setting: str, mebibytes: int, state: str) -> float:
    program = [sys.executable, "-c", PROGRAM, setting, str(mebibytes), state]
    ended = subprocess.run(program, check=True, capture_output=True, text=True)
    pages = 50 * 8 * mebibytes * 2**20 / 4096
    return int(ended.stdout) / pages


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
@pytest.mark.parametrize(("setting", "mebibytes"), SETTINGS)
def test_maps_of_layers_are_not_requested_from_the_system_again(setting: str, mebibytes: int) -> None:
    """By default nearly every page is requested again in most runs, and in all with larger maps."""
    assert share_of_pages_requested_again(setting, mebibytes, "entered") < 0.05


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
@pytest.mark.slow
@pytest.mark.parametrize(("setting", "mebibytes"), SETTINGS)
def test_memory_returns_to_the_system_after_the_setting_is_left(setting: str, mebibytes: int) -> None:
    assert share_of_pages_requested_again(setting, mebibytes, "left") > 0.5
