"""The process policy changes the process while it is entered, and restores it."""

import logging
import os
import subprocess
import sys

import pytest
from transformers.utils import logging as transformers_logging

from tier4k.extract.pipeline.process_policy import ENVIRONMENT, process_policy


def state() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "verbosity": transformers_logging.get_verbosity(),
        "progress": transformers_logging.is_progress_bar_enabled(),
        "logging": logging.root.manager.disable,
    }


def test_the_policy_restores_what_it_changed_even_after_an_error() -> None:
    before = state()
    with pytest.raises(KeyError), process_policy():
        assert state() != before
        raise KeyError
    assert state() == before


def test_transformers_logs_errors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with process_policy():
        assert transformers_logging.get_verbosity() == logging.ERROR
        assert not transformers_logging.is_progress_bar_enabled()
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"


def test_a_users_own_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    with process_policy():
        assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "debug"


def test_libraries_log_warnings_and_no_information(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("some.library")
    caplog.set_level(logging.DEBUG, "some.library")
    with process_policy():
        logger.info("detail")
        logger.warning("danger")
    logger.info("afterwards")
    assert [record.message for record in caplog.records] == ["danger", "afterwards"]


def test_entering_the_policy_imports_neither_torch_nor_transformers() -> None:
    program = (
        "import sys\n"
        "from tier4k.extract.pipeline.process_policy import process_policy\n"
        "with process_policy():\n"
        "    print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"
