"""Training in several processes that `accelerate launch` started: agreement of processes, and errors."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from accelerate import Accelerator

from tier4k.cache.write_errors import explain_write_errors
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.finetuning.errors import FinetuningError


def make_accelerator(device: Device) -> Accelerator:
    """Return the accelerator of this process, which trains alone or with others."""
    return Accelerator(cpu=device == "cpu", mixed_precision="no")


def gather_numbers(accelerator: Accelerator, number: int) -> list[int]:
    """Return the numbers that all processes pass; every process gets the same list."""
    return accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()


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
