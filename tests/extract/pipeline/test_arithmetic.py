"""A precision means the same arithmetic everywhere, and torch's settings are as before afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.encoders.precision import DTYPES
from tier4k.extract.pipeline.arithmetic import arithmetic, require_precision
from tier4k.extract.pipeline.options import ExtractionError

CPU = torch.device("cpu")
SECOND_GPU = torch.device("cuda:1")


def settings() -> tuple[str, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark


@pytest.fixture(params=[("highest", True, False), ("high", False, True)])
def before(request: pytest.FixtureRequest) -> Iterator[tuple[str, bool, bool]]:
    """Settings that a program has made, which are undone after the test."""
    unchanged = settings()

    def make(values: tuple[str, bool, bool]) -> None:
        torch.set_float32_matmul_precision(values[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = values[1:]

    make(request.param)
    yield request.param
    make(unchanged)


@pytest.fixture
def current_devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two GPUs, of which the second has TF32; the current ones are noted."""
    current = ["cuda:0"]

    @contextmanager
    def change(device: torch.device) -> Iterator[None]:
        current.append(str(device))
        yield
        current.append("cuda:0")

    capabilities = {0: (7, 5), 1: (8, 0)}
    monkeypatch.setattr(torch.cuda, "device", change)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device.index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(torch.version, "hip", None)
    return current


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_other_precision_uses_tf32(precision: Precision, before: tuple[str, bool, bool]) -> None:
    with pytest.raises(KeyError), arithmetic(precision, CPU):
        assert settings()[:2] == ("highest", False)
        raise KeyError
    assert settings() == before


def test_tf32_is_used_in_products_and_convolutions(
    before: tuple[str, bool, bool], current_devices: list[str]
) -> None:
    with pytest.raises(KeyError), arithmetic("tf32", SECOND_GPU):
        assert settings()[:2] == ("high", True)
        assert torch.backends.cuda.matmul.allow_tf32
        with arithmetic("fp32", SECOND_GPU):
            assert settings()[:2] == ("highest", False)
        assert settings()[:2] == ("high", True)
        raise KeyError
    assert settings() == before
    assert current_devices[1] == "cuda:1"


def test_a_gpu_is_the_current_device_inside(current_devices: list[str]) -> None:
    with arithmetic("bf16", SECOND_GPU):
        assert current_devices[-1] == "cuda:1"
    assert current_devices[-1] == "cuda:0"


@pytest.mark.parametrize("fixed_shapes", [True, False])
def test_cudnn_measures_algorithms_where_shapes_are_fixed(
    fixed_shapes: bool, before: tuple[str, bool, bool], current_devices: list[str]
) -> None:
    assert current_devices
    with arithmetic("fp32", SECOND_GPU, fixed_shapes):
        assert torch.backends.cudnn.benchmark == fixed_shapes
    with arithmetic("fp32", CPU, fixed_shapes):
        assert torch.backends.cudnn.benchmark == before[2]
    assert settings() == before


@pytest.mark.usefixtures("current_devices")
def test_a_device_without_tf32_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = settings()
    with pytest.raises(ExtractionError, match="'cpu' cannot compute in tf32.*--precision fp32"):
        require_precision("tf32", CPU)
    old = torch.device("cuda:0")
    with pytest.raises(ExtractionError, match=r"'cuda:0' \(Tesla T4\) .*8\.0"), arithmetic("tf32", old):
        pytest.fail("it computes")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(ExtractionError, match="NVIDIA"):
        require_precision("tf32", SECOND_GPU)
    assert settings() == earlier


def test_weights_of_tf32_are_float32() -> None:
    assert DTYPES["tf32"] == torch.float32
