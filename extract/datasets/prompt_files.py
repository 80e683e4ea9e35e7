"""The text file with the prompt of an image, which has the name of the image and the suffix .txt."""

from pathlib import Path

from tier4k.cache.text import read_text
from tier4k.extract.datasets.errors import DataError

PROMPT_SUFFIX = ".txt"


class NoPromptError(DataError):
    """An image has no prompt. The message is the reason."""


def prompt_file(image: Path) -> Path:
    """Return the path of the prompt of an image, whether or not it exists."""
    return image.with_suffix(PROMPT_SUFFIX)


def prompt_beside(image: Path) -> str:
    """Return the prompt in the file beside an image.

    Raises:
        NoPromptError: There is no such file, or no text in it.
    """
    path = prompt_file(image)
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise NoPromptError(f"there is no prompt file {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise NoPromptError(f"the prompt file {path.name} cannot be read ({reason})") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise NoPromptError(f"the prompt file {path.name} is empty")
    return text
