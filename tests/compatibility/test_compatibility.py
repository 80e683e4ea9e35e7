"""What earlier code has written is read with the same values, or refused by name; see `record.py`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tier4k.cache.errors import TierError
from tier4k.tests.compatibility.values import DATA, FORMATS, VALUES_FILE, VALUES_OF, folder_of

RECORDED = sorted(folder.name for folder in DATA.iterdir())

FORMAT_FIELDS = {"run": "*/results.json", "model": "config.json"}


def recorded(folder: Path) -> dict[str, Any]:
    return json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))


def assert_equal(values: object, expected: object) -> None:
    """Compare nested values; numbers may differ by what a sum differs on other processors."""
    if isinstance(expected, dict):
        assert isinstance(values, dict) and values.keys() == expected.keys()
        for name, item in expected.items():
            assert_equal(values[name], item)
    elif isinstance(expected, list) and expected and isinstance(expected[0], float):
        assert values == pytest.approx(expected, rel=1e-5)
    else:
        assert values == expected


@pytest.mark.parametrize("kind", FORMATS)
def test_today_s_format_is_recorded(kind: str) -> None:
    assert folder_of(kind).is_dir(), "run `python -m tier4k.tests.compatibility.record` and commit its files"


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_files_are_read_with_the_same_values_or_refused_with_the_remedy(
    name: str, tmp_path: Path
) -> None:
    kind = name.rpartition("-")[0]
    folder = tmp_path / name
    shutil.copytree(DATA / name, folder)  # a reader may write an index
    if kind == "stores" or folder_of(kind).name == name:
        assert_equal(VALUES_OF[kind](folder), recorded(folder))
    else:
        assert_refused(kind, folder)


@pytest.mark.parametrize("kind", FORMAT_FIELDS)
@pytest.mark.parametrize("step", [-1, 1])
def test_files_of_another_format_are_refused_with_the_remedy(kind: str, step: int, tmp_path: Path) -> None:
    folder = tmp_path / kind
    shutil.copytree(folder_of(kind), folder)
    for path in folder.glob(FORMAT_FIELDS[kind]):
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(content | {"format": FORMATS[kind] + step}), encoding="utf-8")
    assert_refused(kind, folder)


def assert_refused(kind: str, folder: Path) -> None:
    with pytest.raises(TierError) as refused:
        VALUES_OF[kind](folder)
    message = str(refused.value)
    assert "\n" not in message
    assert f"this version of tier4k reads format {FORMATS[kind]}" in message
    assert "fit again" in message or "fit the run again" in message
