"""Streams as users name them: the inputs of a data set that are encoded."""

from tier4k.extract.datasets.choices import STREAMS, Stream
from tier4k.extract.datasets.errors import DataError

ALL = "all"


def names_text(text: str) -> bool:
    """Return whether a list of streams names the text; "all" means the text only where there is one."""
    return text != ALL and "text" in parse_streams(text)


def parse_streams(text: str) -> tuple[Stream, ...]:
    """Return the streams of a list such as "image+image-prompt", in the order of `STREAMS`; "all" for all.

    Raises:
        DataError: A name is no stream, or is repeated.
    """
    if text == ALL:
        return STREAMS
    names = [name.strip() for name in text.split("+")]
    for name in names:
        if name not in STREAMS or names.count(name) > 1:
            problem = "is repeated" if name in STREAMS else "is no stream"
            raise DataError(
                f"streams is {text!r}, and {name!r} {problem}: use {ALL}, or some of {', '.join(STREAMS)} "
                "with + between them"
            )
    return tuple(stream for stream in STREAMS if stream in names)
