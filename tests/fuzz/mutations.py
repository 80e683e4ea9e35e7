"""Damages of files: bytes of any file, values of structured texts, members of archives, arrays, links."""

import csv
import io
import json
import os
import pickle
import random
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CANARY = "EXECUTED"
"""The file that hostile pickles and objects would write."""

SECRET = "../outside/secret.png"
"""A file beside the project that no command may read, as seen from the project."""

NAN, INF = float("nan"), float("inf")

NUMBERS: list[Any] = [
    *(0, -1, 1, 2, 2**31, 2**32, 2**32 - 1, 2**63, 2**64, -(2**63) - 1, 10**30),
    *(0.5, 1e20, -1e20, 1e300, 1e-300, NAN, INF, -INF),
]

TEXTS = [
    *(
        "",
        " ",
        "\0",
        "nan",
        "1e999",
        "../outside/secret.png",
        "/etc/hostname",
        "..",
        ".",
        "~",
        "\ufeff",
        "a" * 300,
    ),
    *(
        "a" * 100_000,
        "é\u202e\u0000",
        "\x1b[31mred\x1b]0;title\x07",
        "a\nb\r\tc",
        "[red]",
        "{0}",
        "%s",
        "\ud800",
        "2024-01-01",
        "1,5",
        "=1+1",
        "os.system",
        "$",
    ),
    *("file:///etc/hostname", "nobody://x/y", "-o", "*", "builtins.eval", "\n\n\n", "NR", "mos", "image"),
]

VALUES: list[Any] = [*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], [None], {"": None}, [1, "a"], [NAN]]

Mutate = Callable[[bytes, random.Random], bytes]


