"""Training in several processes that `accelerate launch` started: agreement of processes, and errors."""

import atexit
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from tier4k.cache.errors import TierError
from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.finetuning.errors import FinetuningError

Result = TypeVar("Result")


def make_accelerator(device: Device) -> Accelerator:
    """Return the accelerator of this process, which trains alone or with others."""
    atexit.register(_leave_other_processes)
    return Accelerator(cpu=device == "cpu", mixed_precision="no")


def gather_numbers(accelerator: Accelerator, number: int) -> list[int]:
    """Return the numbers that all processes pass; every process gets the same list."""
    return accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()


def call_in_every_process(function: Callable[[], Result]) -> Result:
    """Call a function in every process; return this process's result if all of them have one.

    Without this, the other processes would wait for one that has failed.

    Raises:
        TierError: The function raised it in this process, or else in another one.
    """
    result: Result | None = None
    own_error: TierError | None = None
    try:
        result = function()
    except TierError as error:
        own_error = error
    errors = [error for error in gather_object([own_error]) if error is not None]
    if errors:
        raise own_error or errors[0]
    return cast(Result, result)


def call_once_per_machine(accelerator: Accelerator, function: Callable[[], Result]) -> Result:
    """Call a function in the first process of each machine; all processes of the machine get its result.

    Raises:
        TierError: The function raised it, on any machine.
    """
    own_result = call_in_every_process(lambda: function() if accelerator.is_local_main_process else None)
    # Processes are numbered machine by machine.
    first_of_machine = accelerator.process_index - accelerator.local_process_index
    return cast(Result, gather_object([own_result])[first_of_machine])


def exists_for_all(accelerator: Accelerator, folder: Path) -> bool:
    """Whether a folder exists.

    Raises:
        FinetuningError: The folder exists for some processes but not for all.
    """
    seen = gather_numbers(accelerator, folder.exists())
    if len(set(seen)) > 1:
        raise FinetuningError(
            f"{folder} exists for {sum(seen)} of {len(seen)} processes only: "
            "pass an --out folder that all machines share"
        )
    return bool(seen[0])


@contextmanager
def exclusive_folder(accelerator: Accelerator, folder: Path) -> Iterator[None]:
    """Make a folder that only this training uses and all its processes see; at the end, remove it if empty.

    Raises:
        FinetuningError: Another training uses the folder, or not all processes see the folder.
        StoreError: The folder cannot be made.
    """
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(_lock_folder(folder))
        accelerator.wait_for_everyone()
        exists_for_all(accelerator, folder)
        yield


@contextmanager
def explain_lost_processes(accelerator: Accelerator) -> Iterator[None]:
    """Raise an error that names the remedy if another process of this training has ended.

    Raises:
        FinetuningError: Another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not _is_lost_connection(error):
            raise
        reason = str(error).splitlines()[0]
        raise FinetuningError(
            f"another process of this training has ended ({reason}); the output of that process states "
            "the reason. Run the same command again to continue after the last epoch."
        ) from error


def _leave_other_processes() -> None:
    """Join the threads of torch that exchange messages with other processes.

    A thread that still holds a tensor while Python shuts down would abort the process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Make a folder and lock it against other trainings; at the end, unlock it, and remove it if empty."""
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FinetuningError(
            f"another process is training this run in {folder}: wait until it finishes, or pass another --out"
        ) from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()


def _is_lost_connection(error: RuntimeError) -> bool:
    # gloo has no error class for a lost connection.
    return isinstance(error, torch.distributed.DistError) or "onnection" in str(error)
