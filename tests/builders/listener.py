"""A listener for extractions in tests."""

from tier4k.extract.pipeline.listener import Timing


class Silent:
    """Shows nothing and counts.

    Attributes:
        total: Inputs to encode, by stream.
        done: Inputs encoded so far.
        notes: Notes about weights.
        warnings: Warnings about prompts.
    """

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done = 0
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def noted(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def warned(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)

    def started(self, stream: str, total: int) -> None:
        """Keep the total of a stream."""
        self.total[stream] = total

    def advanced(self, count: int, _timing: Timing) -> None:
        """Count inputs."""
        self.done += count