# Bytes


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    """Change a few bits."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[_position(changed, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, chance: random.Random) -> bytes:
    """Overwrite a few bytes, often by all zeros or all ones."""
    start = _position(data, chance)
    new = chance.choice((b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", chance.randbytes(3)))
    return data[:start] + new + data[start + len(new) :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    """Cut the end off."""
    return data[: chance.choice((0, 1, len(data) // 2, max(0, len(data) - 1), _position(data, chance)))]


def splice(data: bytes, chance: random.Random) -> bytes:
    """Remove, repeat or move a part."""
    start, end = sorted((_position(data, chance), _position(data, chance)))
    kind = chance.randrange(3)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:end] + data[start:end] * chance.choice((1, 2, 20)) + data[end:]
    return data[end:] + data[start:end] + data[:start]


def replace_all(data: bytes, chance: random.Random) -> bytes:
    """Replace the whole content."""
    texts = (b"", b"\0" * 100, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"PK\x03\x04", b"{", b"null", b"[]", b"0")
    return chance.choice(
        (*texts, b"[" * 100_000, b'{"a":' * 50_000, chance.randbytes(1000), b"<html>", b"NaN")
    )


def encode_otherwise(data: bytes, chance: random.Random) -> bytes:
    """Store a text in another encoding."""
    text = data.decode("utf-8", "replace")
    code = chance.choice(("utf-16", "utf-16-be", "utf-32", "utf-8-sig", "cp037", "utf-7"))
    if chance.random() < 0.3:
        return b"\xff\xfe" + data
    return text.encode(code, "replace")


def _position(data: bytes | bytearray, chance: random.Random) -> int:
    """A position in data; most often near its begin or end, where headers are."""
    size = len(data)
    if not size:
        return 0
    where = chance.random()
    if where < 0.4:
        return chance.randrange(min(size, 512))
    if where < 0.6:
        return size - 1 - chance.randrange(min(size, 512))
    return chance.randrange(size)


BYTES: tuple[Mutate, ...] = (flip_bits, flip_bits, set_bytes, truncate, splice, replace_all)

# JSON and TOML


def change_json(data: bytes, chance: random.Random) -> bytes:
    """Change one or two values of a JSON file, or of one line of a file of JSON lines."""
    try:
        content = json.loads(data)
    except ValueError:
        lines = data.splitlines()
        number = chance.randrange(len(lines))
        lines[number] = change_json(lines[number], chance)
        return b"\n".join(lines) + b"\n"
    with _deep_recursion():
        for _ in range(chance.choice((1, 1, 1, 2))):
            content = change_value(content, chance)
        return json.dumps(content).encode()


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Let functions go through values that are nested deeper than Python's limit."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def change_value(content: Any, chance: random.Random) -> Any:
    """Return a nested value with one part of it changed."""
    places = list(_places(content))
    if not places or chance.random() < 0.03:
        return nested(chance.choice((3, 100, 900, 5000)), chance) if chance.random() < 0.3 else pick(chance)
    holder, key = chance.choice(places)
    action = chance.random()
    if action < 0.65:
        holder[key] = pick(chance)
    elif action < 0.75:
        del holder[key]
    elif action < 0.8:
        holder[key] = nested(chance.choice((3, 100, 900)), chance)
    elif action < 0.85:
        holder[key] = [holder[key]]
    elif action < 0.95 and isinstance(holder, list):
        holder.extend([holder[key]] * chance.choice((1, 3, 1000)))
    elif isinstance(holder, dict):
        holder[chance.choice(("unknown", "", "a" * 1000, "__class__", f"{key} "))] = pick(chance)
    return content


def pick(chance: random.Random) -> Any:
    """A hostile value."""
    value = chance.choice(NUMBERS if chance.random() < 0.5 else VALUES)
    return deepcopy(value)  # a second damage may change it


RAW = (
    *("1e400", "-1e400", "NaN", "Infinity", "-0", "01", "1.", "0x10", "1" + "0" * 5000, "-1" + "0" * 400),
    *('"\\ud800"', '"\\u0000"', '"\x01"', "'a'", '{"a": 1, "a": 2}', "[1,]", "// comment\n1", "True", ""),
)
"""Values that a JSON writer does not write."""


def change_json_text(data: bytes, chance: random.Random) -> bytes:
    """Write one value of a JSON text as no JSON writer does, or one key twice."""
    text = data.decode()
    values = list(re.finditer(r'(?<=[:\[,])\s*("(?:[^"\\]|\\.)*"|[\w.+-]+)(?=\s*[,\]}])', text))
    keys = list(re.finditer(r'"(?:[^"\\]|\\.)*"\s*:', text))
    if keys and (not values or chance.random() < 0.25):
        key = chance.choice(keys)
        return (text[: key.start()] + f"{key[0]} {chance.choice(RAW)}, " + text[key.start() :]).encode()
    if not values:
        return chance.choice(RAW).encode()
    value = chance.choice(values)
    return (text[: value.start()] + chance.choice(RAW) + text[value.end() :]).encode()


def nested(depth: int, chance: random.Random) -> Any:
    """Lists or objects in each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    items = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    for key, item in items:
        found.append((value, key))
        found.extend(_places(item))
    return found


def change_toml(data: bytes, chance: random.Random) -> bytes:
    """Change the value of one line `key = value`, or add lines."""
    lines = data.decode().splitlines()
    numbers = [number for number, line in enumerate(lines) if " = " in line]
    number = chance.choice(numbers)
    key, _ = lines[number].split(" = ", 1)
    action = chance.random()
    if action < 0.75:
        key = (
            key
            if chance.random() < 0.9
            else chance.choice(("unknown", '""', "a.b.c", "repeats", "seed", "epochs"))
        )
        lines[number] = f"{key} = {toml(chance)}"
    elif action < 0.85:
        lines.append(
            f"{chance.choice(('seed', 'lr', 'penalties', 'set', 'batch_size', 'hidden'))} = {toml(chance)}"
        )
    elif action < 0.9:
        lines[number] = f"{key} = " + "[" * 3000 + "]" * 3000
    else:
        lines.insert(
            number, chance.choice(("[table]", "[[array]]", "= 1", lines[number], "a.b = 1", "\\u0000"))
        )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def toml(chance: random.Random) -> str:
    """A hostile value as TOML writes it."""
    special = (
        "[1, 1, 1]",
        "[[1], [2]]",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        "{a = 1}",
        "[]",
        "true",
        "0x7fffffffffffffffff",
    )
    if chance.random() < 0.25:
        return chance.choice(special)
    value = pick(chance)
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value) if value is not None else "null"


