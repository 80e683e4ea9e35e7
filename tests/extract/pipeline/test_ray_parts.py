"""Decisions of the Ray engine that need no Ray: who encodes, how often, and what is said when it fails."""

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tier4k.extract.pipeline import ray_attempts
from tier4k.extract.pipeline.listener import FailedUnit, StreamSummary, UnreadableImage
from tier4k.extract.pipeline.options import ExtractionError, RayOptions
from tier4k.extract.pipeline.ray_actors import plan_actors
from tier4k.extract.pipeline.ray_attempts import MOST_ATTEMPTS, Attempts, Fatal, GaveUp, attempt
from tier4k.extract.pipeline.ray_outcome import HOPELESS, RayOutcome
from tier4k.extract.pipeline.ray_rows import from_block, to_block
from tier4k.extract.pipeline.ray_session import Node, ray_session
from tier4k.extract.pipeline.ray_units import PublishedUnit
from tier4k.extract.pipeline.unreadable import require_all_encoded

CPU_NODE, GPU_NODE = Node(16, 0), Node(16, 4)


@pytest.mark.parametrize(
    ("options", "nodes", "count", "gpus", "threads"),
    [
        (RayOptions(), [CPU_NODE], 1, 0, 8),
        (RayOptions(), [CPU_NODE, CPU_NODE, Node(0, 0)], 2, 0, 8),
        (RayOptions(actors=8), [CPU_NODE, CPU_NODE], 8, 0, 2),
        (RayOptions(), [CPU_NODE, GPU_NODE], 4, 1, 1),
        (RayOptions(gpus_per_actor=0.5), [GPU_NODE], 8, 0.5, 1),
        (RayOptions(gpus_per_actor=0), [GPU_NODE], 1, 0, 8),
        (RayOptions("auto", 6, 1), [CPU_NODE], 6, 1, 1),
    ],
)
def test_the_processes_fit_the_machines(
    options: RayOptions, nodes: list[Node], count: int, gpus: float, threads: int
) -> None:
    actors = plan_actors(options, nodes)
    assert (actors.count, actors.gpus, actors.threads) == (count, gpus, threads)
    assert actors.device == ("cuda" if gpus else "cpu")
    assert actors.cpus != actors.reader_cpus <= max(node.cpus for node in nodes)


def test_gpus_that_no_machine_has_are_refused() -> None:
    for options in (RayOptions(gpus_per_actor=8), RayOptions(actors=2, gpus_per_actor=8)):
        with pytest.raises(ExtractionError, match=r"no machine .* has 8 GPUs \(one has 4\): pass a smaller"):
            plan_actors(options, [CPU_NODE, GPU_NODE])


class Actor:
    """An actor of Ray in this process."""

    def __init__(self, actor: object) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        """A method that is called with `remote`."""
        return SimpleNamespace(remote=getattr(self._actor, name))


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Actor:
    monkeypatch.setattr(ray_attempts, "import_ray", lambda: SimpleNamespace(get=lambda value: value))
    return Actor(Attempts())


def failing(times: int) -> Callable[[], str]:
    """A function that fails that often before it succeeds."""
    errors = [ValueError("the network is away\nand more")] * times

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    return work


def test_work_is_tried_three_times(attempts: Actor) -> None:
    assert attempt(attempts, 1, failing(2)) == "done"
    assert attempt(attempts, 2, failing(3)) == GaveUp("ValueError: the network is away")
    assert attempt(attempts, 1, failing(2)) == "done"  # what succeeded counts anew


def test_work_that_ends_its_process_is_given_up_and_work_that_only_waited_is_not(attempts: Actor) -> None:
    for _ in range(MOST_ATTEMPTS):
        attempts.begin.remote("lost")  # and the process is gone
    assert "ended in each of 3 attempts" in attempt(attempts, "lost", failing(0)).reason
    assert attempt(attempts, "behind it", failing(0)) == "done"


def test_an_error_of_tier4k_is_not_tried_again(attempts: Actor) -> None:
    error = ExtractionError("a crop is too small")

    def work() -> None:
        assert error.args, "called twice"
        error.args = ()
        raise error

    assert attempt(attempts, 1, work) == Fatal(error)


