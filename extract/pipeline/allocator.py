"""How the C library gives memory to torch in this process."""

import ctypes
import os
from contextlib import suppress

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4  # mallopt(3)'s numbers of these parameters

KEPT_BYTES = 2**29

ALWAYS = -1  # the threshold below which what is free at the end of the heap is kept

ADDED_BYTES = 2**28  # that the heap grows by beyond what is asked for

LARGEST_KEPT = 2**25  # more than this glibc refuses


def keep_freed_memory() -> None:
    """Let glibc keep what torch frees, and Linux give it in large pages; elsewhere nothing happens.

    A network asks for tens of megabytes in every layer and frees them after the next one. As glibc comes, it hands much of that back to the
    system and fetches it again, 4 KiB at a time: 4,000 page faults for each picture of EfficientNet-Lite0, a third of its time, and a heap
    with holes whose peak is chance. To be called before torch allocates anything. Not for training, whose larger maps are handed back all
    the same: `keep_all_freed_memory` is.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it when it first allocates
    _mallopt({TRIM_THRESHOLD: KEPT_BYTES, MMAP_THRESHOLD: LARGEST_KEPT})


def keep_all_freed_memory() -> None:
    """Let glibc keep whatever torch frees, and take nothing from the system but by growing its heap; elsewhere nothing happens.

    For training, whose maps and gradients, of hundreds of megabytes, are the same in every step and would be handed back and fetched anew,
    page by page, in each. Large pages give nothing more there.
    """
    _mallopt({MMAP_MAX: 0, TRIM_THRESHOLD: ALWAYS, TOP_PAD: ADDED_BYTES})


def _mallopt(values: dict[int, int]) -> None:
    with suppress(OSError, AttributeError, TypeError):  # another system, another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in values.items():
            mallopt(parameter, value)