def change_python(data: bytes, chance: random.Random) -> bytes:
    """Change a word of a text."""
    words = list(re.finditer(rb"[\w.+-]+", data))
    if not words:
        return data
    word = chance.choice(words)
    return data[: word.start()] + str(pick(chance)).encode("utf-8", "surrogatepass") + data[word.end() :]


# Tables of text


def change_csv(data: bytes, chance: random.Random) -> bytes:
    """Change cells, columns or lines of a table of text."""
    delimiter = "\t" if b"\t" in data.splitlines()[0] else ","
    rows = list(csv.reader(io.StringIO(data.decode()), delimiter=delimiter))
    action = chance.random()
    row = chance.choice(rows) if chance.random() < 0.8 else rows[0]
    column = chance.randrange(len(rows[0]))
    if action < 0.5:
        row[column] = str(pick(chance))
    elif action < 0.6:
        row.append("further") if chance.random() < 0.5 else row.pop()
    elif action < 0.7:
        rows[0][column] = rows[0][0]
    elif action < 0.75:
        rows = [line[:column] + line[column + 1 :] for line in rows]
    elif action < 0.8:
        rows.extend([rows[-1]] * chance.choice((1, 1000)))
    elif action < 0.85:
        rows = [[*line, *["0"] * 5000] for line in rows]
    elif action < 0.9:
        value = str(pick(chance))
        for line in rows[1:]:
            line[column] = value
    else:
        row[column] = '"' + row[column]
        return "\n".join(delimiter.join(line) for line in rows).encode("utf-8", "surrogatepass")
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


# Archives of zip


