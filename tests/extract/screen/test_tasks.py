"""Without a terminal, the progress of a long task is one line a minute."""

import pytest

from tier4k.extract.screen.tasks import duration, rate_text, task_log


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_long_task_writes_a_line_a_minute_and_a_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with task_log(clock) as show:
        for second in range(151):
            clock.seconds = 1000.0 + second
            show("encode images", 10 * second, 3000, "read 5%")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "encode images: 600 of 3,000 (20%), 10.0/s, 4 min left, read 5%",
        "encode images: 1,200 of 3,000 (40%), 10.0/s, 3 min left, read 5%",
        "encode images: 1,500 of 3,000 (50%), 10.0/s, ended after 2 min",
    ]


def test_a_short_task_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with task_log(clock) as show:
        show("fit", 0, 2)
        clock.seconds += 59
        show("fit", 2, 2)
    assert capsys.readouterr().err == ""


def test_work_that_was_done_before_does_not_count_for_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with task_log(clock) as show:
        show("sweep", 90, 100)
        clock.seconds += 120
        show("sweep", 92, 100)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first == "sweep: 92 of 100 (92%), 1.0/min, 8 min left"


def test_an_interrupted_task_has_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with pytest.raises(KeyboardInterrupt), task_log(clock) as show:
        show("fit", 0, 10)
        clock.seconds += 61
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "fit: 0 of 10 (0%), 0.0/s, ended after 1 min\n"


def test_slow_rates_and_long_durations_are_readable() -> None:
    assert [rate_text(rate) for rate in (25.31, 0.5, 0.001, 0)] == ["25.3/s", "30.0/min", "3.6/h", "0.0/s"]
    assert [duration(seconds) for seconds in (12, 90, 7260)] == ["12 s", "2 min", "2 h 01 min"]
