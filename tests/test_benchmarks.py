"""Every benchmark starts as README says: as a script, from the project's folder."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py") if path.name != "__init__.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_tells_what_it_measures(name: str) -> None:
    told = subprocess.run(
        [sys.executable, f"benchmarks/{name}", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert "usage" in told.stdout.lower()
