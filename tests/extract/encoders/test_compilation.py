"""With `--compile`, one graph encodes batches of every size, and texts of every length."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tier4k.extract.encoders.compilation import compile_network
from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.pipeline.load import load_network
from tier4k.tests.builders.data import tiny_encoder
from tier4k.tests.builders.text_models import write_text_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_hub")]

BATCHES = (4, 8, 3, 32, 1, 2)


class Compiler:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, _: Any) -> Any:
        self.graphs += 1
        return graph


@pytest.fixture(autouse=True)
def new_compiler() -> None:
    torch.compiler.reset()


@pytest.mark.parametrize("feature", ["pooled", "multilevel"])
def test_images_compile_once(tmp_path: Path, feature: Any) -> None:
    encoder = tiny_encoder(tmp_path, "test_vit")
    network = load_network(encoder).frozen("fp32")
    network.levels = encoder.preset.require_levels() if feature == "multilevel" else None
    side = encoder.preprocessing.size
    batches = [torch.randint(256, (size, 3, side, side), dtype=torch.uint8) for size in BATCHES]
    compiler = Compiler()
    with torch.inference_mode():
        expected = [network(batch) for batch in batches]
        compile_network(network, compiler)
        for batch, features in zip(batches, expected, strict=True):
            torch.testing.assert_close(network(batch), features, rtol=1e-4, atol=1e-5)
    assert compiler.graphs == 1


def test_texts_of_every_length_compile_once(tmp_path: Path) -> None:
    write_text_folder(tmp_path / "bert", "bert")
    network = load_network(find_text_encoder(f"hf:{tmp_path / 'bert'}", folders=[Path("/")])).frozen("fp32")
    texts = ["a fox", "a painting of a quiet harbour", "two paper boats", "snow"] * 8
    batches = [texts[number : number + size] for number, size in enumerate(BATCHES)]
    tokens = [network.tokenize(batch) for batch in batches]
    compiler = Compiler()
    with torch.inference_mode():
        expected = [network(batch) for batch in tokens]
        compile_network(network, compiler)
        for batch, features in zip(tokens, expected, strict=True):
            torch.testing.assert_close(network(batch), features, rtol=1e-4, atol=1e-5)
    assert compiler.graphs == 1
