"""Files of options (`--config`): a TOML file with a section for each command.

    [fit-head]
    data = ["Dataset"]
    image-encoder = ["clip", "efficientnet-lite0"]

The keys of a section are the long names of options without dashes in front, and the names of arguments. What
the command line has replaces what the file has.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from tier4k.cache.errors import TierError
from tier4k.cache.text import nearest, read_text
from tier4k.heads.commands.usage_errors import plain_reason

CONFIG = "config"  # the parameter of --config

HELP = "help"

TYPE_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


class ConfigError(TierError):
    """Raised when a file of options cannot be used."""


def read_defaults(context: typer.Context, path: Path | None) -> Path | None:
    """Make the options of a file the defaults of a command, before its other options are read."""
    if path is not None and not context.resilient_parsing:
        section = _Section.of(context, path)
        context.default_map = section.values(context)
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        is_eager=True,
        callback=read_defaults,
        help="TOML file of options; `tier config` prints one.",
    ),
]


@dataclass(frozen=True)
class _Section:
    """The section of a file with the options of one command.

    Attributes:
        path: The file.
        name: Name of the section.
        options: Its content.
    """

    path: Path
    name: str
    options: Mapping[str, Any]

    @classmethod
    def of(cls, context: typer.Context, path: Path) -> "_Section":
        """Return the section of a command; raise ConfigError if the file has none."""
        content = read_sections(path)
        names = section_names(context)
        group = context.find_root().command
        for depth, name in enumerate(names):
            _require_known(path, names[:depth], content, group.commands)  # type: ignore[attr-defined]
            if name not in content:
                listed = ", ".join(f"[{key}]" for key in content) or "none"
                raise ConfigError(
                    f"{path} has no section [{'.'.join(names)}] for this command: add it. Sections of the "
                    f"file: {listed}"
                )
            content = content[name]
            group = group.commands[name]  # type: ignore[attr-defined]
        return cls(path, ".".join(names), content)

    def values(self, context: typer.Context) -> dict[str, Any]:
        """Return the values of the parameters that the section has, by the name of the parameter."""
        parameters = named_parameters(context.command)
        values = {}
        for key, value in self.options.items():
            if key not in parameters:
                raise ConfigError(
                    f"{self.path}: [{self.name}] has no option {key!r}{nearest(key, parameters)}: "
                    f"use one of {', '.join(sorted(parameters))}"
                )
            parameter = parameters[key]
            values[parameter.name] = self._value(context, key, value, parameter)
        return values

    def _value(
        self,
        context: typer.Context,
        key: str,
        value: Any,
        parameter: Any,
    ) -> Any:
        """Return a value as the command line would give it, after the same checks."""
        where = f"{self.path}: [{self.name}] {key} = {_shown(value)}"
        expected = _Expected.of(context.command, parameter.name)
        if not expected.accepts(value):
            raise ConfigError(f"{where} has the wrong type: use {expected}")
        if parameter.required and value == []:
            raise ConfigError(f"{where} is empty: list one or more")
        given = expected.given(value)
        try:
            parameter.process_value(context, given)
        except typer.BadParameter as error:
            reason = plain_reason(error.message)
            raise ConfigError(f"{where} is not valid: {reason}") from error
        except TierError as error:
            raise ConfigError(f"{where} is not valid: {error}") from error
        return given


@dataclass(frozen=True)
class _Expected:
    """What a parameter takes: one value or several of a type.

    Attributes:
        type_: bool, int, float or str; paths and names are texts.
        several: Whether it takes a list.
    """

    type_: type
    several: bool

    @classmethod
    def of(cls, command: Any, name: str) -> "_Expected":
        """Return what the parameter of a command takes, by the type in the signature of its function."""
        annotation = _without_none(signature(command.callback).parameters[name].annotation)
        several = get_origin(annotation) is list
        if several:
            (annotation,) = get_args(annotation)
        return cls(annotation if annotation in TYPE_NAMES else str, several)

    def accepts(self, value: Any) -> bool:
        if self.several and isinstance(value, list):
            return all(map(self._accepts_one, value))
        return self._accepts_one(value)

    def _accepts_one(self, value: Any) -> bool:
        if isinstance(value, bool):
            return self.type_ is bool
        if self.type_ is str:
            return isinstance(value, str | int)  # such as image-size, which is a number or a name
        return isinstance(value, (int, float) if self.type_ is float else self.type_)

    def given(self, value: Any) -> Any:
        """Return a value as the command line would give it."""
        if self.several:
            return [self._one(entry) for entry in (value if isinstance(value, list) else [value])]
        return self._one(value)

    def _one(self, value: Any) -> Any:
        return str(value) if self.type_ is str else value

    def __str__(self) -> str:
        one = TYPE_NAMES[self.type_]
        return f"{one}, or a list of them" if self.several else one


def _without_none(annotation: Any) -> Any:
    """Return a type without Annotated and None; Literal is left as it is."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [member for member in get_args(annotation) if member is not NoneType]
    return str if get_origin(annotation) is Literal else annotation


