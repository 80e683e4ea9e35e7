"""Errors of too little memory, in all forms in which torch reports them."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# Parts of messages of errors that have no class of their own.
MESSAGES = (
    "not enough memory",  # the CPU
    "can't allocate memory",
    "MPS backend out of memory",
    "CUDA out of memory",
    "CUDA error: out of memory",  # outside torch's allocator, as in the copy of a network
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that the memory of the device, or of the machine, is too small."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES)


def unless_out_of_memory(function: Callable[[], Result]) -> Result | None:
    """Call a function and return its result; None if its memory was too small.

    Memory that torch keeps for later is then freed. The error is not kept, as it refers to large tensors.

    Args:
        function: Never returns None.
    """
    try:
        return function()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    return None
