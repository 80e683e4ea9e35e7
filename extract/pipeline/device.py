"""Selection of the device that encodes."""

import torch

from tier4k.extract.pipeline.options import ExtractionError

IMAGES_PER_CHUNK = {"cpu": 32, "cuda": 256, "mps": 64}


def choose_device(name: str) -> torch.device:
    """Return the torch device `name`; "auto" is CUDA if available, else Apple's GPU, else the CPU.

    Raises:
        ExtractionError: The device does not exist, or cannot encode.
    """
    if name == "auto":
        return torch.device(_best_device())
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise _unusable_device(name, str(error).splitlines()[0]) from None
    if device.type not in IMAGES_PER_CHUNK:
        raise _unusable_device(name, f"tier4k does not encode on devices of type {device.type!r}")
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _unusable_device(name: str, reason: str) -> ExtractionError:
    remedy = "pass --device auto, cpu, cuda, cuda:N or mps"
    return ExtractionError(f"the device {name!r} cannot be used ({reason}): {remedy}")
