"""Written weights have the same bytes, and so the same hash and stores, in every process."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tier4k.extract.weights.write import write_tensors


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    tensors = {"x": torch.arange(6.0), "y": torch.ones(2, 2)}
    entries = {name: name * 3 for name in ("format", "tier4k.seen_images", "b", "a", "ä")}
    paths = [tmp_path / f"{number}.safetensors" for number in range(12)]
    for path in paths:
        write_tensors(path, tensors, entries)
    # safetensors alone writes the entries in a random order, one of 120.
    assert len({path.read_bytes() for path in paths}) == 1
    torch.testing.assert_close(load_file(paths[0]), tensors)
    with safe_open(paths[0], "pt") as file:
        assert file.metadata() == entries