def test_an_encoder_that_fails_ends_its_process(attempts: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(ray_attempts.os, "_exit", end)
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(SystemExit):
            attempt(attempts, 1, failing(1), ends_process=True)
    assert attempt(attempts, 1, failing(1), ends_process=True) == GaveUp("ValueError: the network is away")


def test_values_pass_through_blocks_unchanged() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)
    values = [("text", {"pixels": pixels}), None]
    ((text, tensors), nothing) = from_block(to_block(values))
    assert text == "text" and nothing is None
    assert torch.equal(tensors["pixels"], pixels) and tensors["pixels"].is_inference()


def test_units_that_fail_one_after_another_end_the_job() -> None:
    failed, done = FailedUnit(("a.png",), 1, "no disk"), PublishedUnit(2, (2,), (), 0.1, (4,))
    outcome = RayOutcome(1, 1)
    for _ in range(3):
        for _ in range(HOPELESS - 1):
            outcome.add(failed)
        assert outcome.add(done) == 2
    for _ in range(HOPELESS - 1):
        outcome.add(failed)
    with pytest.raises(
        ExtractionError, match=f"{HOPELESS} units .* failed 3 times each, the last one by no disk"
    ):
        outcome.add(failed)


def test_given_up_inputs_are_an_error_even_where_unreadable_ones_are_skipped() -> None:
    units = (FailedUnit(("a.png", "b.png"), 2, "a fault"),)
    summary = StreamSummary(
        "image", "clip", None, 9, 6, unreadable=(UnreadableImage("c.png", "bad"),), failed=units
    )
    with pytest.raises(ExtractionError, match=r"2 inputs were given up .*a\.png \(a fault\)") as error:
        require_all_encoded([summary, summary], "skip")
    assert "c.png" not in str(error.value)
    with pytest.raises(ExtractionError, match=r"a\.png \(a fault\).*c\.png \(bad\)"):
        require_all_encoded([summary])


class FakeRay:
    """Ray as `ray_session` uses it."""

    def __init__(self, initialized: bool = False, error: Exception | None = None) -> None:
        self.initialized, self.error = initialized, error
        self.arguments: dict[str, Any] = {}
        services = SimpleNamespace(canonicalize_bootstrap_address=lambda address: address)
        worker = SimpleNamespace(_worker_logs_enabled=True)
        self._private = SimpleNamespace(worker=worker, services=services)

    def is_initialized(self) -> bool:
        return self.initialized

    def init(self, **arguments: Any) -> None:
        if self.error:
            raise self.error
        self.initialized, self.arguments = True, arguments

    def shutdown(self) -> None:
        self.initialized = False


def use(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    monkeypatch.setattr("tier4k.extract.pipeline.ray_session.import_ray", lambda: ray)
    return ray


def ray_session_of(address: str | None) -> AbstractContextManager[None]:
    return ray_session(RayOptions(address))


def test_an_interrupt_ends_a_ray_that_was_started_here_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_ours in (True, False):
        ray = use(FakeRay(initialized=not is_ours), monkeypatch)
        with pytest.raises(KeyboardInterrupt), ray_session_of(None):
            assert ray.initialized
            raise KeyboardInterrupt
        assert ray.initialized is not is_ours
        assert ray._private.worker._worker_logs_enabled


def test_sigterm_while_ray_starts_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def init(**_: object) -> None:
        """Start Ray, whose own handler of SIGTERM ends the process."""
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(use(FakeRay(), monkeypatch), "init", init)
    try:
        with pytest.raises(KeyboardInterrupt), ray_session_of(None):
            pass
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_ray_starts_here_unless_there_is_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, used in ((None, "local"), ("auto", "auto")):
        ray = use(FakeRay(), monkeypatch)
        ray._private.services.canonicalize_bootstrap_address = lambda _: None
        with ray_session_of(address):
            assert ray.arguments["address"] == used
            assert ("num_cpus" in ray.arguments) == (address is None)


def test_a_missing_cluster_is_an_error_that_names_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    use(FakeRay(error=ConnectionError("nobody listens\nat all")), monkeypatch)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(ExtractionError, match=r"at --address 127.* \(nobody listens\): start one with"),
        ray_session_of(f"127.0.0.1:{server.getsockname()[1]}"),
    ):
        pass


def test_ray_does_not_wait_for_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = use(FakeRay(), monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # closed afterwards
    for address in (f"127.0.0.1:{port}", "host.invalid:6379"):
        expected = rf"there is no Ray cluster at --address {address} .*: start one with"
        with pytest.raises(ExtractionError, match=expected), ray_session_of(address):
            pass
    assert not ray.arguments


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtractionError, match=r"pip install 'tier4k\[ray\]'"), ray_session_of(None):
        pass
