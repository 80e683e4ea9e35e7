"""Whether the system has room for the semaphores that processes share.

Each takes 4 KiB of /dev/shm, which a container may limit.
"""

import multiprocessing


def semaphores_fit(count: int) -> bool:
    """Return whether the system can make `count` semaphores now; makes and releases them as a test."""
    try:
        semaphores = [multiprocessing.Lock() for _ in range(count)]
    except (OSError, ImportError):  # /dev/shm is full, or does not exist
        return False
    return len(semaphores) == count
