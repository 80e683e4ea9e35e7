"""The standard streams of `tier`: closed, full or broken ones, and texts that their encoding lacks.

A command never fails because of what it prints to. Output that cannot be written is dropped, the work goes
on, and at the end the exit code says so.
"""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tier4k.cache.errors import TierError
from tier4k.cache.text import shown

PLAIN_SPELLINGS = {"…": "...", "±": "+/-", "–": "-", "—": "-", "×": "x", "≥": ">=", "≤": "<=", "→": "->"}

SHOWN = "tier4k.shown"  # name of the error handler of `_plain`


class OutputError(TierError):
    """Standard output cannot be written, and its reader has not just gone away."""


def open_closed_streams() -> None:
    """Open those of the descriptors 0 to 2 that are closed on the null device, and Python's streams on them.

    Otherwise the next file that the process opens, for example a shard, would get the number of standard
    output, and everything that a library prints would go into this file.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let no write to standard output or standard error fail.

    Without a reader (`tier … | head -1`), on a full disk or on a lost terminal the output is dropped, and the
    work goes on. Characters that the encoding of a stream lacks, and bytes of names that are not UTF-8, are
    shown escaped.

    Raises:
        OutputError: The command succeeded, but standard output is incomplete, and not because its reader has
            gone away.
    """
    codecs.register_error(SHOWN, _plain)
    earlier = sys.stdout, sys.stderr
    output, errors = _Descriptor(1), _Descriptor(2)
    sys.stdout, sys.stderr = _stream(output, sys.stdout), _stream(errors, sys.stderr)
    try:
        yield
    except SystemExit as end:  # as every command ends
        if end.code:
            raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = earlier
    if output.failure and output.failure.errno != errno.EPIPE:
        raise OutputError(
            f"standard output cannot be written ({output.failure.strerror}), so a part of it is lost. "
            "The work is done; make space, or send the output elsewhere, to see it all."
        )


class _Descriptor(io.FileIO):
    """A descriptor that is turned to the null device when it cannot be written to.

    Attributes:
        failure: The first error; None if everything was written.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: object) -> int | None:  # type: ignore[override]
        """Write bytes, or drop them."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.failure = error
            self._turn_to_null_device()
            return super().write(data)  # type: ignore[arg-type]

    def _turn_to_null_device(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


def _stream(descriptor: _Descriptor, earlier: TextIO) -> TextIO:
    """Return a text stream on a descriptor with the encoding and buffering of an earlier one."""
    assert isinstance(earlier, io.TextIOWrapper)
    earlier.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=earlier.encoding,
        errors=SHOWN,
        line_buffering=earlier.line_buffering,
        write_through=earlier.write_through,
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace the characters that cannot be encoded; `codecs.register_error` states the signature."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    text = "".join(PLAIN_SPELLINGS.get(character, shown(character)) for character in characters)
    return text.encode(error.encoding, "backslashreplace").decode(error.encoding), error.end
