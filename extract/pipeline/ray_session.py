"""Connection to Ray: a cluster of the user, or Ray started on this machine for one command."""

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tier4k.extract.pipeline.options import ExtractionError, RayOptions, default_workers

# Ray starts here with at least two CPUs, one for a process that reads, one for one that encodes.
FEWEST_CPUS = 2

# What a Ray that is started here reads, unless the user has set it: it sends no statistics of its use to its
# developers, and its libraries in C++ print nothing.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

SILENT = logging.CRITICAL

SECONDS_TO_CONNECT = 10.0


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of a machine in a cluster."""

    cpus: float
    gpus: float


@contextmanager
def ray_session(options: RayOptions) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine; the end of the context disconnects, or ends Ray.

    A cluster of the user stays as it is. Within a session, further ones use it. In the context Ray logs
    nothing and shows no progress bars.

    Raises:
        ExtractionError: Ray is not installed, or there is no cluster at the address.
    """
    ray = import_ray()
    with _silence(ray):
        if ray.is_initialized():
            yield
            return
        _connect(ray, options.address)
        try:
            yield
        finally:
            ray.shutdown()


def import_ray() -> Any:
    """Return the module `ray`.

    Raises:
        ExtractionError: It is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ExtractionError(
            f"--engine ray needs Ray Data ({error}): run `pip install 'tier4k[ray]'`, on every machine of "
            "the cluster"
        ) from None
    return ray


def nodes() -> list[Node]:
    """Return the machines of the cluster."""
    alive = [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
    return [Node(resources.get("CPU", 0), resources.get("GPU", 0)) for resources in alive]


def _connect(ray: Any, address: str | None) -> None:
    arguments: dict[str, Any] = {"log_to_driver": False, "logging_level": SILENT}
    if address is None:
        cpus = max(default_workers(), FEWEST_CPUS)
        arguments.update(address="local", num_cpus=cpus, include_dashboard=False)
    else:
        arguments.update(address=address)
    try:
        if address is not None:
            _require_listening(ray, address)
        with _environment(), _quiet_stderr(), _own_sigterm_handler():
            ray.init(**arguments)
    except (OSError, RuntimeError, ValueError) as error:
        raise ExtractionError(_why_not_connected(address, error)) from error


def _require_listening(ray: Any, address: str) -> None:
    """Refuse an address where nobody listens: Ray would wait for many minutes, and then end this process.

    Raises:
        OSError: There is no such host, or it does not answer.
        ValueError: The address has another form.
    """
    if "://" in address:
        return
    found = ray._private.services.canonicalize_bootstrap_address(address)
    if found:  # else Ray has its own message
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()


def _why_not_connected(address: str | None, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0]
    if address is None:
        return f"Ray cannot be started on this machine ({reason}): pass --engine local"
    return (
        f"there is no Ray cluster at --address {address} that can be used ({reason}): start one with `ray "
        "start --head`, or leave out --address, which starts Ray on this machine for this command"
    )


@contextmanager
def _silence(ray: Any) -> Iterator[None]:
    """Keep Ray from printing and logging in this process.

    Ray has a setting for what its workers print, none for its own messages about them.
    """
    earlier_level = logging.root.manager.disable
    printed = getattr(ray._private.worker, "_worker_logs_enabled", True)
    logging.disable(SILENT)
    ray._private.worker._worker_logs_enabled = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ray._private.worker._worker_logs_enabled = printed
        logging.disable(earlier_level)


@contextmanager
def _environment() -> Iterator[None]:
    """Set the variables of `ENVIRONMENT` that the user has not set, and remove them afterwards."""
    added = [name for name in ENVIRONMENT if name not in os.environ]
    for name in added:
        os.environ[name] = ENVIRONMENT[name]
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what is written to standard error: the start of Ray reports the log level that was set."""
    with ExitStack() as stack:
        kept = os.dup(2)
        stack.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        stack.callback(os.dup2, kept, 2)
        yield


@contextmanager
def _own_sigterm_handler() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces; a SIGTERM in the meantime is an interrupt."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:
        # Ray's handler ends the process with the number of the signal as exit code, and no message.
        if ended.code == signal.SIGTERM:
            raise KeyboardInterrupt from ended
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
