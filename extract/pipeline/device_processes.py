"""Encoding on several devices of one machine: one process a device, which all publish into the same stores.

This process starts the others, gives each the next unit when it asks for one, and collects their progress. A
process that ends before its work is done costs the units that it had: the others encode the rest.
"""

import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count

from tier4k.cache.store import FeatureStore
from tier4k.extract.pipeline.listener import Encoding, Listener, Timing, UnreadableImage, mean_timing
from tier4k.extract.pipeline.loop import EncodingLoop
from tier4k.extract.pipeline.missing_inputs import Encoder
from tier4k.extract.pipeline.options import ExtractionError, ExtractionOptions
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.pipeline.unit_encoder import UnitEncoder
from tier4k.extract.pipeline.units import Unit

SECONDS_TO_END = 4.0  # in which an interrupted process publishes its features
SIGNALS = {signal.SIGINT, signal.SIGTERM}  # that interrupt a process


# Messages of the processes


@dataclass(frozen=True)
class Ready:
    """A process has loaded its networks.

    Attributes:
        unit_size: Number of inputs of a unit, see `ReadingPlan`.
        notes: What the user should know about the weights.
        shapes: For each encoder the shape of the features of one input.
    """

    unit_size: int
    notes: list[str]
    shapes: list[tuple[int, ...]]


@dataclass(frozen=True)
class NextUnit:
    """A process requests its next unit. The answer is None if no unit is left."""


@dataclass(frozen=True)
class Advanced:
    """A process has encoded or left out `count` more inputs; `timing` is its time so far."""

    count: int
    timing: Timing


@dataclass(frozen=True)
class Done:
    """A process has published all its features."""

    encodings: list[Encoding]


@dataclass(frozen=True)
class Failed:
    """A process has raised an error."""

    error: Exception


