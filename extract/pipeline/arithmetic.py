"""What the names of precisions mean in computations, and torch's settings while a device computes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from tier4k.extract.encoders.choices import Precision
from tier4k.extract.pipeline.options import ExtractionError

TF32 = "tf32"
TF32_CAPABILITY = (8, 0)  # of the first NVIDIA GPUs that have it


@contextmanager
def arithmetic(
    precision: Precision,
    device: torch.device,
    fixed_shapes: bool = False,
) -> Iterator[None]:
    """Compute in one precision on one device, in extraction and in training alike.

    By default, torch rounds the inputs of float32 convolutions to 10 bits (TF32) on recent NVIDIA GPUs.
    Features would then depend on the device, which is not part of a store's signature. Here products and
    convolutions of float32 tensors are rounded so with "tf32", and with no other precision. The device
    becomes torch's current one, so that libraries allocate memory there. The earlier settings are restored
    afterwards. Torch's settings belong to the process: threads with equal settings compute at the same time,
    others wait for them.

    Args:
        precision: The arithmetic. The types of weights follow from `DTYPES`, not from here.
        device: The device that computes.
        fixed_shapes: Whether inputs have few shapes: cuDNN then measures its algorithms for each new shape.
            With inputs of many shapes, this costs more than it saves.

    Raises:
        ExtractionError: The device has no TF32.
    """
    require_precision(precision, device)
    is_cuda = device.type == "cuda"
    settings = TorchSettings(
        "high" if precision == TF32 else "highest",
        precision == TF32,
        fixed_shapes if is_cuda else torch.backends.cudnn.benchmark,
    )
    with _SHARED.using(settings), torch.cuda.device(device) if is_cuda else nullcontext():
        yield


@dataclass(frozen=True)
class TorchSettings:
    """Torch's settings of arithmetic, which belong to the process and not to a thread.

    Attributes:
        matmul: Precision of products of float32 matrices, by torch's name.
        convolution_tf32: Whether convolutions of float32 tensors round their inputs to TF32.
        benchmark: Whether cuDNN measures its algorithms for each new shape.
    """

    matmul: str
    convolution_tf32: bool
    benchmark: bool

    @classmethod
    def current(cls) -> "TorchSettings":
        """Return the present settings of the process."""
        cudnn = torch.backends.cudnn
        return cls(torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark)

    def apply(self) -> None:
        """Make these the settings of the process."""
        # torch's newer settings (`fp32_precision`) follow these older ones. Reading the older ones fails
        # after the newer ones are set, and torch's compiler reads both.
        torch.set_float32_matmul_precision(self.matmul)
        torch.backends.cudnn.allow_tf32 = self.convolution_tf32
        torch.backends.cudnn.benchmark = self.benchmark


@dataclass
class _Use:
    """A change from earlier settings, and the threads that compute with the new settings."""

    settings: TorchSettings
    earlier: TorchSettings
    threads: list[int] = field(default_factory=list)


class _SharedSettings:
    """Lets threads with equal settings compute at the same time. A thread with other settings waits.

    A thread may change the settings again inside its own use, once no other thread computes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._uses: list[_Use] = []

    @contextmanager
    def using(self, settings: TorchSettings) -> Iterator[None]:
        """Compute with settings, and restore the earlier ones when the last thread has left."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._may_enter(thread, settings))
            if not self._uses or self._uses[-1].settings != settings:
                self._uses.append(_Use(settings, TorchSettings.current()))
                settings.apply()
            use = self._uses[-1]
            use.threads.append(thread)
        try:
            yield
        finally:
            with self._changed:
                use.threads.remove(thread)
                if not use.threads:
                    self._uses.pop().earlier.apply()
                self._changed.notify_all()

    def _may_enter(self, thread: int, settings: TorchSettings) -> bool:
        if all(other == thread for use in self._uses for other in use.threads):
            return True
        return len(self._uses) == 1 and self._uses[0].settings == settings


_SHARED = _SharedSettings()


def require_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a device that cannot compute in a precision.

    Raises:
        ExtractionError: It has no TF32.
    """
    if precision == TF32 and not _has_tf32(device):
        raise ExtractionError(
            f"the device {_described(device)} cannot compute in tf32, which needs an NVIDIA GPU of compute "
            "capability 8.0 or later: pass --precision fp32, or another --device"
        )


def _has_tf32(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= TF32_CAPABILITY


def _described(device: torch.device) -> str:
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"{str(device)!r}{name}"
