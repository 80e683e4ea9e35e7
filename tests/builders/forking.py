"""A process that forks others, which start with everything imported."""

import atexit
import gc
import importlib
import json
import mmap
import sys
from collections.abc import Collection
from contextlib import suppress


class Imports:
    """What the forked processes import: the modules of one that ended by itself are there for the next.

    Most of the time of a short `tier` goes into importing. The forking process learns the modules from its
    children, so that no list of them can become incomplete. It imports only: it starts no thread, which a
    fork would lose.
    """

    def __init__(self) -> None:
        self._named = mmap.mmap(-1, 2**20)  # shared with the forked processes

    def name_at_exit(self) -> None:
        """In a forked process: name the modules that it has imported, once it ends by itself."""
        atexit.register(self.name, set(sys.modules))

    def name(self, before: Collection[str]) -> None:
        """In a forked process: name the modules that it has imported, but not those of `before`."""
        text = json.dumps([module for module in sys.modules if module not in before]).encode()
        self._named[1 : len(text) + 2] = text + b"\n"
        self._named[0] = True  # last, as the process may be killed before

    def repeat(self) -> None:
        """In the forking process: import what a forked one has named; some are no modules that it can."""
        if not self._named[0]:
            return
        self._named[0] = False
        self._named.seek(1)
        for module in json.loads(self._named.readline()):
            with suppress(ImportError):
                importlib.import_module(module)
        gc.freeze()  # a collection in a forked process would copy the memory of these modules