@dataclass
class DeviceProcess:
    """A process that encodes on one device.

    Attributes:
        device: Name of the device.
        process: The process.
        connection: Receives its messages, and sends the answers.
        timing: Its time so far.
        encodings: Its outcome for each encoder; None until its end.
    """

    device: str
    process: BaseProcess
    connection: Connection
    timing: Timing = field(default_factory=Timing)
    encodings: list[Encoding] | None = None

    def receive(self) -> Any:
        """Return the next message; None if the process has ended.

        Raises:
            Exception: The process has raised this error.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return None
        if isinstance(message, Failed):
            raise message.error
        return message

    def lost_error(self) -> ExtractionError:
        """Return the error that this process has ended before its work was done."""
        code = self.process.exitcode
        cause = "it was interrupted"
        if code:
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ExtractionError(
            f"the process of the device {self.device} has ended before its work was done ({cause}): run the "
            "same command again, which encodes what is left; if the system ended the process for lack of "
            "memory, pass a smaller --workers or --batch-size"
        )


class DeviceProcesses:
    """Processes that have loaded their networks, and wait for the stores.

    Args:
        processes: The processes, one for each device.

    Attributes:
        notes: What the user should know about the weights.
        shapes: For each encoder the shape of the features of one input.
        unit_size: Number of inputs of a unit, see `ReadingPlan`.

    Raises:
        ExtractionError: A process has ended.
        Exception: A process has raised this error.
    """

    def __init__(self, processes: Sequence[DeviceProcess]) -> None:
        self._processes = processes
        self.notes: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.unit_size = 0
        for process in processes:
            ready = process.receive()
            if ready is None:
                raise process.lost_error()
            self.unit_size = ready.unit_size
            self.shapes = ready.shapes
            self.notes.extend(note for note in ready.notes if note not in self.notes)

    def run(
        self,
        units: Iterator[Unit],
        stores: Sequence[FeatureStore],
        listener: Listener,
    ) -> list[Encoding]:
        """Encode units; return the joint outcome for each encoder.

        Raises:
            ExtractionError: A process has ended before its work was done; the others have done the rest.
            Exception: A process has raised this error.
        """
        paths = [store.path for store in stores]
        unfinished: dict[Any, DeviceProcess] = {}
        lost: list[DeviceProcess] = []
        for process in self._processes:
            with suppress(ConnectionError):  # it has ended, which `receive` finds
                process.connection.send(paths)
            unfinished[process.connection] = process
        while unfinished:
            for connection in wait(list(unfinished)):
                process = unfinished[connection]
                message = process.receive()
                if message is None:
                    lost.append(process)
                    del unfinished[connection]
                elif isinstance(message, Done):
                    process.encodings = message.encodings
                    del unfinished[connection]
                elif isinstance(message, Advanced):
                    process.timing = message.timing
                    listener.advanced(message.count, self._timing())
                else:
                    with suppress(ConnectionError):
                        process.connection.send(next(units, None))
        if lost:
            raise lost[0].lost_error()
        return self._joint_encodings()

    def _timing(self) -> Timing:
        return mean_timing([process.timing for process in self._processes])

    def _joint_encodings(self) -> list[Encoding]:
        outcomes = [process.encodings or [] for process in self._processes]
        timing = mean_timing([encodings[0].timing for encodings in outcomes])
        unreadable: list[UnreadableImage] = []
        for encodings in outcomes:
            unreadable.extend(encodings[0].unreadable)
        joint: list[Encoding] = []
        for of_encoder in zip(*outcomes, strict=True):
            encoded = sum(encoding.encoded for encoding in of_encoder)
            batch_size = min(encoding.batch_size for encoding in of_encoder)
            joint.append(Encoding(encoded, batch_size, timing, tuple(unreadable)))
        return joint


@contextmanager
def device_processes(
    encoders: Sequence[Encoder],
    devices: Sequence[torch.device],
    options: ExtractionOptions,
) -> Iterator[DeviceProcesses]:
    """Start one process for each device. At the end of the context, also by an error, all processes end.

    Raises:
        ExtractionError: A process ends while it loads its networks.
        Exception: A process raises this error.
    """
    started: list[DeviceProcess] = []
    try:
        for device in devices:
            started.append(_start(encoders, str(device), options, len(devices)))
        yield DeviceProcesses(started)
    except BaseException:
        for one in started:
            one.process.terminate()  # it publishes its features
        raise
    finally:
        _await_ends([one.process for one in started])


def _start(
    encoders: Sequence[Encoder],
    device: str,
    options: ExtractionOptions,
    count: int,
) -> DeviceProcess:
    """Start the process of one of `count` devices, which share reading threads and cores."""
    workers = max(options.workers // count, 1) if options.workers else 0
    own_options = replace(options, device=device, workers=workers)
    threads = max(cpu_count() // count, 1)
    context = get_context("spawn")  # a forked process could not use CUDA
    connection, its_connection = context.Pipe()
    arguments = (encoders, own_options, threads, its_connection)
    process = context.Process(target=_encode_units, args=arguments, daemon=True)
    resource_tracker.ensure_running()  # else `start` would start it, which unblocks the signals
    with _blocked_signals():
        process.start()
    its_connection.close()  # so that the end of the process ends the connection
    return DeviceProcess(device, process, connection)


@contextmanager
def _blocked_signals() -> Iterator[None]:
    """Start processes that receive no interrupt before they can handle it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _await_ends(processes: Sequence[BaseProcess]) -> None:
    latest = time.monotonic() + SECONDS_TO_END
    for process in processes:
        process.join(max(latest - time.monotonic(), 0))
        if process.is_alive():
            process.kill()
            process.join()


# In the process of a device


def _encode_units(
    encoders: Sequence[Encoder],
    options: ExtractionOptions,
    threads: int,
    connection: Connection,
) -> None:
    """Encode the units that the starting process hands out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the starting process ends this one
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        torch.set_num_threads(threads)
        with process_policy():
            _load_and_run(encoders, options, connection)
    except (KeyboardInterrupt, EOFError, ConnectionError):
        return  # the starting process ends, and reports why
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        error.add_note(traceback.format_exc())
        with suppress(ConnectionError):  # the starting process has ended
            connection.send(Failed(error))
    finally:
        # An interrupt would now only show a traceback of functions that run at the end of a process.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _load_and_run(
    encoders: Sequence[Encoder],
    options: ExtractionOptions,
    connection: Connection,
) -> None:
    device = torch.device(options.device)
    encoder = UnitEncoder(encoders, device, options)
    connection.send(Ready(encoder.plan.unit_size, encoder.notes, encoder.shapes))
    paths: list[Path] = connection.recv()
    stores = [FeatureStore.open(path) for path in paths]
    loop = EncodingLoop(encoder, device, options.shard_rows)
    units = _requested_units(connection)
    encodings = loop.run(units, stores, lambda count, timing: connection.send(Advanced(count, timing)))
    connection.send(Done(encodings))


def _requested_units(connection: Connection) -> Iterator[Unit]:
    while True:
        connection.send(NextUnit())
        unit: Unit | None = connection.recv()
        if unit is None:
            return
        yield unit