def change_zip(data: bytes, chance: random.Random) -> bytes:
    """Damage a member of a zip archive, or how it is stored."""
    members = _zip_members(data)
    name = chance.choice(list(members))
    action = chance.random()
    if action < 0.5:
        members[name] = _change_member(name, members[name], chance)
    elif action < 0.6:
        del members[name]
    elif action < 0.7:
        members[chance.choice(("../outside/new", "/tmp/new", name.upper(), "x" * 300))] = members[name]
    elif action < 0.8:
        return _zip(members, chance.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED)))
    elif action < 0.9:
        return _with_header(_zip(members), chance)
    else:
        return _bomb(members, name)
    return _zip(members, chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _zip_members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _change_member(name: str, data: bytes, chance: random.Random) -> bytes:
    kind = Path(name).suffix
    if kind == ".json" and chance.random() < 0.8:
        return change_json(data, chance)
    if kind == ".npy" and chance.random() < 0.8:
        return change_npy(data, chance)
    if name.endswith("sheet1.xml") and chance.random() < 0.5:
        return _change_sheet(data, chance)
    if kind in (".xml", ".rels") and chance.random() < 0.6:
        return change_python(data, chance)
    return chance.choice(BYTES)(data, chance)


def _change_sheet(data: bytes, chance: random.Random) -> bytes:
    """Put a cell far away, formulas, or wrong types into a worksheet."""
    far = chance.choice(("XFD1048576", "XFD2", "A1048576", "ZZZZ9999999", "A0", "XFD1", "ABC"))
    cell = f'<c r="{far}" t="n"><v>1</v></c>'
    row = chance.choice((1, 2, 1048576, 99999999999, 0, -1))
    kind = chance.randrange(6)
    if kind == 0:
        return data.replace(b"</sheetData>", f'<row r="{row}">{cell}</row></sheetData>'.encode())
    if kind == 1:
        return re.sub(rb'<dimension ref="[^"]*"', f'<dimension ref="A1:{far}"'.encode(), data)
    if kind == 2:
        return data.replace(b"</row>", cell.encode() + b"</row>", chance.choice((1, -1)))
    if kind == 3:
        return re.sub(
            rb"<v>[^<]*</v>",
            lambda _: f"<v>{pick(chance)}</v>".encode("utf-8", "ignore"),
            data,
            count=chance.choice((1, 3)),
        )
    if kind == 4:
        return data.replace(b' t="n"', f' t="{chance.choice("besd")}"'.encode(), chance.choice((1, -1)))
    rows = "".join(
        f'<row r="{number}">{cell.replace("1048576", str(number))}</row>' for number in range(20, 420)
    )
    return data.replace(b"</sheetData>", rows.encode() + b"</sheetData>")


def _zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _with_header(data: bytes, chance: random.Random) -> bytes:
    """Claim in the directory that a member is encrypted, or of an unknown compression or size."""
    changed = bytearray(data)
    entries = [found.start() for found in re.finditer(b"PK\x01\x02", data)]
    entry = chance.choice(entries)
    field, value = chance.choice(
        ((8, 1), (8, 0x41), (10, 99), (10, 9), (10, 97), (20, 2**31), (24, 2**31 - 1), (42, 2**30))
    )
    size = 4 if field >= 20 else 2
    changed[entry + field : entry + field + size] = value.to_bytes(size, "little")
    if field in (8, 10):
        local = int.from_bytes(data[entry + 42 : entry + 46], "little")
        changed[local + field - 2 : local + field] = value.to_bytes(2, "little")
    return bytes(changed)


def _bomb(members: Mapping[str, bytes], name: str, size: int = 3 * 2**30) -> bytes:
    """Let a member be several GiB of zeros or blanks in a few MB."""
    block = b" " * 2**20
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = deflate.compress(members[name]) + deflate.flush(zlib.Z_FULL_FLUSH)
    repeated = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)
    content = first + repeated * (size // len(block)) + deflate.flush()
    whole = len(members[name]) + size // len(block) * len(block)
    buffer = bytearray(
        _zip({name: content} | {other: data for other, data in members.items() if other != name})
    )
    for start, offset in ((buffer.find(b"PK\x03\x04"), 0), (buffer.find(b"PK\x01\x02", len(content)), 2)):
        buffer[start + 8 + offset : start + 10 + offset] = zipfile.ZIP_DEFLATED.to_bytes(2, "little")
        buffer[start + 22 + offset : start + 26 + offset] = whole.to_bytes(4, "little")
    return bytes(buffer)


# Arrays


def change_npy(data: bytes, chance: random.Random) -> bytes:
    """Change the header or the values of an array of NumPy."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:
        return flip_bits(data, chance)
    buffer = io.BytesIO()
    if chance.random() < 0.2:
        return _npy_header(data, chance)
    np.save(buffer, change_array(array, chance), allow_pickle=True)
    return buffer.getvalue()


def change_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    """Return an array of another type or shape, or with hostile values."""
    action = chance.randrange(8)
    if action == 0:
        with np.errstate(all="ignore"):
            return array.astype(chance.choice(("f2", "f8", "i1", "u8", "c8", "S3", "U3", "?", ">f4")))
    if action == 1:
        return array[..., :-1] if array.ndim and array.shape[-1] else array[None]
    if action == 2:
        return array[None] if chance.random() < 0.5 else array.reshape(-1)
    if action == 3:
        return np.array([Pickled()], dtype=object)
    if action == 4:
        return array[:0] if array.ndim else np.empty(0)
    changed = np.array(array)
    if changed.dtype.kind in "iuf" and changed.size:
        wish = (
            chance.choice((NAN, INF, 1e38, -1.0, 0.0))
            if changed.dtype.kind == "f"
            else chance.choice((0, 1, -1, 2**30))
        )
        with np.errstate(all="ignore"):
            value = np.array(wish).astype(changed.dtype)
        changed.reshape(-1)[chance.randrange(changed.size) if chance.random() < 0.5 else slice(None)] = value
        return changed
    return np.array(["a", "b"])


def _npy_header(data: bytes, chance: random.Random) -> bytes:
    shape = chance.choice(
        ("(1099511627776,)", "(3, -1)", "(2, 4611686018427387904)", "(0,)", "'a'", "(1.5,)")
    )
    kind = chance.choice(("<f4", "|O", "|V0", "<f999", "|u1"))
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data[128:]


class Pickled:
    """Writes a file if it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, (CANARY, "w"))


