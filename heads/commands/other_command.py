"""Commands to copy: another command with the data and the options of the one that the user ran."""

import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import typer

from tier4k.extract.encoders.choices import DEFAULT_IMAGE_ENCODER, DEFAULT_TEXT_ENCODER
from tier4k.heads.commands import panels
from tier4k.heads.commands.data_options import FEATURES

DATA = "data"  # the argument with the data sets

WEIGHTS = ("image_weights", "text_weights")  # stored features need none

_COMMAND_OF_DATA = re.compile(r"`tier ([a-z -]+?) DATA\b([^`]*)`")

_DEFAULTS = (
    f" --features {FEATURES}",
    f" --image-encoder {DEFAULT_IMAGE_ENCODER}",
    f" --text-encoder {DEFAULT_TEXT_ENCODER}",
)


def next_command(context: typer.Context, name: str) -> str:
    """Return the command that follows: the same data, and the passed options of data and features.

    Args:
        context: The command that the user ran.
        name: Name of the command that follows, such as "fit-head".
    """
    words = _words(context, name, (panels.DATA, panels.FEATURES))
    return f"next: {shlex.join(['tier', name, *words])}"


def with_data(message: str, context: typer.Context) -> str:
    """Return a message whose commands name the user's data and the passed options of data.

    Args:
        message: A message that may contain commands such as "`tier extract DATA --features DIR`".
        context: The command that the user ran.
    """
    if DATA not in context.params:
        return message
    return _COMMAND_OF_DATA.sub(lambda found: _completed(context, *found.groups()), message)


def _completed(context: typer.Context, name: str, options: str) -> str:
    words = _words(context, name, (panels.DATA,))
    for default in _DEFAULTS:
        options = re.sub(rf"{re.escape(default)}(?=\s|$)", "", options)
    return f"`{shlex.join(['tier', *name.split(), *words])}{options}`"


def _words(
    context: typer.Context,
    name: str,
    subjects: Collection[str],
) -> list[str]:
    """Return the data, and the passed options of some panels that the other command has in the same panel."""
    other = _command(context, name)
    known = {(parameter.name, _panel(parameter)) for parameter in other.params}
    words = [str(data) for data in _several(context.params[DATA])]
    for parameter in context.command.params:
        is_shared = (parameter.name, _panel(parameter)) in known and _panel(parameter) in subjects
        if is_shared and parameter.name not in WEIGHTS:
            words += _passed_words(context, parameter)
    return words


def _passed_words(context: typer.Context, parameter: Any) -> Iterator[str]:
    """Yield an option as the user passed it, also in a file of options; nothing for its default."""
    value = context.params[parameter.name]
    if value is None or str(value) == str(parameter.default):
        return
    for one in _several(value):
        yield parameter.opts[0]
        yield str(one)


def _command(context: typer.Context, name: str) -> Any:
    command: Any = context.find_root().command
    for part in name.split():
        command = command.commands[part]
    return command


def _panel(parameter: Any) -> str | None:
    return getattr(parameter, "rich_help_panel", None)


def _several(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | Path | int | float) else list(value)
