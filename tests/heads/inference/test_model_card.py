"""The model card of an exported model is a text file that users may edit."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tier4k.heads.inference.model_card import model_card
from tier4k.heads.results.run_format import ResultError


def test_a_card_that_is_no_text_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"# caf\xe9")
    exported = cast(Any, SimpleNamespace(folder=tmp_path))
    with pytest.raises(ResultError, match=r"README\.md cannot be read"):
        model_card(exported)
