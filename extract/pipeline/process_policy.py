"""Settings of the whole process under which `tier` runs: environment, log levels and memory.

Nothing else in the package changes the process, neither imports nor calls. The `main` function of `tier` and
the benchmarks enter `process_policy`; programs that use the package as a library may enter it too.

Two settings belong to a computation, not to the process, and have separate context managers. The functions
that encode, and those that train encoders, enter `tier4k.extract.pipeline.arithmetic.arithmetic`, as their
results depend on this setting. The command that trains encoders also enters
`tier4k.extract.pipeline.allocator.keep_all_freed_memory`. How threads wait (OMP_WAIT_POLICY) is left to the
user: what helps on a busy machine is slower on a free one.
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
    """Apply the process settings of `tier`, and restore the earlier settings afterwards.

    In the context, transformers logs only errors and shows no progress bars, no library logs information, and
    glibc keeps memory that torch frees. Enter the context before torch and transformers are imported, as they
    read the environment at import. Only the log level of transformers is also changed after its import. This
    function imports neither of the two.

    Example:
        >>> with process_policy():
        ...     summaries = extract(DatasetInputs.of(manifest), encoders, root, options, listener)
    """
    with ExitStack() as stack:
        stack.enter_context(_environment())
        stack.enter_context(_quiet_transformers())
        stack.enter_context(_no_information_logged())
        stack.enter_context(keep_freed_memory())
        yield


@contextmanager
def _environment() -> Iterator[None]:
    """Set the variables of `ENVIRONMENT` that the user has not set, and remove them afterwards."""
    added_names = [name for name in ENVIRONMENT if name not in os.environ]
    for name in added_names:
        os.environ[name] = ENVIRONMENT[name]
    try:
        yield
    finally:
        for name in added_names:
            os.environ.pop(name, None)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Let transformers log only errors and show no progress bars, if it is imported already."""
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging as transformers_logging

    earlier_level = transformers_logging.get_verbosity()
    showed_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(earlier_level)
        if showed_progress:
            transformers_logging.enable_progress_bar()


@contextmanager
def _no_information_logged() -> Iterator[None]:
    """Drop log messages below warnings."""
    earlier_level = logging.root.manager.disable
    logging.disable(max(earlier_level, logging.INFO))
    try:
        yield
    finally:
        logging.disable(earlier_level)