def section_names(context: typer.Context) -> list[str]:
    """Return the names of the groups of a command and of the command, such as ["store", "gc"]."""
    names: list[str] = []
    current: Any = context
    while current.parent is not None:
        names.insert(0, current.command.name)
        current = current.parent
    return names


def named_parameters(command: Any) -> dict[str, Any]:
    """Return the parameters of a command by their keys in a file."""
    parameters = {}
    for parameter in command.params:
        if parameter.name not in (CONFIG, HELP):
            parameters[_key(parameter)] = parameter
    return parameters


def _key(parameter: Any) -> str:
    """Return the long name of an option without dashes in front, or the name of an argument."""
    for name in parameter.opts:
        if name.startswith("--"):
            return str(name[2:])
    return str(parameter.name).replace("_", "-")


def read_sections(path: Path) -> dict[str, Any]:
    """Return the sections of a file of options by their names.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        return tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read as a file of options ({error}): pass a TOML file such as `tier config "
            "COMMAND` prints"
        ) from error


def _require_known(
    path: Path,
    parents: Sequence[str],
    sections: Mapping[str, Any],
    commands: Mapping[str, Any],
) -> None:
    """Refuse sections of no command, and options outside of sections."""
    for name, content in sections.items():
        section = ".".join((*parents, name))
        if name in commands and isinstance(content, list):
            raise ConfigError(f"{path}: [[{section}]] is a list: write [{section}] with single brackets")
        if not isinstance(content, Mapping):
            raise ConfigError(
                f"{path}: {section} = {_shown(content)} is in no section: write it below the name of its "
                "command, such as [fit-head]"
            )
        if name not in commands:
            raise ConfigError(
                f"{path}: [{section}] is no command{nearest(name, commands)}: use one of "
                f"{', '.join(sorted(commands))}"
            )


def _shown(value: Any) -> str:
    """Return a value as it is written in TOML, for messages."""
    return json.dumps(value, ensure_ascii=False, default=str)


def config_lines(context: typer.Context) -> Iterator[str]:
    """Yield the lines of a section with the options of a command, for `--config`.

    Args:
        context: The command after its options were read.

    Raises:
        ConfigError: A text is not UTF-8, which TOML cannot hold.
    """
    yield f"[{'.'.join(section_names(context))}]"
    unset: list[str] = []
    for key, parameter in named_parameters(context.command).items():
        value = context.params.get(parameter.name)
        if value is None or value in ((), []):
            unset.append(f"# {key} = …{_default(parameter)}")
        else:
            yield f"{key} = {_toml(key, value)}"
    if unset:
        yield "# Not set:"
        yield from unset


def _default(parameter: Any) -> str:
    """Return what an option without a value stands for, if its help says it."""
    shown_default = getattr(parameter, "show_default", None)
    return f" (default: {shown_default})" if isinstance(shown_default, str) else ""


def _toml(key: str, value: Any) -> str:
    """Return a value in TOML, whose texts, numbers and lists are written as in JSON."""
    plain = [_plain(entry) for entry in value] if isinstance(value, list | tuple) else _plain(value)
    text = json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{key} = {text} is not UTF-8: pass it on the command line alone") from error
    return text


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else str(value)
