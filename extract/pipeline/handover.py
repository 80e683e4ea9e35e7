"""Pictures that reading processes hand over to the encoding one, in memory that both map.

PyTorch keeps every tensor that is on its way to another process in a file of /dev/shm. Docker gives that
folder 64 MB. Where it is full, a reading process loses its batch, and the encoding process waits for it for
ever. A file without a name (`memfd_create`) is as fast and needs free memory only. Where the system has no
such files, it is an unnamed file of the temporary folder. What is left in /dev/shm are the semaphores of the
processes' queues, 4 KiB each.
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

SEMAPHORES_OF_LOADER, SEMAPHORES_OF_WORKER = 8, 3  # of PyTorch's DataLoader


class SharedPictures:
    """Pictures in one unnamed file. What travels to another process is a number and shapes.

    The file is kept until it has arrived. It arrives once.

    Args:
        pictures: uint8 tensors of any shapes.

    Raises:
        OSError: There is no room for them.
    """

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self._shapes = [tuple(one.shape) for one in pictures]
        with _unnamed_file() as file:
            for one in pictures:
                file.write(one.contiguous().numpy().data)
            file.flush()
            # Here and not while it is pickled: PyTorch pickles in a thread whose errors nobody sees.
            self._descriptor: Any = DupFd(file.fileno())

    def received(self) -> list[Tensor]:
        """The pictures, in the process that received them."""
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
        return os.fdopen(os.memfd_create("tier4k-pictures"), "wb")
    return tempfile.TemporaryFile()


def possible_workers(wanted: int) -> int:
    """How many processes can read: all that are wanted; 0 where /dev/shm has no room for their semaphores."""
    return wanted if semaphores_fit(SEMAPHORES_OF_LOADER + SEMAPHORES_OF_WORKER * wanted) else 0


def semaphores_fit(count: int) -> bool:
    """Whether the system can make that many semaphores now. They are made, and given back."""
    try:
        made = [multiprocessing.Lock() for _ in range(count)]
    except (OSError, ImportError):  # /dev/shm is full, or there is none
        return False
    return len(made) == count
