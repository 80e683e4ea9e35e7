"""Errors of functions of users."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tier4k.cache.errors import TierError
from tier4k.cache.text import shortened
from tier4k.extract.encoders.names import EncoderError
from tier4k.extract.encoders.out_of_memory import is_out_of_memory
from tier4k.extract.plugins.find import FOREIGN_ERRORS


@contextmanager
def failures_named(name: str, shape: Sequence[int]) -> Iterator[None]:
    """Name the function of a user in its errors; errors of too little memory stay as they are.

    Args:
        name: What is called, such as "the image encoder mine".
        shape: Shape of the images that it gets.

    Raises:
        EncoderError: The function fails.
    """
    try:
        yield
    except TierError:
        raise
    except FOREIGN_ERRORS as error:  # the function is a user's: it may raise anything
        if is_out_of_memory(error):
            raise
        raise EncoderError(
            f"{name} fails on images {tuple(shape)}: {type(error).__name__}: {shortened(error)}"
        ) from error
