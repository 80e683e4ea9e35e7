"""Images that reading processes pass to the encoding process, in memory that both map.

PyTorch writes every tensor that it sends to another process into a file of /dev/shm. Docker limits that
folder to 64 MB. If the folder is full, a reading process loses its batch, and the encoding process waits for
the batch for ever. A file without a name (`memfd_create`) is as fast and needs only free memory. On a system
without such files, an unnamed file of the temporary folder is used. Only the semaphores of the queues, 4 KiB
each, remain in /dev/shm.
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

# Numbers of semaphores that PyTorch's DataLoader makes.
SEMAPHORES_OF_LOADER = 8
SEMAPHORES_OF_WORKER = 3


class SharedImages:
    """Images in one unnamed file. Only the file descriptor and the shapes are sent to another process.

    The file exists until the other process has received it. It can be received once.

    Args:
        images: uint8 tensors of any shapes.

    Raises:
        OSError: There is too little memory for the images.
    """

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._shapes = [tuple(image.shape) for image in images]
        with _unnamed_file() as file:
            for image in images:
                file.write(image.contiguous().numpy().data)
            file.flush()
            # Not during pickling, as PyTorch pickles in a thread whose errors are lost.
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


def possible_workers(workers: int) -> int:
    """Return `workers`, or 0 if /dev/shm is too small for the semaphores of so many processes."""
    semaphores = SEMAPHORES_OF_LOADER + SEMAPHORES_OF_WORKER * workers
    return workers if semaphores_fit(semaphores) else 0


def semaphores_fit(count: int) -> bool:
    """Return whether the system can make `count` semaphores now; makes and releases them as a test."""
    try:
        semaphores = [multiprocessing.Lock() for _ in range(count)]
    except (OSError, ImportError):  # /dev/shm is full, or does not exist
        return False
    return len(semaphores) == count
