"""Every file and folder that a command writes has the permissions that the umask gives any new one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tier4k.tests.builders.commands import succeed
from tier4k.tests.compatibility.record import make_all

SUFFIXES = {".h5", ".json", ".npy", ".arrow", ".csv", ".safetensors", ".parquet", ".html", ".npz", ".md"}


@pytest.fixture(params=[0o022, 0o077], ids=["022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.slow
def test_commands_write_files_with_the_permissions_of_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make_all()
    ridge, mlp = sorted(map(str, Path("runs").iterdir()), key=lambda run: "mlp" in run)
    succeed("table", ridge, mlp, "-o", "table.csv")
    succeed("report", ridge, mlp, "-o", "report.html")
    succeed("split", "data.csv", "-o", "split.json")
    encoders = ["--image-encoder", "timm:test_resnet", "--text-encoder", "hf:bert"]
    succeed("features", "data.csv", *encoders, "-o", "fused.npz")
    succeed("predict", ridge, "data.csv", "--image-weights", "test_resnet.pth", "-o", "scores.parquet")
    succeed("store", "compact", "--features", "features")
    inputs = {Path("data.csv"), Path("test_resnet.pth"), Path("bert")}
    inputs |= {*Path("bert").iterdir(), *Path().glob("*.png")}
    written = [path for path in Path().rglob("*") if path not in inputs]
    assert {path.suffix for path in written if path.is_file()} >= SUFFIXES
    for path in written:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
