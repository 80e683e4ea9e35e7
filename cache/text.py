"""Text of users' files and names: any Unicode encoding, names that are not UTF-8, names in messages."""

import codecs
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# The marks of UTF-32 come first: that of UTF-32-LE begins with that of UTF-16-LE.
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# Half characters other than U+DC80 to U+DCFF, in which Python keeps the bytes of names that are not UTF-8.
_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")

# Characters that a terminal obeys instead of showing them, except for ends of lines and tabs.
_CONTROL_CHARACTER = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")

LONGEST_LINE = 1400  # characters of a line of a message


def read_text(path: Path) -> str:
    """Return the text of a file: by its byte order mark UTF-8, UTF-16 or UTF-32, without a mark UTF-8.

    Ends of lines stay as in the file.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: The bytes are not in that encoding.
    """
    data = path.read_bytes()
    return data.decode(_encoding_of(data))


def shown(path: Path | str) -> str:
    r"""Return a path or a text as Unicode: bytes of a name that are not UTF-8 become `\xe9`.

    Python keeps such bytes as half characters, which no UTF-8 file and no terminal takes.
    """
    text = _HALF_CHARACTER.sub(_escaped, str(path))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    r"""Return a text without characters that a terminal obeys: the start of a colour becomes `\x1b[31m`."""
    return _CONTROL_CHARACTER.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def shortened(value: object, limit: int = 200) -> str:
    """Return a value, or the message of an error, on one line for a message; a long one is cut.

    An error without a message is shown as its type.
    """
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def without_long_lines(message: str) -> str:
    """Return a message with the middle of very long lines left out: a name from a file has any length."""
    lines = []
    for line in message.split("\n"):
        is_long = len(line) > LONGEST_LINE
        lines.append(f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 4 :]}" if is_long else line)
    return "\n".join(lines)


def first_few(items: Sequence[object], limit: int) -> str:
    """Return the first items of a message, and the number of the others: "a, b and 1,200 more"."""
    listed = ", ".join(map(str, items[:limit]))
    rest = len(items) - limit
    return f"{listed} and {rest:,} more" if rest > 0 else listed


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (nearest: …)" with up to three similar names, in any case; "" if none is similar.

    A name that differs in its case alone is the only one.
    """
    by_lower = {other.lower(): other for other in known}
    if name.lower() in by_lower:
        return f" (nearest: {by_lower[name.lower()]})"
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    if not close:
        return ""
    return f" (nearest: {', '.join(by_lower[other] for other in close)})"


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path in UTF-8 of an existing file or folder, for libraries that take no other path.

    Linux alone has other names, and there the number of the open file can stand for its name.
    """
    if shown(path) == str(path):
        yield path
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _encoding_of(data: bytes) -> str:
    """Return the name of the encoding that the byte order mark at the start of a file states, else UTF-8."""
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            return encoding
    return "utf-8"


def _escaped(half: re.Match[str]) -> str:
    return f"\\u{ord(half.group()):04x}"
