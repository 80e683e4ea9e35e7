"""Write and read JSON files as typed objects. JSON has no NaN, so NaN is written as null."""

from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from msgspec import inspect

from tier4k.cache.text import read_text, shown

NAN = float("nan")

Value = TypeVar("Value")


def write_json(path: Path, value: object) -> None:
    """Write a dataclass, or plain values, as indented JSON; numbers that are not finite become null.

    Bytes of names that are not UTF-8 are shown escaped.
    """
    try:
        encoded = msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_all_shown(msgspec.to_builtins(value, enc_hook=_plain)))
    path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")


def read_json(path: Path, kind: type[Value]) -> Value:
    """Read a JSON file as an object of a type; null becomes NaN where the type is float.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not JSON, or a value has the wrong type; the message names the field, such as
            `$.head`.
        RecursionError: The file is nested too deeply.
    """
    values = msgspec.json.decode(read_text(path))
    return msgspec.convert(_with_nan(values, inspect.type_info(kind)), kind)


def _all_shown(value: object) -> object:
    """Return plain values with every text in a form that can be written."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {_all_shown(name): _all_shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_all_shown, value))
    return value


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _with_nan(value: object, kind: inspect.Type) -> object:
    """Return the value of a JSON file with NaN instead of null wherever the type is float."""
    if value is None and isinstance(kind, inspect.FloatType):
        return NAN
    if isinstance(value, dict):
        types = _types_of_fields(value, kind)
        return {name: _with_nan(item, types[name]) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item, _type_of_item(kind, number)) for number, item in enumerate(value)]
    return value


def _types_of_fields(values: dict[str, object], kind: inspect.Type) -> dict[str, inspect.Type]:
    types: dict[str, inspect.Type] = dict.fromkeys(values, inspect.AnyType())
    if isinstance(kind, inspect.DictType):
        types = dict.fromkeys(values, kind.value_type)
    elif isinstance(kind, inspect.DataclassType):
        for field in kind.fields:
            types[field.encode_name] = field.type
    return types


def _type_of_item(kind: inspect.Type, number: int) -> inspect.Type:
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return kind.item_type
    if isinstance(kind, inspect.TupleType) and number < len(kind.item_types):
        return kind.item_types[number]
    return inspect.AnyType()
