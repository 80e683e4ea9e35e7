"""How the C library gives memory to torch in this process."""

import ctypes
import os
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt(3)'s numbers of these parameters
KEPT_BYTES = 2**29
LARGEST_KEPT = 2**25  # more than this glibc refuses


def keep_freed_memory() -> None:
    """Let glibc keep what torch frees, and Linux give it in large pages; elsewhere nothing happens.

    A network asks for tens of megabytes in every layer and frees them after the next one. As glibc comes, it hands much of that back to the
    system and fetches it again, 4 KiB at a time: 4,000 page faults for each picture of EfficientNet-Lite0, a third of its time, and a heap
    with holes whose peak is chance. To be called before torch allocates anything. Not for training: its larger maps are handed back all the
    same, and in large pages that takes longer.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it first allocates
    with suppress(OSError, AttributeError, TypeError):  # another system, another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
