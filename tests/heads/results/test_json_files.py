"""JSON files keep typed objects; NaN is null in them, and a value of another type is refused by its field."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tier4k.heads.results.json_files import read_json, write_json

NAN = float("nan")


@dataclass(frozen=True)
class Inner:
    pair: tuple[float, float]
    values: tuple[float, ...]
    note: str | None = None


@dataclass(frozen=True)
class Outer:
    by_name: dict[str, Inner]
    count: int


def test_objects_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = Outer({"a": Inner((0.1, 2.0), (1e-300, 1 / 3)), "b": Inner((1.0, 2.0), (), "text")}, 3)
    write_json(tmp_path / "file.json", written)
    assert read_json(tmp_path / "file.json", Outer) == written


def test_nan_comes_back_at_every_depth_and_a_missing_text_stays_none(tmp_path: Path) -> None:
    written = Outer({"a": Inner((NAN, 1.0), (2.0, NAN))}, 1)
    write_json(tmp_path / "file.json", written)
    assert "NaN" not in (tmp_path / "file.json").read_text()
    assert repr(read_json(tmp_path / "file.json", Outer)) == repr(written)  # as text, in which NaN equals NaN


def test_numbers_of_numpy_are_written_as_plain_ones(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"float": np.float64(0.5), "int": np.int64(2)})
    assert read_json(tmp_path / "file.json", dict[str, float]) == {"float": 0.5, "int": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "truncated"),
        ('{"by_name": {}, "count": "many"}', r"Expected `int`, got `str` - at `\$\.count`"),
        ('{"by_name": {}, "count": null}', r"Expected `int`, got `null` - at `\$\.count`"),
        ('{"by_name": {}}', "missing required field `count`"),
        ('{"by_name": {"a": 1}, "count": 1}', r"Expected `object`, got `int` - at `\$\.by_name"),
        ('{"by_name": {"a": {"pair": [1], "values": []}}, "count": 1}', "length 2"),
        ("[]", "Expected `object`, got `array`"),
    ],
    ids=["empty", "text", "null", "missing field", "number for object", "short pair", "array"],
)
def test_a_value_of_another_type_is_refused_by_its_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "file.json", Outer)
