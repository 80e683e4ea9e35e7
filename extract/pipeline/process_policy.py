"""Settings of the whole process under which `tier` runs: environment, log levels and memory.

Nothing else in the package changes the process: no import and no library call does. `tier`'s `main` and the
benchmarks enter `process_policy`; a program that uses the package as a library may.

Two settings belong to a computation, not to the process, and have context managers of their own. The
functions that compute features or gradients enter `tier4k.extract.pipeline.float32.full_float32`, as the
numbers depend on it. The command that trains encoders enters
`tier4k.extract.pipeline.allocator.keep_all_freed_memory`. How threads wait (OMP_WAIT_POLICY) is left to the
user: what helps on a busy machine costs 10 to 30 % on a free one.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tier4k.extract.pipeline.allocator import keep_freed_memory

# Libraries read these when they are first imported. Values that a user has set are kept.
ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "THP_MEM_ALLOC_ENABLE": "1",  # torch requests large pages
}


@contextmanager
def process_policy() -> Iterator[None]:
    """Run with the settings of `tier`, and restore those from before.

    Inside, transformers logs errors only and shows no progress of its own, no library logs information, and
    glibc keeps memory that torch frees. Torch and transformers are not imported. Enter it before they are:
    what a library has read from the environment by then stays as it is, except transformers' log level.

    Example:
        >>> with process_policy():
        ...     summaries = extract(manifest, encoders, root, options, listener)
    """
    with ExitStack() as stack:
        stack.enter_context(_environment())
        stack.enter_context(_quiet_transformers())
        stack.enter_context(_no_information_logged())
        stack.enter_context(keep_freed_memory())
        yield


@contextmanager
def _environment() -> Iterator[None]:
    added = [name for name in ENVIRONMENT if name not in os.environ]
    for name in added:
        os.environ[name] = ENVIRONMENT[name]
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Set the log level of transformers where it has been imported already."""
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    showed_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if showed_progress:
            transformers_logging.enable_progress_bar()


@contextmanager
def _no_information_logged() -> Iterator[None]:
    """Drop messages below warnings, such as Optuna's line for every combination."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
