"""The prepared folder of the documentation's blocks, once for all pages."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The prepared folder, and the place where it was prepared and where its copies work."""
    from tier4k.tests.builders.doc_project import write_project

    root = tmp_path_factory.mktemp("docs")
    place, stored = root / "project", root / "prepared"
    write_project(place)
    place.rename(stored)
    return stored, place
