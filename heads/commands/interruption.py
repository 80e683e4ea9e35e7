"""What Ctrl-C interrupted, and what is stored."""

from collections.abc import Iterator
from contextlib import contextmanager

ANY = "the command was interrupted: run the same command again"

ENCODING = (
    "the encoding was interrupted. The images and prompts that were encoded are stored: run the "
    "same command again, and it encodes the others"
)

FIT = (
    "the fit was interrupted before all repeats had their heads, so no run was written: run the same command "
    "again, and it fits all heads"
)

TRAINING = (
    "the end-to-end training was interrupted. Finished epochs are stored: run the same command again, and it "
    "continues after the last one"
)

SWEEP = (
    "the sweep was interrupted. Its finished runs are stored: run the same command again, and it fits the "
    "others"
)


@contextmanager
def explain_interruption(text: str) -> Iterator[None]:
    """Let a KeyboardInterrupt say what was interrupted.

    Args:
        text: What was interrupted, and what is stored.

    Raises:
        KeyboardInterrupt: With the text, or with that of an inner context.
    """
    try:
        yield
    except KeyboardInterrupt as interruption:
        if interruption.args:
            raise
        raise KeyboardInterrupt(text) from None


def interruption_text(interruption: KeyboardInterrupt) -> str:
    """Return what was interrupted, as far as it is known."""
    return str(interruption) or ANY
