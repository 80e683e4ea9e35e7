"""Training in several processes that `accelerate launch` started: their agreement and their errors."""

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
    """Return the numbers that all processes pass, the same list in each."""
    return accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()


def exists_for_all(accelerator: Accelerator, folder: Path) -> bool:
    """Whether a folder exists.

    Raises:
        FinetuningError: It exists for some processes and not for others.
    """
    seen = gather_numbers(accelerator, folder.exists())
    if len(set(seen)) > 1:
        raise FinetuningError(
            f"{folder} exists for {sum(seen)} of {len(seen)} processes: give an --out that all machines share"
        )
    return bool(seen[0])


@contextmanager
def exclusive_folder(accelerator: Accelerator, folder: Path) -> Iterator[None]:
    """Make a folder for this training alone, visible to all its processes; remove it afterwards if it is
    empty.

    Raises:
        FinetuningError: Another training uses it, or not all processes see it.
        StoreError: It cannot be made.
    """
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(_locked_folder(folder))
        accelerator.wait_for_everyone()
        exists_for_all(accelerator, folder)
        yield


@contextmanager
def explaining_lost_processes(accelerator: Accelerator) -> Iterator[None]:
    """Raise an error that names the remedy when another process, which exchanges gradients with this one, has
    ended.

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
            f"another process of this training has ended ({reason}); its own output states why. "
            "The same command continues after the last epoch."
        ) from error


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FinetuningError(
            f"this run is being trained already, in {folder}: wait for its end, or give another --out"
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
    # gloo has no class of its own for it.
    return isinstance(error, torch.distributed.DistError) or "onnection" in str(error)
