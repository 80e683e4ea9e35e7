"""Settings of glibc's allocator under which memory that torch frees stays with the process."""

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

_settings = dict(GLIBC_DEFAULTS)  # of this process; glibc has no function that returns them


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep memory that torch frees while it encodes. Nothing happens on another C library.

    A network requests tens of megabytes in every layer and frees them after the next one. By default, glibc
    returns much of that to the system and requests it again, 4 KiB at a time: 4,000 page faults for each
    image of EfficientNet-Lite0, a third of its time, and a fragmented heap whose peak varies.

    Afterwards glibc's settings are those from before. Only its default of adapting the threshold for
    separate mappings to the largest block freed cannot be restored: a fixed threshold takes its place.
    """
    with _mallopt(ENCODING):
        yield


@contextmanager
def keep_all_freed_memory() -> Iterator[None]:
    """Keep all memory that torch frees while it trains. Nothing happens on another C library.

    Maps and gradients of hundreds of megabytes, above glibc's largest threshold, are the same in every step;
    they would be returned and requested again, page by page. Settings are restored as by
    `keep_freed_memory`, and the memory that was kept is returned to the system.
    """
    with _mallopt(TRAINING):
        yield


@contextmanager
def _mallopt(changed: dict[int, int]) -> Iterator[None]:
    before = {parameter: _settings[parameter] for parameter in changed}
    _set(changed)
    try:
        yield
    finally:
        _set(before)
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    _settings.update(values)
    with suppress(OSError, AttributeError, TypeError):  # another system or another C library
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in values.items():
            mallopt(parameter, value)
