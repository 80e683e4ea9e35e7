"""Batches on their way to a GPU: everything is copied from pinned memory, and nothing waits for a copy."""

from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tier4k.extract.encoders.text_tokenizer import TokenBatch
from tier4k.heads.finetuning.batches import Batch, pinned
from tier4k.heads.finetuning.trainer import MicroBatch

MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
TOKENS = TokenBatch(torch.arange(6).reshape(2, 3), MASK, MASK.nonzero().T)
ALL_TOKENS = [TOKENS, torch.rand(2, 4), None]


class WaitingCopies(TorchDispatchMode):
    """Counts copies, and those that the host waits for."""

    copies = waiting = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default:
            self.copies += 1
            self.waiting += not kwargs.get("non_blocking")
        return function(*args, **kwargs or {})


def tensors(item: Any, name: str = "") -> dict[str, Tensor]:
    """The tensors of nested dataclasses and tuples by their names."""
    if isinstance(item, Tensor):
        return {name: item}
    parts: dict[str, Any] = {}
    if is_dataclass(item):
        parts = {field.name: getattr(item, field.name) for field in fields(item)}
    if isinstance(item, tuple):
        parts = {str(number): part for number, part in enumerate(item)}
    found: dict[str, Tensor] = {}
    for key, part in parts.items():
        found |= tensors(part, f"{name}.{key}")
    return found


@pytest.fixture(params=ALL_TOKENS, ids=["tokens", "features", "none"])
def micro_batch(request: pytest.FixtureRequest) -> MicroBatch:
    """Three rows of two images and two prompts."""
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    batch = Batch(
        (images[:1], images[1:]),
        torch.tensor([0, 1, 0]),
        torch.tensor([1, 1, 0]),
        request.param,
        torch.tensor([1, 0, 1]),
    )
    return MicroBatch(batch, torch.rand(3), 0.5)


def test_for_a_gpu_all_tensors_are_pinned_and_copied_without_waiting(
    micro_batch: MicroBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Tensor] = []
    devices: list[torch.device] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: copies.append(tensor.clone()) or copies[-1])
    monkeypatch.setattr(torch.cuda, "device", lambda device: devices.append(device) or nullcontext())
    found, given = tensors(pinned(micro_batch, torch.device("cuda", 1))), tensors(micro_batch)
    assert devices == [torch.device("cuda", 1)]  # a thread's own device is the first
    assert {id(tensor) for tensor in found.values()} == {id(tensor) for tensor in copies}
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    with WaitingCopies() as counted:
        moved = tensors(micro_batch.to(torch.device("meta")))
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert (counted.copies, counted.waiting) == (len(given), 0)


def test_on_the_cpu_nothing_is_pinned(micro_batch: MicroBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda _: pytest.fail("pinned"))
    assert pinned(micro_batch, torch.device("cpu")) is micro_batch