FORGED = (
    *(("open", "builtins"), ("eval", "builtins"), ("exec", "builtins"), ("getattr", "builtins")),
    *(("system", "os"), ("Popen", "subprocess"), ("call", "subprocess"), ("methodcaller", "operator")),
    *(("Path", "pathlib"), ("partial", "functools"), ("Own", "own_heads"), ("Pipeline", "sklearn.pipeline")),
    *(("nothing", "unknown_package"), ("", ""), ("FunctionTransformer", "sklearn.preprocessing")),
    *(("load", "joblib"), ("loads", "pickle"), ("RidgeHead", "tier4k.heads.regressors.ridge")),
)
"""Names of types, with their modules, that a file of an estimator may claim for an object."""

LOADERS = tuple(
    f"{name}Node"
    for name in (
        *("Object", "Type", "Function", "Method", "Partial", "OperatorFunc", "Reduce", "Dict", "List"),
        *("Json", "Bytes", "NdArray", "Cached", "RandomState", "None"),
    )
)
"""How skops makes an object; the last one does not exist."""


def change_skops(data: bytes, chance: random.Random) -> bytes:
    """Claim other types in a file of an estimator, such as a function that would write the canary."""
    members = _zip_members(data)
    schema = json.loads(members["schema.json"])
    nodes = [value for value in _values(schema) if isinstance(value, dict) and "__class__" in value]
    node = chance.choice(nodes)
    action = chance.random()
    if action < 0.35:
        node["__class__"], node["__module__"] = chance.choice(FORGED)
    elif action < 0.7:
        node.clear()
        node.update(_called(chance))
    elif action < 0.8:
        node["__loader__"] = chance.choice(LOADERS)
    elif action < 0.9:
        key = chance.choice(list(node))
        node[key] = pick(chance)
    else:
        node["content"] = chance.choice([{"__id__": node.get("__id__")}, [], SECRET, deepcopy(node)])
    members["schema.json"] = json.dumps(schema).encode()
    return _zip(members)


def _values(content: Any) -> list[Any]:
    return [content, *(holder[key] for holder, key in _places(content))]


def _called(chance: random.Random) -> dict[str, Any]:
    """An object of skops that is made by calling `open`, to write the canary."""
    name, mode = ({"__loader__": "JsonNode", "content": json.dumps(text)} for text in (CANARY, "w"))
    for each in (name, mode):
        each |= {"__class__": "str", "__module__": "builtins", "is_json": True, "__id__": 7}
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "__id__": 8}
    arguments["content"] = [name, mode]
    function = {"__class__": "open", "__module__": "builtins", "__loader__": "FunctionNode", "__id__": 9}
    function["content"] = {"function": "open", "module_path": chance.choice(("builtins", "io"))}
    empty = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "__id__": 10}
    keys = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": []}
    empty |= {"content": {}, "key_types": keys}
    kinds = {"Reduce": "reduce", "Partial": "partial", "Method": "method", "Object": "open"}
    loader, kind = chance.choice(list(kinds.items()))
    content = {"func": function, "args": arguments, "kwds": empty, "namespace": empty, "function": function}
    module = "functools" if kind == "partial" else "builtins"
    made = {"__class__": kind, "__module__": module, "__loader__": f"{loader}Node", "__id__": 11}
    return made | {"content": content, "reduce": arguments, "constructor": function}


