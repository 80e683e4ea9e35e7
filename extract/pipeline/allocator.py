"""Settings of glibc's allocator with which the process keeps the memory that torch frees."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# The numbers of mallopt(3)'s parameters.
TRIM_THRESHOLD = -1
TOP_PAD = -2
MMAP_THRESHOLD = -3
MMAP_MAX = -4

GLIBC_DEFAULTS = {
    TRIM_THRESHOLD: 2**17,
    TOP_PAD: 2**17,
    MMAP_THRESHOLD: 2**17,
    MMAP_MAX: 2**16,
}

# Encoding: up to 512 MiB of free memory stay, and requests of up to 32 MiB, glibc's largest threshold, come
# from the heap.
ENCODING = {
    TRIM_THRESHOLD: 2**29,
    MMAP_THRESHOLD: 2**25,
}

# Training: all requests come from the heap, which grows by 256 MiB more than needed and never shrinks.
TRAINING = {
    MMAP_MAX: 0,
    TRIM_THRESHOLD: -1,
    TOP_PAD: 2**28,
}

_settings = dict(GLIBC_DEFAULTS)  # of this process; glibc has no function that returns its settings


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep memory that torch frees during encoding. With another C library, nothing changes.

    A network requests tens of megabytes in every layer and frees them after the next one. By default, glibc
    returns much of that memory to the system and requests it again, 4 KiB at a time. This costs 4,000 page
    faults for each image of EfficientNet-Lite0, a third of the time, and fragments the heap, so that the peak
    of memory varies.

    Afterwards the earlier settings of glibc are restored, except one. By default, glibc adapts the threshold
    for separate mappings to the largest block freed; this cannot be restored, and a fixed threshold stays.
    """
    with _mallopt(ENCODING):
        yield


@contextmanager
def keep_all_freed_memory() -> Iterator[None]:
    """Keep all memory that torch frees during training. With another C library, nothing changes.

    Maps and gradients take hundreds of megabytes, above glibc's largest threshold. Every step needs the same
    memory, which glibc would return to the system and request again, page by page. Afterwards the settings
    are restored as by `keep_freed_memory`, and the kept memory is returned to the system.
    """
    with _mallopt(TRAINING):
        yield


@contextmanager
def _mallopt(settings: dict[int, int]) -> Iterator[None]:
    """Apply settings of glibc; afterwards restore the earlier ones and return free memory to the system."""
    earlier_settings = {parameter: _settings[parameter] for parameter in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(earlier_settings)
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    _settings.update(values)
    with suppress(OSError, AttributeError, TypeError):  # another system or another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in values.items():
            mallopt(parameter, value)
