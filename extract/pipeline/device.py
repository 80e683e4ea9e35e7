"""The device that encodes."""

import torch

from tier4k.extract.pipeline.options import ExtractionError

PICTURES_PER_CHUNK = {"cpu": 32, "cuda": 256, "mps": 64}


def choose_device(name: str) -> torch.device:
    """The torch device `name`; "auto" is CUDA where there is one, else Apple's GPU, else the CPU.

    Raises:
        ExtractionError: There is no such device.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.empty(0, device=name).device
        if device.type in PICTURES_PER_CHUNK:
            return device
        why = f"nothing is encoded on {device.type!r}"
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
    raise ExtractionError(
        f"the device {name!r} cannot be used ({why}): choose auto, cpu, cuda, cuda:N or mps"
    ) from None
