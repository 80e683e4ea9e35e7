"""No step of an encoder waits for its device: no operator returns a value, or a size that values decide."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tier4k.extract.encoders.find import find_text_encoder
from tier4k.extract.encoders.text_network import TextNetwork
from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.extract.pipeline.load import load_network
from tier4k.tests.builders.data import tiny_encoder
from tier4k.tests.builders.text_models import write_text_folder

pytestmark = pytest.mark.usefixtures("no_hub")

WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "equal")
TEXTS = ["a fox", "a painting of a quiet harbour", "snow"]


class Waits(TorchDispatchMode):
    """Notes the operators that wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __torch_dispatch__(
        self,
        operator: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = str(operator).split(".")[1]
        by_mask = name.startswith("index") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name.startswith(WAITING) or by_mask:
            self.noted.append(name)
        return operator(*args, **(kwargs or {}))


def bert(folder: Path, name: str = "bert") -> TextNetwork:
    write_text_folder(folder / name, name)
    return load_network(find_text_encoder(f"hf:{folder / name}", folders=[Path("/")]))


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("feature", ["pooled", "multilevel"])
def test_an_image_network_never_waits(tmp_path: Path, architecture: str, feature: str) -> None:
    encoder = tiny_encoder(tmp_path, architecture)
    network = load_network(encoder).frozen("fp32")
    network.levels = encoder.preset.require_levels() if feature == "multilevel" else None
    side = encoder.preprocessing.size
    pixels = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    with torch.inference_mode(), Waits() as waits:
        network(pixels)
    assert not waits.noted


SLOW_NAMES = ("roberta", "electra", "albert", "xlm-roberta")


@pytest.mark.parametrize(
    "name", ["bert", "distilbert", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_NAMES)]
)
def test_a_text_network_never_waits_with_or_without_padding(tmp_path: Path, name: str) -> None:
    network = bert(tmp_path, name).frozen("fp32")
    for texts in (TEXTS, TEXTS[:1]):
        batch = network.tokenize(texts)
        with torch.inference_mode(), Waits() as waits:
            found = network(batch)
        assert not waits.noted
        with torch.inference_mode(), Waits() as waits:
            expected = network(TokenBatch(batch.ids, batch.mask))
        assert waits.noted, "transformers no longer reads the mask: the network may pass it as it is"
        assert torch.equal(found, expected)


def test_training_on_texts_never_waits(tmp_path: Path) -> None:
    network = bert(tmp_path)
    batch = network.tokenize(TEXTS)
    assert batch.places is not None
    assert torch.equal(batch.places, torch.stack(torch.where(batch.mask == 1)))
    with Waits() as waits:
        packed = network(batch)
        packed.square().sum().backward()
    assert not waits.noted
    gradients = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    padded = network(TokenBatch(batch.ids, batch.mask))
    padded.square().sum().backward()
    torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-5)
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-4)
