"""Every benchmark starts as the documentation says: as a script, from the project's folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))


def project_folder() -> set[str]:
    """What is in the project's folder, except caches."""
    return {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_benchmark_explains_itself(name: str) -> None:
    command = [sys.executable, f"benchmarks/{name}", "--help"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "usage" in ended.stdout.lower()


@pytest.mark.slow
def test_the_gpu_benchmark_measures_everything_on_a_cpu(tmp_path: Path) -> None:
    command = ["bash", "benchmarks/gpu.sh", "--tiny", "--device", "cpu", "--seconds", "880"]
    # On a busy machine it may take longer than on a GPU.
    environment = os.environ | {"PYTHON": sys.executable, "OUT": str(tmp_path), "LIMIT": "900"}
    before = project_folder()
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report == json.loads((tmp_path / "gpu.json").read_text())
    assert report["failed"] == {}
    assert project_folder() == before
    assert report["left_out"] == []
    assert all(row["agrees"] for row in report["results"]["agreement"])
    assert [row["exit_code"] for row in report["results"]["commands"]] == [0, 0, 0]
    assert (tmp_path / "gpu.md").read_text().startswith("# cpu\n")
