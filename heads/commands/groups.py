"""Groups of options: one parameter of a command contains several options. Every command has `--config`.

Errors of every command name the user's data in commands to copy.

The type of such a parameter is a dataclass. Typer does not support dataclasses, so `flattened` makes a
function with one parameter for each field of the dataclass, in the order of the panels of the help.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_args, get_type_hints

import typer

from tier4k.cache.errors import TierError
from tier4k.heads.commands.config_file import CONFIG, ConfigOption
from tier4k.heads.commands.other_command import with_data
from tier4k.heads.commands.panels import ORDER

CONTEXT = "context"


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the fields of its groups as parameters, and --config, for Typer.

    Args:
        command: A typed function; every parameter whose type is a dataclass is a group. A parameter `context`
            receives Typer's context.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name == CONTEXT:
            continue
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            parameters += _fields_as_parameters(hints[name])
        else:
            parameters.append(_keyword(name, hints[name], parameter.default))
    parameters.append(_keyword(CONFIG, ConfigOption, None))
    parameters.sort(key=_panel_number)
    parameters.append(_keyword(CONTEXT, typer.Context, Parameter.empty))
    needs_context = CONTEXT in hints

    def run(**values: Any) -> None:
        """Build the groups from the values of the options, and call the command."""
        del values[CONFIG]  # which has done its work
        context = values.pop(CONTEXT)
        for name, group in groups.items():
            values[name] = _build_group(group, values)
        if needs_context:
            values[CONTEXT] = context
        with _data_in_errors(context):
            command(**values)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return run


@contextmanager
def _data_in_errors(context: typer.Context) -> Iterator[None]:
    """Let errors name the user's data in commands to copy."""
    try:
        yield
    except TierError as error:
        error.args = (with_data(str(error), context), *error.args[1:])
        raise


def _panel_number(parameter: Parameter) -> int:
    """Return the place of a parameter's panel in the help; without a panel, 0."""
    _, declared = get_args(parameter.annotation)
    return ORDER.index(declared.rich_help_panel) + 1 if declared.rich_help_panel else 0


def _fields_as_parameters(group: Any) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in _fields(group):
        yield _keyword(field.name, hints[field.name], field.default)


def _keyword(
    name: str,
    annotation: Any,
    default: Any,
) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _build_group(group: Any, values: dict[str, Any]) -> Any:
    """Build a group from the values of its fields, and remove them from `values`."""
    group_values = {field.name: values.pop(field.name) for field in _fields(group)}
    return group(**group_values)


def _fields(group: Any) -> tuple["Field[Any]", ...]:
    return fields(group)
