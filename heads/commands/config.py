"""`tier config`: print the options of a command as a file that `--config` reads."""

from typing import Annotated, Any

import typer

from tier4k.cache.text import nearest
from tier4k.heads.commands.config_file import CONFIG, config_lines
from tier4k.heads.commands.console import Console

# Everything after the name of the command belongs to it, also options.
CONTEXT = {"allow_interspersed_args": False}


def config(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND [OPTIONS]", help="A command and its options."),
    ],
) -> None:
    """Print the options of a command as a TOML file for --config."""
    chosen = _parsed(context.find_root(), command)
    console = Console()
    for line in config_lines(chosen):
        console.result(line)


def _parsed(context: Any, words: list[str]) -> typer.Context:
    """Return the context of a command after its options were read; arguments may be missing."""
    command: Any = context.command
    while hasattr(command, "commands"):
        if not words:
            raise typer.BadParameter(
                f"{command.name} is a group: pass one of {', '.join(command.commands)}", param_hint="COMMAND"
            )
        name = words[0]
        if name not in command.commands:
            raise typer.BadParameter(
                f"there is no command {name!r}{nearest(name, command.commands)}: pass one of "
                f"{', '.join(command.commands)}",
                param_hint="COMMAND",
            )
        command = command.commands[name]
        words = words[1:]
        if hasattr(command, "commands"):
            context = command.context_class(command, info_name=name, parent=context)
    if CONFIG not in [parameter.name for parameter in command.params]:
        raise typer.BadParameter(
            f"{command.name} reads no options from a file: pass another command, such as fit-head",
            param_hint="COMMAND",
        )
    for parameter in command.params:
        parameter.required = False
    return command.make_context(command.name, list(words), parent=context)