def change_safetensors(data: bytes, chance: random.Random) -> bytes:
    """Change the header or the values of safetensors."""
    size = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + size], data[8 + size :]
    action = chance.random()
    if action < 0.45:
        header = change_json(header, chance)
    elif action < 0.55:
        content = json.loads(header)
        name = chance.choice([key for key in content if key != "__metadata__"])
        content[f"{name}.copy"] = content.pop(name)
        header = json.dumps(content).encode()
    elif action < 0.65:
        content = json.loads(header)
        for about in content.values():
            if isinstance(about, dict) and about.get("dtype") == "F32":
                about["dtype"] = chance.choice(("I32", "U32", "F8_E4M3", "BOOL", "x"))
        header = json.dumps(content).encode()
    else:
        value = chance.choice((NAN, INF, 3e38, 0.0, -1.0))
        number = chance.randrange(max(1, len(values) // 4)) if chance.random() < 0.5 else None
        floats = np.frombuffer(values[: len(values) // 4 * 4], "<f4").copy()
        floats[slice(None) if number is None else number] = value
        values = floats.tobytes() + values[len(values) // 4 * 4 :]
    return len(header).to_bytes(8, "little") + header + values


def change_checkpoint(data: bytes, chance: random.Random) -> bytes:
    """Change a state dict of PyTorch: its tensors, its nesting, or what it unpickles to."""
    import torch

    state = torch.load(io.BytesIO(data), weights_only=True)
    name = chance.choice(list(state))
    action = chance.randrange(9)
    if action == 0:
        state[name] = Pickled()
    elif action == 1:
        state[name] = torch.tensor([1.0]).expand(2**20, 2**20)
    elif action == 2:
        state[name] = torch.full_like(
            state[name], chance.choice((1, 0)) if not state[name].is_floating_point() else NAN
        )
    elif action == 3:
        state[name] = pick(chance)
    elif action == 4:
        state[chance.choice((1, "", None, f"{name}.x", ("a",)))] = state.pop(name)
    elif action == 5:
        state = chance.choice(
            (
                {"state_dict": state},
                {"model": {"module": state}},
                [state],
                {},
                state[name],
                3,
                {"a": state, "b": state},
            )
        )
    elif action == 6:
        state[name] = chance.choice(
            (
                state[name].to(torch.complex64),
                state[name].to_sparse(),
                state[name][None],
                state[name].double(),
            )
        )
    elif action == 7:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    else:
        state = Pickled()
    buffer = io.BytesIO()
    if chance.random() < 0.15:
        return pickle.dumps({"a": Pickled()})
    torch.save(state, buffer)
    return buffer.getvalue()


def change_arrow(data: bytes, chance: random.Random) -> bytes:
    """Change a column of a Parquet file, an Arrow stream or an Arrow file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = data.startswith(b"PAR1")
    stream = not data.startswith(b"ARROW1")
    if parquet:
        table = pq.read_table(io.BytesIO(data))
    else:
        table = (pa.ipc.open_stream if stream else pa.ipc.open_file)(io.BytesIO(data)).read_all()
    column = chance.randrange(table.num_columns)
    rows, name = table.num_rows, table.column_names[column]
    nulls = [pa.nulls(rows), pa.nulls(rows, pa.string())]
    numbers = [pa.array([pick_number(chance)] * rows), pa.array([2**63 - 1] * rows), pa.array([True] * rows)]
    nests = [pa.array([[1, 2]] * rows), pa.array([{"bytes": b"x", "path": "../outside/secret.png"}] * rows)]
    texts = [
        pa.array([chance.choice(TEXTS).encode("utf-8", "replace").decode()] * rows),
        pa.array([b"\xff\xfe"] * rows),
    ]
    types = [pa.array([0] * rows, pa.timestamp("ns")), pa.array(["a"] * rows).dictionary_encode()]
    action = chance.random()
    if action < 0.7:
        table = table.set_column(column, name, chance.choice([*nulls, *numbers, *nests, *texts, *types]))
    elif action < 0.8:
        table = table.drop_columns([name])
    elif action < 0.9:
        table = table.rename_columns(
            [
                *table.column_names[:column],
                chance.choice(("", "mos", "image", "prompt")),
                *table.column_names[column + 1 :],
            ]
        )
    else:
        table = chance.choice((table.slice(0, 0), pa.concat_tables([table] * 50)))
    buffer = io.BytesIO()
    if parquet:
        table = table.replace_schema_metadata(
            dict.fromkeys(table.schema.metadata or {}, b"{}")
            if chance.random() < 0.1
            else table.schema.metadata
        )
        pq.write_table(table, buffer)
    else:
        with (pa.ipc.new_stream if stream else pa.ipc.new_file)(buffer, table.schema) as writer:
            writer.write_table(table)
    return buffer.getvalue()


def pick_number(chance: random.Random) -> float:
    """A hostile number."""
    return float(chance.choice(NUMBERS))


def change_mat(data: bytes, chance: random.Random) -> bytes:
    """Store other arrays in a file of MATLAB."""
    import scipy.io

    name = next(key for key in scipy.io.loadmat(io.BytesIO(data)) if not key.startswith("__"))
    array = scipy.io.loadmat(io.BytesIO(data))[name]
    others: list[Any] = [
        array[:-1],
        array.T,
        array[:, None],
        "text",
        np.empty((0, 0)),
        {"a": 1},
        array * 1j,
        array * NAN,
    ]
    others += [
        np.array(["a", 1, [2]], dtype=object),
        np.where(array > 30, INF, array),
        array.astype(int),
        array > 5,
        3,
    ]
    buffer = io.BytesIO()
    names = {name: chance.choice(others)} if chance.random() < 0.8 else {name: array, "second": array}
    scipy.io.savemat(
        buffer, names if chance.random() < 0.9 else {"other": array}, do_compression=chance.random() < 0.5
    )
    return buffer.getvalue()


def change_hdf5(data: bytes, chance: random.Random) -> bytes:
    """Change a data set or an attribute of an HDF5 file; often with checksums that fit the new values."""
    import h5py

    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        action = chance.random()
        name = chance.choice(list(file))
        attribute = chance.choice(list(file.attrs)) if len(file.attrs) else None
        if action < 0.25 and attribute:
            file.attrs[attribute] = chance.choice(
                ("x", 1, -1, 2**62, NAN, np.zeros(3), b"\xff", "é" * 100, "")
            )
        elif action < 0.3 and attribute:
            del file.attrs[attribute]
        elif action < 0.6:
            values = file[name][()]
            del file[name]
            file[name] = _storable(change_array(values, chance))
        elif action < 0.7:
            del file[name]
            shape = chance.choice(((2**40,), (2**30, 32), (2**20, 2**20), (0, 32), (0,)))
            file.create_dataset(name, shape, "f4", chunks=True if 0 not in shape else None)
        elif action < 0.75:
            del file[name]
            file[name] = h5py.ExternalLink("../outside/secret.h5", "keys")
        elif action < 0.8:
            del file[name]
            file.create_group(name)
        else:
            values = file["features"][()]
            values.reshape(-1)[chance.randrange(values.size)] = chance.choice((NAN, INF, -INF, 3e38))
            file["features"][...] = values
        if action > 0.3:
            _repair_checksum(file)
    return buffer.getvalue()


def _storable(array: np.ndarray) -> Any:
    return "text" if array.dtype.kind in "OU" else array


def _repair_checksum(file: Any) -> None:
    from tier4k.cache.shard_content import checksum, row_checks

    try:
        features, keys = file["features"][()], file["keys"][()]
        checks = row_checks(features)
        file["row_checks"][...] = checks
        file.attrs["checksum"] = checksum(features.shape, features.dtype, [keys], [checks])
    except Exception:
        return


def change_tar(data: bytes, chance: random.Random) -> bytes:
    """Change the names, types, sizes or contents of the members of a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(about, archive.extractfile(about).read()) for about in archive if about.isfile()]  # type: ignore[union-attr]
    about, _ = chance.choice(members)
    action = chance.random()
    names = (
        "../outside/x.png",
        "/etc/hostname",
        "a\n.png",
        "\udcff.png",
        "x" * 300 + ".png",
        ".",
        "a.png/",
        "a.b.c.png",
    )
    if action < 0.25:
        about.name = chance.choice((*names, members[0][0].name))
    elif action < 0.45:
        about.type = chance.choice(
            (
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.DIRTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                b"Z",
                tarfile.GNUTYPE_SPARSE,
            )
        )
        about.linkname = chance.choice(("../outside/secret.png", "/etc/hostname", members[0][0].name))
    elif action < 0.6:
        about.pax_headers = {
            chance.choice(("size", "path", "GNU.sparse.map", "mtime")): str(pick(chance))
            .encode("utf-8", "ignore")
            .decode()
        }
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    ) as archive:
        for each, own in members:
            own = chance.choice(BYTES)(own, chance) if each is about and action > 0.6 else own
            each.size = len(own)
            archive.addfile(each, io.BytesIO(own))
    return buffer.getvalue()


def change_image(data: bytes, chance: random.Random) -> bytes:
    """State a huge size in the header of a PNG, or damage an image in other ways."""
    if data.startswith(b"\x89PNG") and chance.random() < 0.5:
        side = chance.choice((0, 1, 65535, 2**31 - 1, 40_000))
        header = b"IHDR" + struct.pack(">II", side, chance.choice((side, 1, 0))) + data[24:29]
        header = header[:12] + bytes((chance.choice((1, 8, 16)), chance.choice((0, 2, 3, 6)))) + header[14:]
        return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    if chance.random() < 0.3:
        return chance.choice((data + _zip({"a.txt": b"a"}), b"GIF89a" + data, *_other_images(data), data * 2))
    return chance.choice(BYTES)(data, chance)


def _other_images(data: bytes) -> list[bytes]:
    """Texts and data that other programs take for images."""
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>'
    pixels = b"P6\n100000 100000\n255\n"
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(EXECUTED) (w) file closefile\n"
    return [drawing, pixels, script, data[:30] + drawing, b"\xff\xd8\xff\xe0" + data]


# Paths


@dataclass(frozen=True)
class Replacement:
    """What stands at the path of a file instead of the file.

    Attributes:
        link: Target of a symbolic link; "" for none.
        folder: Whether it is a folder.
    """

    link: str = ""
    folder: bool = False


REPLACEMENTS = (
    *(Replacement(), Replacement(folder=True), Replacement("missing"), Replacement("."), Replacement("..")),
    *(Replacement("/etc/hostname"), Replacement("/dev/null"), Replacement("itself")),
)
"""Nothing, a folder, and links; `itself` becomes a loop."""

OUTSIDE_LINK = Replacement("outside")
"""A link to the file that no command may read, for folders out of which no link may be followed."""


def place(path: Path, content: "bytes | Replacement") -> None:
    """Put other content, or something else, at the path of a file."""
    path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content.folder:
        path.mkdir()
    elif content.link:
        special = {"itself": path.name, "outside": os.path.abspath(_project_of(path) / SECRET)}
        path.symlink_to(special.get(content.link, content.link))


def _project_of(path: Path) -> Path:
    return next(folder for folder in path.parents if (folder / SECRET).exists())


BY_SUFFIX: Mapping[str, tuple[Mutate, ...]] = {
    ".json": (change_json, change_json, change_json_text),
    ".jsonl": (change_json, change_json_text),
    ".toml": (change_toml,),
    ".csv": (change_csv,),
    ".tsv": (change_csv,),
    ".txt": (change_python,),
    ".xlsx": (change_zip,),
    ".npz": (change_zip,),
    ".npy": (change_npy,),
    ".skops": (change_skops, change_skops, change_zip),
    ".pth": (change_checkpoint, change_checkpoint, change_zip),
    ".safetensors": (change_safetensors,),
    ".parquet": (change_arrow,),
    ".arrow": (change_arrow,),
    ".mat": (change_mat,),
    ".h5": (change_hdf5,),
    ".tar": (change_tar,),
    ".png": (change_image,),
    ".jpg": (change_image,),
    ".webp": (change_image,),
    ".gif": (change_image,),
}
"""Damages that keep the form of a file, by its suffix."""

TEXT_SUFFIXES = frozenset((".json", ".jsonl", ".toml", ".csv", ".tsv", ".txt"))


def mutate(
    path: Path,
    data: bytes,
    chance: random.Random,
    is_closed: bool = False,
) -> tuple[str, bytes | Replacement]:
    """Return the name of a damage, and the damaged content of a file or what replaces the file.

    Args:
        path: The file.
        data: Its content.
        chance: Decides the damage.
        is_closed: Whether a link out of the file's folder must not be followed.
    """
    if chance.random() < 0.03:
        return "replace", chance.choice((*REPLACEMENTS, *[OUTSIDE_LINK] * 4 * is_closed))
    own = BY_SUFFIX.get(path.suffix, ())
    damages: tuple[Mutate, ...] = BYTES
    if own and chance.random() < 0.75:
        damages = own
    elif path.suffix in TEXT_SUFFIXES and chance.random() < 0.3:
        damages = (encode_otherwise, change_python)
    damage = chance.choice(damages)
    return damage.__name__, damage(data, chance)
