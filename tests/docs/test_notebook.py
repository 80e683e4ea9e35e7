"""The notebook of the documentation runs from its first cell to its plot."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tier4k.tests.builders.doc_blocks import DOCS
from tier4k.tests.builders.doc_project import fresh_project

NOTEBOOK = DOCS / "notebooks" / "ablation.ipynb"


def cells_of_code() -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs() -> None:
    for cell in cells_of_code():
        assert cell["outputs"] == [] and cell["execution_count"] is None, f"clear the outputs of {NOTEBOOK}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_cells_of_the_notebook_run(
    prepared: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    with fresh_project(*prepared):
        for number, cell in enumerate(cells_of_code(), start=1):
            code = compile("".join(cell["source"]), f"{NOTEBOOK.name}, code cell {number}", "exec")
            with redirect_stdout(StringIO()):
                exec(code, names)
        assert Path("streams.png").read_bytes().startswith(b"\x89PNG")
    assert set(names["results"].index) == {"all", "text+image", "image", "text", "image-prompt", "baseline"}
    assert names["results"].notna().all(axis=None)
