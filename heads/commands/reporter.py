"""What functions of the API report, on the console of a command."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from tier4k.heads.commands.console import Console
from tier4k.heads.commands.interruption import ENCODING, explain_interruption

if TYPE_CHECKING:
    from tier4k.extract.datasets.progress import Progress
    from tier4k.extract.pipeline.listener import Listener


class ConsoleReporter:
    """Prints sentences and shows progress.

    Args:
        console: The console of the command.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def noted(self, text: str) -> None:
        """Print a note."""
        self._console.note(text)

    def warned(self, text: str) -> None:
        """Print a warning."""
        self._console.warn(text)

    def counting(self, task: str) -> "AbstractContextManager[Progress]":
        """Show the progress of one task."""
        return self._console.task(task)

    @contextmanager
    def encoding(self) -> "Iterator[Listener]":
        """Show the progress of an encoding."""
        from tier4k.extract.pipeline.progress import TaskListener

        with explain_interruption(ENCODING), self._console.tasks() as show:
            yield TaskListener(show, self._console.notes_once(), self._console.warn)
