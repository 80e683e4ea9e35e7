"""Groups of options: one parameter of a command holds several options.

The type of such a parameter is a dataclass. Typer does not support that, so `flattened` shows it a function
with one parameter for each field.
"""

from collections.abc import Callable, Iterator
from dataclasses import Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def flattened(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with the fields of its groups as parameters, for `typer.Typer.command`.

    Args:
        command: A typed function; every parameter whose type is a dataclass is a group.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
            parameters += _fields_as_parameters(hints[name])
        else:
            parameters.append(_keyword(name, hints[name], parameter.default))

    def run(**values: Any) -> None:
        """Call the command with its groups."""
        for name, group in groups.items():
            values[name] = _taken(group, values)
        command(**values)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return run


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


def _taken(group: Any, values: dict[str, Any]) -> Any:
    """Build a group from its fields' values, which are removed from `values`."""
    own = {field.name: values.pop(field.name) for field in _fields(group)}
    return group(**own)


def _fields(group: Any) -> tuple["Field[Any]", ...]:
    return fields(group)
