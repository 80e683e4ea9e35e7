"""The Python blocks of docs/python.md run on a small data set."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import tier4k
from tier4k.tests.builders.doc_blocks import DOCS, run_blocks
from tier4k.tests.builders.golden import fill, write_dataset, write_tiny_bert


@pytest.mark.slow
def test_the_page_about_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("Dataset/PKU-AIGIQA-4K"), rows=48, image_to_image=24)
    Path("pretrained").mkdir()
    torch.save(fill(timm.create_model("resnet18").state_dict(), 70), "pretrained/resnet18.pth")
    write_tiny_bert(Path("bert-base-uncased"))
    defined = run_blocks(DOCS / "python.md")
    np.testing.assert_array_equal(defined["vector"], defined["plain"])
    assert len(defined["runs"]) == len(defined["logged"]) == 8
    assert len(defined["predicted"]) == 24
    assert Path("report.html").stat().st_size > 10_000
    assert Path("streams.pdf").read_bytes().startswith(b"%PDF")
    assert isinstance(defined["run"], tier4k.Run)
    assert defined["run"].results.id in capsys.readouterr().out
    assert "tier4k.Layout" in Path("our_layouts.py").read_text()
