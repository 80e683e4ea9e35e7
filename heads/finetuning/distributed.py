"""Training in several processes that `accelerate launch` started: what they agree on, and what is said when one of them ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from accelerate import Accelerator

from tier4k.cache.store import writing
from tier4k.heads.finetuning.choices import Device
from tier4k.heads.finetuning.recipe import FinetuneError


def make_accelerator(device: Device) -> Accelerator:
    """What this process, alone or one of several, trains with."""
    return Accelerator(cpu=device == "cpu", mixed_precision="no")


def broadcast(accelerator: Accelerator, number: int) -> list[int]:
    """What every process says, the same list in each."""
    return accelerator.gather(torch.tensor([number], device=accelerator.device)).tolist()


def visible_to_all(accelerator: Accelerator, folder: Path) -> bool:
    """Whether a folder is there.

    Raises:
        FinetuneError: For some processes it is, for others not.
    """
    seen = broadcast(accelerator, folder.exists())
    if len(set(seen)) > 1:
        raise FinetuneError(
            f"{folder} is there for {sum(seen)} of {len(seen)} processes: give an --out that all machines share"
        )
    return bool(seen[0])


@contextmanager
def shared_folder(accelerator: Accelerator, folder: Path) -> Iterator[None]:
    """Make a folder that all these processes see and no other training uses meanwhile; it is removed again where it stays empty.

    Raises:
        FinetuneError: Another training uses it, or not all processes see it.
        StoreError: It cannot be made.
    """
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(_made(folder))
        accelerator.wait_for_everyone()
        visible_to_all(accelerator, folder)
        yield


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FinetuneError(
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


@contextmanager
def exchanging(accelerator: Accelerator) -> Iterator[None]:
    """Say what to do where another process, with which this one exchanges gradients, has ended.

    Raises:
        FinetuneError: It has.
    """
    try:
        yield
    except RuntimeError as error:
        if accelerator.num_processes == 1 or not _tells_of_a_lost_process(error):
            raise
        raise FinetuneError(
            f"another process of this training has ended ({str(error).splitlines()[0]}); it or its machine tells why. "
            "The same command goes on from the last epoch."
        ) from error


def _tells_of_a_lost_process(error: RuntimeError) -> bool:
    # gloo has no class of its own for it.
    return isinstance(error, torch.distributed.DistError) or "onnection" in str(error)
