"""Threads compute results ahead: in order, not too far, and their errors arrive where they belong."""

import resource
import threading
import time
from collections.abc import Callable

import pytest

from tier4k.extract.pipeline.threads import (
    AHEAD,
    BYTES_AHEAD,
    OTHER_FILES,
    map_ahead,
    possible_threads,
)

IsStopped = Callable[[], bool]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order(threads: int) -> None:
    def slow_if_even(number: int, _: IsStopped) -> int:
        time.sleep(0.002 * (number % 2 == 0))
        return number**2

    squares = map_ahead(slow_if_even, range(30), threads, bytes_of=lambda _: 1)
    assert list(squares) == [number**2 for number in range(30)]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_in_place_of_its_result(threads: int) -> None:
    def fail_at_5(number: int, _: IsStopped) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    results = map_ahead(fail_at_5, range(100), threads, bytes_of=lambda _: 1)
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="five"):
        next(results)


def test_no_more_than_some_results_are_computed_ahead() -> None:
    started: list[int] = []
    results = map_ahead(lambda number, _: started.append(number), range(100), 2, bytes_of=lambda _: 1)
    next(results)
    assert len(started) <= 2 * AHEAD + 1


def test_no_more_than_some_bytes_are_computed_ahead() -> None:
    """With results of half the limit, the third one waits until the first is taken."""
    started: list[int] = []

    def start(number: int, _: IsStopped) -> int:
        started.append(number)
        return number

    results = map_ahead(start, range(100), 8, bytes_of=lambda _: BYTES_AHEAD // 2 + 1)
    for taken in range(20):
        assert next(results) == taken
        time.sleep(0.01)
        assert len(started) <= taken + 1 + 8


def test_an_item_under_way_learns_that_it_is_needed_no_more() -> None:
    begun, ended = threading.Event(), threading.Event()

    def wait(number: int, is_stopped: IsStopped) -> int:
        if number:
            begun.set()
            while not is_stopped():
                time.sleep(0.001)
            ended.set()
        return number

    results = map_ahead(wait, range(100), 2, bytes_of=lambda _: 1)
    assert next(results) == 0
    assert begun.wait(60)
    results.close()
    assert ended.is_set()


def test_a_closed_iterator_leaves_no_thread_and_begins_nothing() -> None:
    before = threading.active_count()
    started: list[int] = []
    results = map_ahead(lambda number, _: started.append(number), range(100), 2, bytes_of=lambda _: 1)
    next(results)
    results.close()
    begun = len(started)
    assert threading.active_count() == before
    assert len(started) == begun < 100


@pytest.mark.parametrize(("limit", "threads"), [(24, 4), (16, 1), (1024, 64), (resource.RLIM_INFINITY, 64)])
def test_every_thread_may_open_a_file(monkeypatch: pytest.MonkeyPatch, limit: int, threads: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert possible_threads(64) == threads
    if 0 < limit < 1024:
        assert threads == max(limit - OTHER_FILES, 1)
