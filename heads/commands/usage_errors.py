"""Errors about options that Typer raises: without noise, and with what was probably meant."""

import re

import typer

from tier4k.cache.text import nearest

SET = "set_option"  # the parameter of --set

_NOT_ONE_OF = re.compile(r"(?P<value>'.*') is not one of (?P<known>'.*')\.?")


def explain_usage(error: Exception) -> None:
    """Rewrite the message of an error about an option; leave other errors as they are.

    Typer exports no class for an option that does not exist: the error has the attribute `option_name`.
    """
    if isinstance(error, typer.BadParameter):
        error.message = plain_reason(error.message)
    elif name := getattr(error, "option_name", None):
        error.message += _hint_of_head(error, name)  # type: ignore[attr-defined]


def plain_reason(message: str) -> str:
    """Return why a value is not valid, with the nearest valid one."""
    reason = message.removeprefix("Value error, ")
    found = _NOT_ONE_OF.fullmatch(reason)
    if not found:
        return reason
    value, known = found["value"], re.findall(r"'([^']*)'", found["known"])
    return f"{value} is not one of {', '.join(known)}{nearest(value[1:-1], known)}."


def _hint_of_head(error: Exception, name: str) -> str:
    """Return how to set an option of heads that was passed as an option of the command."""
    context = getattr(error, "ctx", None)
    if context is None or SET not in {parameter.name for parameter in context.command.params}:
        return ""
    option = name.lstrip("-").replace("-", "_")
    if option not in _options_of_heads():
        return ""
    return f": {option} is an option of heads or of their training, so pass --set {option}=VALUE"


def _options_of_heads() -> set[str]:
    from tier4k.heads.finetuning.recipe import OPTION_TYPES
    from tier4k.heads.regressors.options import cli_name
    from tier4k.heads.regressors.registry import HEADS, head_options

    names = {cli_name(option) for head in HEADS for option in head_options(head)}
    return names | {cli_name(option) for option in OPTION_TYPES}
