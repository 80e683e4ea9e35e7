"""README and docs show measured values only as docs/benchmarks.md has them."""

import pytest

from tier4k.benchmarks.included_values import INCLUDED, ROOT, differences, measured, with_values

SOURCE = "<!-- table: t -->\n| head | SRCC |\n|---|---|\n| `ridge` | .814 ± .026 |\n<!-- end -->\n"


def test_every_included_value_is_that_of_the_benchmarks() -> None:
    assert differences() == [], "run python benchmarks/included_values.py --write"
    assert INCLUDED.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_a_value_is_replaced_between_its_own_marks_only() -> None:
    page = "SRCC <!-- measured: t; ridge; SRCC -->.7<!-- end -->, not .7"
    assert with_values(page, SOURCE) == page.replace("->.7<", "->.814 ± .026<")


@pytest.mark.parametrize("address", [("x", "ridge", "SRCC"), ("t", "mlp", "SRCC"), ("t", "ridge", "PLCC")])
def test_a_value_that_the_benchmarks_lack_is_named(address: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="; ".join(address)):
        measured(SOURCE, *address)
