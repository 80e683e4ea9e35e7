"""Images that reading processes hand over to the encoding process, in memory that both map.

PyTorch keeps every tensor on its way to another process in a file of /dev/shm. Docker gives that folder
64 MB. Where it is full, a reading process loses its batch, and the encoding process waits for it for ever. A
file without a name (`memfd_create`) is as fast and needs free memory only; where the system has no such
files, it is an unnamed file of the temporary folder. Only the semaphores of the queues, 4 KiB each, remain in
/dev/shm.
"""

import mmap
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from math import prod
from multiprocessing.reduction import DupFd
from typing import IO, Any

import torch
from torch import Tensor

# Of PyTorch's DataLoader.
SEMAPHORES_OF_LOADER = 8
SEMAPHORES_OF_WORKER = 3


class SharedImages:
    """Images in one unnamed file. A number and shapes travel to another process.

    The file is kept until it has arrived. It arrives once.

    Args:
        images: uint8 tensors of any shapes.

    Raises:
        OSError: There is no room for them.
    """

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._shapes = [tuple(image.shape) for image in images]
        with _unnamed_file() as file:
            for image in images:
                file.write(image.contiguous().numpy().data)
            file.flush()
            # Here and not while it is pickled: PyTorch pickles in a thread whose errors nobody sees.
            self._descriptor: Any = DupFd(file.fileno())

    def received(self) -> list[Tensor]:
        """Return the images, in the process that received them."""
        sizes = [prod(shape) for shape in self._shapes]
        descriptor = self._descriptor.detach()
        try:
            mapped = mmap.mmap(descriptor, sum(sizes))
        finally:
            os.close(descriptor)
        parts = torch.frombuffer(mapped, dtype=torch.uint8).split(sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _unnamed_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("tier4k-images"), "wb")
    return tempfile.TemporaryFile()


def possible_workers(wanted: int) -> int:
    """Return how many processes can read: all `wanted`, or 0 if /dev/shm has no room for their semaphores."""
    needed = SEMAPHORES_OF_LOADER + SEMAPHORES_OF_WORKER * wanted
    return wanted if semaphores_fit(needed) else 0


def semaphores_fit(count: int) -> bool:
    """Return whether the system can make `count` semaphores now. They are made and released."""
    try:
        made = [multiprocessing.Lock() for _ in range(count)]
    except (OSError, ImportError):  # /dev/shm is full, or does not exist
        return False
    return len(made) == count
