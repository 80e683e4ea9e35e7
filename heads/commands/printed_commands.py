"""The command lines of fit-head that fit what a search chose."""

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

# Options that may be repeated on the command line, with what is between their values in a grid.
SEVERAL_VALUES = {"image_encoder": "+", "text_encoder": "+", "stages": None}


def fit_command(data: Sequence[Path], options: dict[str, Any]) -> str:
    """Return the command line of fit-head with these options, which are named as in a grid."""
    from tier4k.heads.regressors.options import option_text
    from tier4k.heads.sweeps.grid_values import options_of_heads

    arguments = ["tier", "fit-head", *map(str, data)]
    head_options = options_of_heads([options.get("head", "mlp")])
    for name, value in options.items():
        if name == "templates" and "templates" not in str(options.get("interaction")):
            continue  # the chosen candidate compares no image with templates
        if name in head_options:
            arguments += ["--set", f"{name}={option_text(value)}"]
        elif name in SEVERAL_VALUES:
            for part in _parts(name, value):
                arguments += [f"--{name.replace('_', '-')}", part]
        elif value != "":
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(arguments)


def _parts(name: str, value: Any) -> list[str]:
    """Return the values of an option that may be repeated; a grid writes them as one text."""
    if isinstance(value, list):
        return value
    return str(value).split(SEVERAL_VALUES[name])


def passed_options(*groups: object, **others: tuple[object, object]) -> dict[str, Any]:
    """Return the options that differ from their defaults.

    Args:
        groups: Dataclasses of options.
        others: Value and default of other options, by name.
    """
    passed: dict[str, Any] = {}
    for name, (value, default) in others.items():
        if value != default:
            passed[name] = value
    for group in groups:
        for field in fields(group):  # type: ignore[arg-type]
            if getattr(group, field.name) != field.default:
                passed[field.name] = getattr(group, field.name)
    return passed


def single_values(blocks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the options that a grid fixes; those with several distinct values are chosen by a search."""
    from tier4k.heads.sweeps.candidates import searched_options

    searched = searched_options(blocks)
    fixed = {}
    for name, value in blocks[0].items():
        if name != "target" and name not in searched:
            fixed[name] = value[0] if isinstance(value, list) else value
    return fixed
