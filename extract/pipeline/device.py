"""Selection of the devices that encode."""

import torch

from tier4k.extract.pipeline.options import ExtractionError
from tier4k.extract.pipeline.units import IMAGES_PER_UNIT

ALL_GPUS = "cuda:all"

# What a command takes as --device, for messages.
ONE_DEVICE = "auto, cpu, cuda, cuda:N or mps"
SEVERAL_DEVICES = f"auto, cpu, cuda, cuda:N, {ALL_GPUS}, several with commas between, or mps"


def choose_devices(names: str) -> list[torch.device]:
    """Return the torch devices with these names.

    Args:
        names: "auto" for CUDA if available, else Apple's GPU, else the CPU; or names of torch devices of one
            type, with commas between; or "cuda:all" for every GPU that torch sees. A GPU may be named once;
            the CPU may be named several times, for as many processes.

    Raises:
        ExtractionError: A device does not exist, cannot encode, or does not fit the others.
    """
    if names == ALL_GPUS:
        choose_device("cuda", SEVERAL_DEVICES)  # raises where there is none
        names = ",".join(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    devices = [choose_device(name.strip(), SEVERAL_DEVICES) for name in names.split(",")]
    types = sorted({device.type for device in devices})
    if len(types) > 1:
        # Features are equal up to rounding, but a rerun could not repeat them.
        raise ExtractionError(
            f"the devices {names} are of several types ({', '.join(types)}): pass devices of one type"
        )
    gpus = [_index(device) for device in devices if device.type != "cpu"]
    if len(set(gpus)) < len(gpus):
        raise ExtractionError(f"the devices {names} name one GPU twice: name each GPU once")
    return devices


def choose_device(name: str, choices: str = ONE_DEVICE) -> torch.device:
    """Return the torch device `name`; "auto" is CUDA if available, else Apple's GPU, else the CPU.

    Args:
        name: The name.
        choices: The names that the message of an error recommends.

    Raises:
        ExtractionError: The device does not exist, or cannot encode.
    """
    if name == "auto":
        return torch.device(_best_device())
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise _unusable_device(name, str(error).splitlines()[0], choices) from None
    if device.type not in IMAGES_PER_UNIT:
        raise _unusable_device(name, f"tier4k does not encode on devices of type {device.type!r}", choices)
    return device


def _index(device: torch.device) -> int:
    return device.index or 0


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _unusable_device(name: str, reason: str, choices: str) -> ExtractionError:
    return ExtractionError(f"the device {name!r} cannot be used ({reason}): pass --device {choices}")
