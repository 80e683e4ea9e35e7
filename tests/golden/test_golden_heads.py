"""A run that is found again has the values that this program would compute.

heads.json holds the values, `head_values` computes them, `python -m tier4k.tests.golden.record heads` records
them.
"""

from pathlib import Path

import pytest

from tier4k.heads.regressors.registry import HEADS
from tier4k.heads.results.run_format import PROTOCOL_VERSION
from tier4k.tests.golden.head_values import TOLERANCES, section_values
from tier4k.tests.golden.values import read_values, require_close

REMEDY = (
    "Runs that are found by their names hold other values than this program computes: raise PROTOCOL_VERSION "
    "and record the new values with `python -m tier4k.tests.golden.record heads`, or restore the values."
)
RECORDED = read_values("heads")


@pytest.mark.parametrize("section", TOLERANCES)
def test_values_are_those_of_the_protocols_version(section: str, tmp_path: Path) -> None:
    found = section_values(section, tmp_path / "golden")
    require_close(found, RECORDED["values"][section], TOLERANCES[section], REMEDY)


def test_values_were_recorded_with_this_version_of_the_protocol() -> None:
    assert RECORDED["protocol"] == PROTOCOL_VERSION, (
        "record the values: python -m tier4k.tests.golden.record heads"
    )


def test_every_head_has_golden_values_with_every_fusion() -> None:
    recorded = set()
    for section in ("closed forms", "trained heads", "support vectors"):
        recorded |= set(RECORDED["values"][section])
    for name in HEADS:
        assert {f"{name}, nr", f"{name}, fr", f"{name}, pr"} <= recorded
