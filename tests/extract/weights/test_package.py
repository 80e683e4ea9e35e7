"""Weights of an installed package are used only if they are those whose hash is pinned."""

import hashlib
from pathlib import Path

import pytest

from tier4k.extract.weights.files import WeightsError
from tier4k.extract.weights.package import Package


def test_a_package_that_is_damaged_is_refused_and_one_that_is_not_there_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "some_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('a package is located, never imported')")
    (folder / "w.pth").write_text("weights")
    monkeypatch.syspath_prepend(tmp_path)
    package = Package("some_weights", "w.pth", "w.pth", hashlib.sha256(b"weights").hexdigest())
    assert package.find() == folder / "w.pth"
    (folder / "w.pth").write_text("spoilt")
    with pytest.raises(
        WeightsError, match="instead of .* damaged or has another release; reinstall .*some-weights"
    ):
        package.find()
    assert Package("not_installed_at_all", "w", "w", "").find() is None
