"""What functions of the API report, on the console of a command."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from tier4k.heads.commands.console import print_line, progress_counter

if TYPE_CHECKING:
    from rich.console import Console

    from tier4k.extract.datasets.progress import Progress
    from tier4k.extract.pipeline.listener import Listener


class ConsoleReporter:
    """Prints sentences and shows progress bars.

    Args:
        console: The console of the command.
    """

    def __init__(self, console: "Console") -> None:
        self._console = console

    def noted(self, text: str) -> None:
        """Print a line."""
        print_line(self._console, text)

    def warned(self, text: str) -> None:
        """Print a yellow line."""
        print_line(self._console, text, style="yellow")

    def counting(self, task: str) -> "AbstractContextManager[Progress]":
        """Show the progress of one task."""
        return progress_counter(self._console, task)

    @contextmanager
    def encoding(self) -> "Iterator[Listener]":
        """Show the progress of an encoding."""
        from tier4k.extract.pipeline.progress import ConsoleListener

        with ConsoleListener(self._console) as listener:
            yield listener
