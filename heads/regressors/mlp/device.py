"""The device on which networks are fitted."""

from tier4k.extract.pipeline.device import choose_device
from tier4k.heads.regressors.mlp.stack import STATE_BYTES
from tier4k.heads.regressors.options import HeadError

CHOICES = "cpu, cuda or cuda:N"


def fitting_device(name: str) -> str:
    """Return torch's name of the device on which networks are fitted.

    Args:
        name: "cpu", "cuda" or "cuda:N". "auto" is the CPU, whose values do not depend on the machine's GPU.

    Raises:
        ExtractionError: The device does not exist.
        HeadError: No head can be fitted on such a device.
    """
    if name == "auto":
        return "cpu"
    if name.partition(":")[0] not in STATE_BYTES:
        raise HeadError(f"heads cannot be fitted on the device {name!r}: pass --device {CHOICES}")
    return str(choose_device(name, CHOICES))
