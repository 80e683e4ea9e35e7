"""A temporary file that one process of each machine writes, and all processes of the machine read."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from accelerate import Accelerator

from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.finetuning.distributed import call_in_every_process, call_once_per_machine
from tier4k.heads.finetuning.errors import FinetuningError

Result = TypeVar("Result")


class SharedFile:
    """A file of the processes of a machine, which has a name only until all of them have opened it.

    It vanishes with the last of these processes, however they end. All processes call each method.

    Args:
        accelerator: The accelerator of this process.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def open(self) -> BinaryIO:
        """Return the empty file, which the first process of the machine may write.

        Raises:
            StoreError: The temporary folder cannot be written to.
            FinetuningError: The processes of a machine do not share their temporary folder.
        """
        path = call_once_per_machine(self._accelerator, _make_file)
        try:
            return call_in_every_process(lambda: self._open(path))
        finally:
            if self._accelerator.is_local_main_process:
                path.unlink()

    def once(self, write: Callable[[], Result]) -> Result:
        """Call a function in the first process of each machine; return its result in all of the machine.

        Raises:
            TierError: The function raised it, on any machine.
        """
        return call_once_per_machine(self._accelerator, write)

    def _open(self, path: Path) -> BinaryIO:
        try:
            return path.open("r+b" if self._accelerator.is_local_main_process else "rb")
        except OSError as error:
            raise FinetuningError(
                f"a process cannot open {path}, which another process of this machine has made "
                f"({error.strerror}): let all processes have the same temporary folder (TMPDIR)"
            ) from error


def _make_file() -> Path:
    with explain_write_errors(Path(tempfile.gettempdir())):
        descriptor, name = tempfile.mkstemp(prefix="tier4k-images-")
    os.close(descriptor)
    return Path(name)
