"""What threads share: torch's settings, encoded texts, values that are made once."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from tier4k.extract.pipeline import arithmetic as arithmetic_module
from tier4k.extract.pipeline.arithmetic import TorchSettings, arithmetic
from tier4k.extract.pipeline.encoded_texts import EncodedTexts
from tier4k.extract.pipeline.once import Once

CPU = torch.device("cpu")
WAIT = 60  # seconds; only a failing test waits so long


class Worker:
    """A thread that enters a precision, and leaves it when it is told."""

    def __init__(self, precision: str) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.settings: TorchSettings | None = None
        self._thread = threading.Thread(target=self._run, args=(precision,))
        self._thread.start()

    def _run(self, precision: str) -> None:
        with arithmetic(precision, CPU):  # type: ignore[arg-type]
            self.entered.set()
            self.leave.wait(WAIT)
            self.settings = TorchSettings.current()

    def end(self) -> None:
        self.leave.set()
        self._thread.join(WAIT)
        assert not self._thread.is_alive()


@pytest.fixture(autouse=True)
def _any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU counts as a device with TF32, so that two precisions differ."""
    monkeypatch.setattr(arithmetic_module, "require_precision", lambda *_: None)


def test_threads_of_one_precision_compute_together_whichever_leaves_first() -> None:
    before = TorchSettings.current()
    first, second = Worker("fp32"), Worker("bf16")
    assert first.entered.wait(WAIT)
    assert second.entered.wait(WAIT)
    first.end()
    inside = TorchSettings.current()
    assert (inside.matmul, inside.convolution_tf32) == ("highest", False)
    second.end()
    assert second.settings == inside
    assert TorchSettings.current() == before


def test_a_thread_of_another_precision_waits() -> None:
    before = TorchSettings.current()
    first = Worker("fp32")
    assert first.entered.wait(WAIT)
    second = Worker("tf32")
    assert not second.entered.wait(0.05)
    first.end()
    assert second.entered.wait(WAIT)
    second.end()
    assert first.settings is not None
    assert second.settings is not None
    assert (first.settings.convolution_tf32, second.settings.convolution_tf32) == (False, True)
    assert TorchSettings.current() == before


def test_a_text_is_encoded_once_while_it_is_kept() -> None:
    calls: list[str] = []

    def encode(texts: Sequence[str]) -> Tensor:
        calls.extend(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    encoded = EncodedTexts(encode, kept_bytes=2 * 4)  # two texts
    assert encoded(["a", "bb", "a"]).tolist() == [[1], [2], [1]]
    assert encoded(["bb", "a"]).tolist() == [[2], [1]]
    assert calls == ["a", "bb"]
    assert encoded(["ccc"]).tolist() == [[3]]  # in the place of "bb", which was used before "a"
    assert encoded(["a"]).tolist() == [[1]]
    assert calls == ["a", "bb", "ccc"]
    assert encoded(["bb"]).tolist() == [[2]]
    assert calls == ["a", "bb", "ccc", "bb"]


def test_more_texts_than_are_kept_are_encoded_all_the_same() -> None:
    encoded = EncodedTexts(lambda texts: torch.tensor([[float(len(text))] for text in texts]), kept_bytes=1)
    assert encoded(["a", "bb", "ccc"]).tolist() == [[1], [2], [3]]


def test_eight_threads_make_a_value_once() -> None:
    made: list[int] = []
    barrier = threading.Barrier(8)

    def make() -> object:
        made.append(1)
        return object()

    value = Once(make)

    def get(_: int) -> object:
        barrier.wait(WAIT)
        return value()

    with ThreadPoolExecutor(8) as pool:
        values = set(pool.map(get, range(8)))
    assert len(values) == len(made) == 1


def test_a_value_that_fails_is_made_again() -> None:
    answers = iter([1 / 3])
    attempts: list[int] = []

    def make() -> float:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("not yet")
        return next(answers)

    value = Once(make)
    with pytest.raises(ValueError, match="not yet"):
        value()
    assert value() == value() == 1 / 3
